/** `block 7`, `blocks 7, 9 to 12, ... (131 in all)` */
export function blocksText(blocks: readonly (readonly [number, number])[], pages: number): string {
  const runs = blocks.map(([first, last]) => (first === last ? String(first) : `${first} to ${last}`))
  const listed = blocks.reduce((sum, [first, last]) => sum + last - first + 1, 0)
  const rest = listed < pages ? `, ... (${pages} in all)` : ''
  return `${pages === 1 ? 'block' : 'blocks'} ${runs.join(', ')}${rest}`
}

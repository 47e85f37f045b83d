/** What hooks and notices are told of: what changes something, or says whether it is sound. Never PostgreSQL's own hooks. */
export const OPERATIONS = [
  'backup',
  'restore',
  'retention',
  'verify',
  'copy',
  'consolidate',
  'key rotate',
  'catalog rebuild',
] as const

/** Looks at the state of things, often and to no end: told only where they are asked for by name. */
export const LOOKS = ['check', 'status'] as const

export type Operation = (typeof OPERATIONS)[number] | (typeof LOOKS)[number]

/** Whether hooks and notices may be told of a command. A dry run does nothing that they could be told of. */
export function isOperation(command: string, options: Record<string, unknown>): command is Operation {
  return [...OPERATIONS, ...LOOKS].some((name) => name === command) && options.dryRun !== true
}

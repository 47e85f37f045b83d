/** Things by their places, `from` to `to`, the latter not included. */
export interface Part {
  from: number
  to: number
}

/**
 * Which of many things a look reads anew, as it believes what the catalog says of the others. The parts come one after the other,
 * so after as many looks as there are parts each has had its turn.
 * @param count how many things there are
 * @param size how many of them a part has, at most
 * @param turn how many looks there were before
 */
export function partInTurn(count: number, size: number, turn: number): Part {
  const parts = Math.max(1, Math.ceil(count / size))
  const from = (turn % parts) * size
  return { from, to: Math.min(count, from + size) }
}

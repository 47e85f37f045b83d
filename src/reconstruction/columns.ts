/** Facts of many things, a typed array for each kind of fact. */
export type Columns = Record<string, Float64Array | Int32Array | Uint32Array | Uint16Array>

/** The room that columns are made with. */
export const FIRST_ROOM = 1024
const SUM_BYTES = 32

/** The columns, or a copy of them with twice the room where there is none for one more. */
export function withRoom<Kinds extends Columns>(columns: Kinds, count: number): Kinds {
  const [any] = Object.values(columns)
  return any && count === any.length ? grown(columns) : columns
}

function grown<Kinds extends Columns>(columns: Kinds): Kinds {
  const larger = Object.entries(columns).map(([name, column]) => {
    const Kind = column.constructor as new (length: number) => typeof column
    const copy = new Kind(column.length * 2)
    copy.set(column)
    return [name, copy]
  })
  return Object.fromEntries(larger) as Kinds
}

/** SHA-256 sums, which as text would take four times the memory. */
export class SumColumn {
  #bytes = Buffer.alloc(FIRST_ROOM * SUM_BYTES)

  /** @param sha256 hexadecimal */
  set(number: number, sha256: string): void {
    const at = number * SUM_BYTES
    if (at >= this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(this.#bytes.length)])
    this.#bytes.write(sha256, at, SUM_BYTES, 'hex')
  }

  get(number: number): string {
    return this.#bytes.toString('hex', number * SUM_BYTES, (number + 1) * SUM_BYTES)
  }
}

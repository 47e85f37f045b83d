import { readFileSync } from 'node:fs'
import { type DataFiles, dataFilesOf } from './data-files.ts'

const PAGE = 8192
const MAGIC = 0xd3ae1f0d
const PREFIX = 'INCREMENTAL.'

/** The plainest possible reading of a chain of unpacked backups, to compare others with. All in memory. */
export class Combined {
  readonly #links: DataFiles[]

  /** @param folders oldest first; the first one is a full backup */
  constructor(folders: readonly string[]) {
    this.#links = folders.map((folder) => dataFilesOf(folder))
  }

  /** Those of the last link, by their own names. */
  paths(): string[] {
    return [...this.#links.at(-1)!.keys()].map((path) => path.replace(PREFIX, ''))
  }

  /** The bytes of a file as of the last link, or of an earlier one. @throws when no link has it whole */
  read(path: string, link = this.#links.length - 1): Buffer {
    const whole = this.#links[link]?.get(path)
    if (whole) return readFileSync(whole)
    const at = path.lastIndexOf('/') + 1
    const place = this.#links[link]?.get(`${path.slice(0, at)}${PREFIX}${path.slice(at)}`)
    if (!place) throw new Error(`link ${link} has nothing of ${path}`)
    const bytes = readFileSync(place)
    const [magic, count, truncation] = [0, 4, 8].map((offset) => bytes.readUInt32LE(offset))
    if (magic !== MAGIC) throw new Error(`${place} does not begin as an incremental file does`)
    const numbers = Array.from({ length: count! }, (_, n) => bytes.readUInt32LE(12 + 4 * n))
    const header = count === 0 ? 12 : Math.ceil((12 + 4 * count!) / PAGE) * PAGE
    if (bytes.length !== header + count! * PAGE) throw new Error(`${place} has ${bytes.length} bytes`)
    const content = Buffer.alloc(Math.max(truncation!, ...numbers.map((number) => number + 1)) * PAGE)
    this.read(path, link - 1).copy(content, 0, 0, truncation! * PAGE)
    numbers.forEach((number, n) => {
      bytes.copy(content, number * PAGE, header + n * PAGE, header + (n + 1) * PAGE)
    })
    return content
  }
}

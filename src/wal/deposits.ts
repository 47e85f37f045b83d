import type { Repository } from '../catalog/repository.ts'
import type { WalFile } from '../postgres/wal-file.ts'
import { OPTIONAL_PATIENCE_MS } from './every-repository.ts'
import { type DepositOptions, ReceivedDeposit } from './received-deposit.ts'
import { asideFolder, listAside, listReceived, removeAside, removeReceived } from './received-files.ts'

/** The folder, and the one for what was set aside in it. */
type Place = 'received' | 'aside'

/** What one repository has of the folder, and of what was set aside in it. */
export class Deposits {
  readonly repository: Repository
  readonly #directory: string
  readonly #places: Record<Place, ReceivedDeposit>
  #troubleSince: number | undefined
  readonly #missed = new Set<string>()

  constructor(options: DepositOptions) {
    this.repository = options.repository
    this.#directory = options.directory
    this.#places = {
      received: new ReceivedDeposit(options),
      aside: new ReceivedDeposit({ ...options, directory: asideFolder(options.directory) }),
    }
  }

  /** What was set aside came before what lies in the folder now. @throws PgrecallError as `pushWalFile` */
  async store(options: { all: boolean; signal: AbortSignal }): Promise<void> {
    const { received, aside } = this.#places
    await received.storeHistories(await listReceived(this.#directory), options.signal)
    await aside.store(await listAside(this.#directory), options)
    await received.store(await listReceived(this.#directory), options)
  }

  get isInTrouble(): boolean {
    return this.#troubleSince !== undefined
  }

  /** It could not be written. */
  beginTrouble(): void {
    this.#troubleSince ??= performance.now()
  }

  /** It was written. @returns how many files it lacks that are not in the folder any more */
  endTrouble(): number {
    const missed = this.#missed.size
    this.#troubleSince = undefined
    this.#missed.clear()
    return missed
  }

  /** Whether a file may leave the folder for all that this repository knows. */
  async isDoneWith(place: Place, file: WalFile): Promise<boolean> {
    return this.#mayMiss || (await this.#places[place].has(file))
  }

  /** The folder does not grow for the sake of an optional repository that cannot be written for a while. */
  get #mayMiss(): boolean {
    const since = this.#troubleSince
    return (
      !this.repository.required && since !== undefined && performance.now() - since > OPTIONAL_PATIENCE_MS
    )
  }

  /** Files are about to leave the folder. */
  async noteMissed(place: Place, files: readonly WalFile[]): Promise<void> {
    for (const file of files) if (!(await this.#places[place].has(file))) this.#missed.add(file.name)
  }
}

/**
 * Removes what every repository has. Up to 14, `pg_receivewal` knows only from its newest file where to go on; and it asks
 * for a history that is gone.
 */
export async function removeStored(directory: string, deposits: readonly Deposits[]): Promise<void> {
  const { histories, segments } = await listReceived(directory)
  const newestWhole = segments.findLast(({ kind }) => kind === 'segment')
  const kept = [histories.at(-1), segments.at(-1), newestWhole]
  const removable = [...histories, ...segments].filter((file) => !kept.includes(file))
  await removeReceived(directory, await takeLeave('received', removable, deposits))
  const { segments: aside } = await listAside(directory)
  if (aside.length > 0) await removeAside(directory, await takeLeave('aside', aside, deposits))
}

/** @returns the names of those that nobody needs any more */
async function takeLeave(
  place: Place,
  files: readonly WalFile[],
  deposits: readonly Deposits[],
): Promise<string[]> {
  const done: WalFile[] = []
  for (const file of files) {
    const answers = await Promise.all(deposits.map((deposit) => deposit.isDoneWith(place, file)))
    if (answers.every(Boolean)) done.push(file)
  }
  for (const deposit of deposits) await deposit.noteMissed(place, done)
  return done.map(({ name }) => name)
}

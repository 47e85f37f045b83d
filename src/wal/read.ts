import type { Opener } from '../archive/age.ts'
import { readIdentity } from '../catalog/identity.ts'
import { receivingKey, type WalForm, walKey, walPrefix } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { readStoredHistory } from '../catalog/stored-history.ts'
import { walForms, walObjectOf } from '../catalog/wal-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { lsn } from '../postgres/lsn.ts'
import { numberOf, parseWalFile, segmentNumber, timelineName, type WalFile } from '../postgres/wal-file.ts'
import { describeSegmentMismatch } from '../postgres/wal-page.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { decodeWalFile } from './stored-file.ts'

/** Later WAL of a timeline is stored, and this segment is not. */
export class ArchiveHole extends PgrecallError {
  constructor(message: string, options: { hint: string }) {
    super('damaged', message, options)
  }
}

export interface ReadOptions {
  /** Leaves out the segment that `wal-receive` is receiving: it is not to be kept, since there is more of it soon. */
  wholeOnly?: boolean
}

/**
 * One file out of the archive, decrypted where it is encrypted, and checked: its SHA-256, and that a segment is the one that its name says. Where WAL is
 * received as it is written, the last segment comes as far as it is stored, with zeros behind: PostgreSQL replays it
 * up to there.
 * @returns undefined when it is certain that the repository does not have it
 * @throws PgrecallError `repository` when there is no answer, `key` when it is encrypted and no key of this host fits,
 *   `damaged` when the bytes are wrong or when the archive has a hole where the segment must be
 */
export async function readArchivedFile(
  repository: Repository,
  cluster: string,
  name: string,
  signal?: AbortSignal,
  { wholeOnly = false }: ReadOptions = {},
): Promise<Buffer | undefined> {
  const file = parseWalFile(name)
  if (!file) throw new PgrecallError('usage', `"${name}" is not the name of a WAL file`)
  const readWhole = () => readEither(repository, (form) => walKey(cluster, name, form), file, signal)
  const plain = await readWhole()
  if (plain) return plain
  await requireCertainAbsence(repository, cluster, file)
  if (wholeOnly || file.kind !== 'segment') return undefined
  const readBeginning = () =>
    readEither(repository, (form) => receivingKey(cluster, name, form), file, signal)
  // It is removed once the whole one is stored: perhaps just now.
  return (await readBeginning()) ?? readWhole()
}

/** Whichever form is there, the one that the repository is configured for first. */
async function readEither(
  repository: Repository,
  keyOf: (form: WalForm) => string,
  file: WalFile,
  signal: AbortSignal | undefined,
): Promise<Buffer | undefined> {
  for (const form of walForms(repository)) {
    const plain = await readChecked(repository, keyOf(form), form, file, signal)
    if (plain) return plain
  }
  return undefined
}

async function readChecked(
  { storage, keys }: Repository,
  key: string,
  form: WalForm,
  file: WalFile,
  signal: AbortSignal | undefined,
): Promise<Buffer | undefined> {
  const object = await readObject(storage, key, { limit: 2 ** 31 - 1, ...(signal && { signal }) })
  if (!object) return undefined
  const content =
    form === 'sealed' ? await openChecked(object, keys.opener, `${storage.location}/${key}`) : object
  const plain = decodeChecked(content, storage, key)
  const mismatch =
    file.kind === 'segment' || file.kind === 'partial' ? describeSegmentMismatch(file, plain) : undefined
  if (mismatch) {
    throw new PgrecallError(
      'damaged',
      `${storage.location}/${key} is not the WAL that its name says: ${mismatch}`,
    )
  }
  return plain
}

/** Says of which object it is that it cannot be read. */
async function openChecked(object: Buffer, opener: Opener, place: string): Promise<Buffer> {
  try {
    return await opener.openWhole(object)
  } catch (error) {
    if (!(error instanceof PgrecallError)) throw error
    throw new PgrecallError(error.kind, `${place} cannot be read: ${error.message}`, {
      ...(error.hint && { hint: error.hint }),
      cause: error,
    })
  }
}

function decodeChecked(object: Buffer, storage: Storage, key: string): Buffer {
  try {
    return decodeWalFile(object)
  } catch (error) {
    throw new PgrecallError('damaged', `${storage.location}/${key} is damaged: ${reasonOf(error)}`, {
      hint: 'take the segment from another repository or another copy; without it, recovery ends before it',
      cause: error,
    })
  }
}

/**
 * "Not there" ends a recovery, so it must be true: an unmounted folder, a mistyped name or a hole in the archive
 * look the same as the end of the WAL, and are not.
 */
async function requireCertainAbsence(
  { name: repositoryName, storage }: Repository,
  cluster: string,
  file: WalFile,
): Promise<void> {
  const identity = await readIdentity(storage, cluster)
  if (!identity) {
    throw new PgrecallError(
      'repository',
      `repository "${repositoryName}" at ${storage.location} holds nothing of cluster "${cluster}"`,
      { hint: 'is the folder mounted, and are path and cluster name those that the backups were made with?' },
    )
  }
  if (file.kind === 'history' && (await hasSegments(storage, cluster, file))) {
    throw new PgrecallError(
      'damaged',
      `the archive in repository "${repositoryName}" has WAL of timeline ${file.timeline}, but ${file.name} is missing`,
      { hint: 'take the file from another repository or from the pg_wal of a server on that timeline' },
    )
  }
  if (file.kind === 'segment' && (await isInHole(storage, cluster, file, identity.walSegmentBytes))) {
    throw new ArchiveHole(
      `the archive in repository "${repositoryName}" has a hole: ${file.name} is missing, later segments of its timeline are there`,
      { hint: 'take the segment from another repository, or restore to a moment before it' },
    )
  }
}

/** PostgreSQL archives a history before the WAL of its timeline; without it, recovery would stay on the old one. */
async function hasSegments(storage: Storage, cluster: string, file: WalFile): Promise<boolean> {
  if (file.timeline === 1) return false
  return (await firstSegmentKey(storage, cluster, file.timeline)) !== undefined
}

/**
 * Whether a segment is missing that must be there: the timeline has segments after it, and it has some before it or
 * began with this one. WAL from before a timeline's beginning is asked for too, and is in the timeline before it.
 */
async function isInHole(
  storage: Storage,
  cluster: string,
  file: Extract<WalFile, { kind: 'segment' }>,
  segmentBytes: number,
): Promise<boolean> {
  const key = walKey(cluster, file.name, 'sealed')
  if (!(await firstSegmentKey(storage, cluster, file.timeline, key))) return false
  const first = await firstSegmentKey(storage, cluster, file.timeline)
  if (first !== undefined && first < key) return true
  const history = await readStoredHistory(storage, cluster, file.timeline)
  const parent = history?.ancestors?.at(-1)
  // The first timeline began before anything that can be asked for: retention removed it, or it never arrived.
  if (!parent) return true
  return numberOf(file, segmentBytes) >= segmentNumber(lsn(parent.switchedAt), segmentBytes)
}

/** The first stored segment of a timeline, whole or as far as it was received. */
async function firstSegmentKey(
  storage: Storage,
  cluster: string,
  timeline: number,
  startAfter?: string,
): Promise<string | undefined> {
  const prefix = `${walPrefix(cluster)}${timelineName(timeline)}/`
  for await (const { key } of storage.list(prefix, startAfter === undefined ? {} : { startAfter })) {
    const kind = walObjectOf(cluster, key)?.kind
    if (kind === 'segment' || kind === 'receiving') return key
  }
  return undefined
}

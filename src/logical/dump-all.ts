import { Readable } from 'node:stream'
import { codecSuffix } from '../archive/codec.ts'
import { compressed } from '../archive/compressed.ts'
import type { StoredIn } from '../backup/backup-store.ts'
import type { DumpedDatabase, LogicalObject } from '../catalog/logical-record.ts'
import { PgrecallError } from '../errors.ts'
import type { DumpableDatabase } from '../postgres/dumpable.ts'
import { pgDumpall } from '../postgres/pg-dump.ts'
import { sideBySide } from '../side-by-side.ts'
import { contentsLines } from './contents.ts'
import { dumpDatabase, type StoredDump } from './dump-database.ts'
import { dumpNames } from './dump-names.ts'
import { fingerprintLines } from './fingerprint-object.ts'
import type { LogicalRun } from './logical-run.ts'

/** An object as it lies in each repository, and what is recorded of it beside. */
export interface StoredPart {
  stored: StoredIn
  facts: Omit<LogicalObject, 'name' | 'bytes' | 'sha256' | 'header'>
}

/** All of a backup, durable, before its record. */
export interface StoredParts {
  databases: DumpedDatabase[]
  hasGlobals: boolean
  objects: StoredPart[]
  /** What the programs gave out. */
  dumpedBytes: number
}

/** Dumps what belongs to the whole cluster, and the databases, several at once, the largest ones first. */
export async function dumpAll(run: LogicalRun): Promise<StoredParts> {
  const failed = new AbortController()
  const signal = AbortSignal.any([run.signal, failed.signal])
  return dumpParts({ ...run, signal }, failed)
}

/** @param failed is aborted by the first that fails, so that nobody waits for the others */
async function dumpParts(run: LogicalRun, failed: AbortController): Promise<StoredParts> {
  const { request, plan, events } = run
  const task = 'Dumping'
  let [bytes, items] = [0, 0]
  const onBytes = (count: number) => {
    bytes += count
    events.emit('progress', { task, bytes, total: undefined, items })
  }
  try {
    if (request.whole) return await dumpScript(run, onBytes)
    const names = dumpNames(plan.databases)
    const globals = request.globals ? [await dumpGlobals(run, onBytes)] : []
    const largestFirst = plan.databases.toSorted((a, b) => b.bytes - a.bytes)
    // Staged dumps have several sessions each, and take up room.
    const lanes = request.staging === undefined ? request.jobs : 1
    const dumps = await sideBySide(largestFirst, lanes, async (database) => {
      try {
        return (
          (await dumpDatabase(run, database, names.get(database.oid)!, onBytes)) ?? missing(run, database)
        )
      } catch (error) {
        failed.abort(error)
        throw error
      } finally {
        items++
      }
    })
    const inOrder = plan.databases.flatMap((database) => dumps[largestFirst.indexOf(database)] ?? [])
    if (inOrder.length === 0)
      throw new PgrecallError('failed', 'every database was dropped before it could be dumped', {
        hint: 'run this again',
      })
    const fingerprints = request.fingerprint ? [await storeFingerprints(run, inOrder)] : []
    return {
      databases: inOrder.map(({ database }) => database),
      hasGlobals: request.globals,
      objects: [...globals, ...inOrder, await storeContents(run, inOrder), ...fingerprints],
      dumpedBytes: bytes,
    }
  } finally {
    events.emit('progressEnd', { task })
  }
}

/**
 * Of a database that was dropped before its turn came.
 * @throws PgrecallError `absent` when it was asked for by its name
 */
function missing({ request, warnings }: LogicalRun, { name }: DumpableDatabase): undefined {
  if (request.databases.include.includes(name))
    throw new PgrecallError('absent', `database "${name}" was dropped before it could be dumped`, {
      hint: 'run this again without it',
    })
  warnings.push(`database "${name}" was dropped meanwhile, and is not in this backup`)
}

/** Roles, tablespaces, and privileges on settings. */
async function dumpGlobals(run: LogicalRun, onBytes: (bytes: number) => void): Promise<StoredPart> {
  return storeScript(run, 'globals', true, onBytes)
}

/** One script for all of the cluster. */
async function dumpScript(run: LogicalRun, onBytes: (bytes: number) => void): Promise<StoredParts> {
  let dumpedBytes = 0
  const script = await storeScript(run, 'script', false, (bytes) => {
    dumpedBytes += bytes
    onBytes(bytes)
  })
  return { databases: [], hasGlobals: true, objects: [script], dumpedBytes }
}

async function storeScript(
  { source, plan, request, store, signal, warnings }: LogicalRun,
  kind: 'globals' | 'script',
  globalsOnly: boolean,
  onBytes: (bytes: number) => void,
): Promise<StoredPart> {
  const { lockWaitMs, codec, selection } = request
  let plainBytes = 0
  const pieces = pgDumpall(plan.programs.dumpall, source.env, {
    connection: source.connection,
    globalsOnly,
    withoutPasswords: !plan.server.isSuperuser,
    extra: globalsOnly ? [] : [...(selection.extra ?? [])],
    ...(lockWaitMs !== undefined && { lockWaitMs }),
    signal,
    onWarning: (text) => void warnings.push(text),
  })
  const counted = async function* () {
    for await (const piece of pieces) {
      plainBytes += piece.length
      onBytes(piece.length)
      yield piece
    }
  }
  const name = `${kind === 'globals' ? 'globals' : 'cluster'}.sql${codecSuffix(codec)}`
  const stored = await store.put(name, compressed(codec, counted()), { signal })
  return { stored, facts: { kind, plainBytes } }
}

/** The tables of contents of all dumps. */
async function storeContents(
  { request: { codec }, store, signal }: LogicalRun,
  dumps: readonly StoredDump[],
): Promise<StoredPart> {
  const lines = contentsLines(dumps)
  const name = `contents.jsonl${codecSuffix(codec)}`
  return { stored: await store.put(name, compressed(codec, lines), { signal }), facts: { kind: 'contents' } }
}

/** How many rows there are in all dumps, and their sums. */
async function storeFingerprints(
  { request: { codec }, store, signal }: LogicalRun,
  dumps: readonly StoredDump[],
): Promise<StoredPart> {
  const pieces = Readable.from(fingerprintLines(dumps))
  const name = `fingerprints.jsonl${codecSuffix(codec)}`
  const stored = await store.put(name, compressed(codec, pieces), { signal })
  return { stored, facts: { kind: 'fingerprint' } }
}

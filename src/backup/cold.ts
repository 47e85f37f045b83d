import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { BackupEnds } from '../postgres/low-level-backup.ts'
import type { ControlFile } from '../postgres/pg-control.ts'
import type { ClusterFacts } from '../postgres/server.ts'
import { segmentName, segmentNumber } from '../postgres/wal-file.ts'
import { assemble, copyCluster, keepHistory } from './low-level-story.ts'
import type { BackupMethod } from './method.ts'
import { copyOwnWal } from './own-wal.ts'
import { readStableControlFile } from './preflight.ts'
import { scanCluster } from './scan.ts'

/** The record of a shutdown checkpoint ends within this, page headers included. */
const CHECKPOINT_BYTES = 8192

/**
 * `cold`: a copy of a cluster that is shut down. It holds the WAL that a start needs, so it restores by itself; with an
 * archive, its recovery can go on from there.
 * @see https://www.postgresql.org/docs/current/backup-file.html
 */
export function coldMethod(dataDirectory: string): BackupMethod {
  return {
    name: 'cold',
    lost: undefined,
    fullOnly: () => 'a server that is shut down says nothing of what has changed',
    resumes: false,

    async check() {
      const { control } = await requireShutDown(dataDirectory)
      const facts = await factsOfFiles(dataDirectory, control)
      const { bytes } = await scanCluster(facts)
      return { facts, warnings: [], bytes }
    },

    async take(run) {
      const { bytes: control, control: before } = await requireShutDown(dataDirectory)
      run.events.emit('step', {
        text: `Starting backup ${run.id} of ${dataDirectory}, which was shut down at ${endsOf(before).stop.time}`,
      })
      const facts = await factsOfFiles(dataDirectory, before)
      await keepHistory(run, facts, before.checkpoint.timeline)
      const copied = await copyCluster(run, facts, facts, undefined)
      const ends = endsOf(before)
      const wal = await copyOwnWal(run, facts, await withNextSegment(dataDirectory, before, ends))
      const taken = await assemble(run, facts, copied, { ends, control, wal })
      await requireStillShutDown(dataDirectory, control)
      return taken
    },

    async awaitWal() {
      // A cold backup is always standalone.
    },
  }
}

async function requireShutDown(dataDirectory: string): Promise<{ bytes: Buffer; control: ControlFile }> {
  const read = await readStableControlFile(dataDirectory).catch((error) => {
    if (error instanceof PgrecallError) throw error
    throw new PgrecallError(
      'refused',
      `${dataDirectory} is no data directory that can be read: ${reasonOf(error)}`,
      {
        hint: 'check "dataDirectory" in the configuration, and run as the user who owns it, usually postgres',
        cause: error,
      },
    )
  })
  if (await isThere(join(dataDirectory, 'postmaster.pid'))) {
    throw new PgrecallError(
      'refused',
      `a server runs in ${dataDirectory}, or was killed there (postmaster.pid exists)`,
      {
        hint: 'stop it first, or take a backup of the running server with --method files',
      },
    )
  }
  const { state } = read.control
  if (state === 'shut down') return read
  throw new PgrecallError(
    'refused',
    state === 'running'
      ? `the cluster in ${dataDirectory} was not shut down in order: pg_control says that it is running`
      : `the cluster in ${dataDirectory} is a standby that was shut down; its copy would still need its primary's WAL`,
    { hint: 'start the server and take the backup with --method files; or stop it in order and try again' },
  )
}

/** A server that was started meanwhile has written to what was copied. */
async function requireStillShutDown(dataDirectory: string, control: Buffer): Promise<void> {
  const now = await readFile(join(dataDirectory, 'global/pg_control'))
  if (now.equals(control) && !(await isThere(join(dataDirectory, 'postmaster.pid')))) return
  throw new PgrecallError('failed', 'the server was started during the backup, which voids it', {
    hint: 'take the backup of a running server with --method files',
  })
}

/** What a server would say of itself, as far as its files tell. */
async function factsOfFiles(dataDirectory: string, control: ControlFile): Promise<ClusterFacts> {
  const major = (await readFile(join(dataDirectory, 'PG_VERSION'), 'utf8')).trim()
  const {
    systemIdentifier,
    catalogVersion,
    walSegmentBytes,
    blockBytes,
    relationSegmentBlocks,
    dataChecksums,
  } = control
  return {
    version: Number(major) * 10_000,
    majorVersion: Number(major),
    versionText: major,
    systemIdentifier,
    catalogVersion,
    dataDirectory,
    walSegmentBytes,
    blockBytes,
    relationSegmentBlocks,
    dataChecksums,
    outsideFiles: await outsideFilesOf(dataDirectory),
    tablespaces: await tablespacesOf(dataDirectory),
  }
}

/** Only a server knows its tablespaces by name; their links have their oids. */
async function tablespacesOf(dataDirectory: string): Promise<ClusterFacts['tablespaces']> {
  const links = join(dataDirectory, 'pg_tblspc')
  const spaces = []
  for (const oid of (await readdir(links)).filter((name) => /^\d+$/.test(name))) {
    const location = await readlink(join(links, oid)).catch(() => undefined)
    if (location !== undefined) spaces.push({ oid, name: oid, location })
  }
  return spaces
}

/** Debian keeps the settings elsewhere; how the server was last started tells where. */
async function outsideFilesOf(dataDirectory: string): Promise<string[]> {
  const options = await readFile(join(dataDirectory, 'postmaster.opts'), 'utf8').catch(() => '')
  const file = /config_file=([^"]+)"/.exec(options)?.[1]
  return file === undefined || file.startsWith(`${dataDirectory}/`) ? [] : [file]
}

/** Begin and end are the same: the checkpoint of the shutdown. */
function endsOf({ checkpoint, walSegmentBytes, time }: ControlFile): BackupEnds {
  const { lsn, timeline, nextXid } = checkpoint
  const walFile = segmentName(timeline, segmentNumber(lsn, walSegmentBytes), walSegmentBytes)
  const moment = { lsn, walFile, time: new Date(time * 1000).toISOString().replace('Z', '000Z') }
  return {
    timeline,
    start: moment,
    stop: moment,
    xmin: nextXid.toString(),
    fromStandby: false,
    label: undefined,
  }
}

/** The checkpoint's record may reach into the next segment, which is there then. */
async function withNextSegment(
  dataDirectory: string,
  { checkpoint, walSegmentBytes }: ControlFile,
  ends: BackupEnds,
): Promise<BackupEnds> {
  const number = segmentNumber(checkpoint.lsn + BigInt(CHECKPOINT_BYTES), walSegmentBytes)
  const name = segmentName(checkpoint.timeline, number, walSegmentBytes)
  if (!(await isThere(join(dataDirectory, 'pg_wal', name)))) return ends
  return { ...ends, stop: { ...ends.stop, walFile: name } }
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined
}

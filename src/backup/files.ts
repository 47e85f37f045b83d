import { stopBackup } from '../postgres/low-level-backup.ts'
import type { Server } from '../postgres/server.ts'
import { storeControlShard } from './closing-objects.ts'
import { judgePages } from './damage.ts'
import {
  arrivalOfWal,
  beginOnServer,
  copyCluster,
  keepHistory,
  lastBaseShard,
  ownerOf,
} from './low-level-story.ts'
import type { BackupMethod } from './method.ts'
import { copyOwnWal } from './own-wal.ts'
import { checkServer, readStableControlFile } from './preflight.ts'
import { scanCluster } from './scan.ts'

/**
 * `files`: our own parallel copy of the data directory, between the start and the stop of PostgreSQL's low-level backup.
 * From a primary or a standby, on its own host.
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
 */
export function filesMethod(server: Server, expectedDataDirectory: string | undefined): BackupMethod {
  return {
    name: 'files',
    lost: server.lost,
    resumes: true,

    async check({ standalone }) {
      const checked = await checkServer({ server, expectedDataDirectory, standalone })
      const { bytes } = await scanCluster(checked.facts)
      return { ...checked, bytes }
    },

    async take(run) {
      const before = await server.facts()
      const start = await beginOnServer(run, server, before)
      // Asked again: a tablespace that was made before the start is in no WAL that the restore will replay.
      const facts = await server.facts()
      await keepHistory(run, facts, start.timeline)
      const { shards, troubles, found } = await copyCluster(run, facts, facts, start)
      // Last of all files, and before the end: from a standby it says up to where the recovery has to go.
      const { bytes: control } = await readStableControlFile(facts.dataDirectory)
      run.events.emit('step', { text: 'Ending the backup on the server' })
      const ends = await stopBackup(server, facts.version, facts.walSegmentBytes, start)
      const owner = await ownerOf(facts.dataDirectory)
      const judged = judgePages(troubles, ends.stop.lsn)
      const content = { label: ends.label, control, owner }
      return {
        facts,
        owner,
        ends,
        shards: [
          ...shards,
          await storeControlShard(run, content, lastBaseShard(shards)),
          ...(run.request.standalone ? await copyOwnWal(run, facts, ends) : []),
        ],
        damaged: facts.dataChecksums ? judged.damaged : undefined,
        warnings: [...found.warnings, ...judged.warnings],
      }
    },

    awaitWal: (run, taken) => arrivalOfWal(run, taken, server),
  }
}

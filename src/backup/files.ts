import { stopBackup } from '../postgres/low-level-backup.ts'
import type { Server } from '../postgres/server.ts'
import { changesSince } from './changes-since.ts'
import { arrivalOfWal, assemble, beginOnServer, copyCluster } from './low-level-story.ts'
import type { BackupMethod } from './method.ts'
import { requireUnmoved } from './moved-databases.ts'
import { copyOwnWal } from './own-wal.ts'
import { checkServer, readStableControlFile } from './preflight.ts'
import { renewedDatabases } from './renewed-databases.ts'
import { scanCluster } from './scan.ts'
import { placeOfServer } from './server-place.ts'

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
    fullOnly: () => undefined,

    async place() {
      const { dataDirectory } = await server.facts()
      return placeOfServer(server, dataDirectory)
    },

    async check({ standalone, receiveSlot }) {
      const checked = await checkServer({ server, expectedDataDirectory, standalone, receiveSlot })
      const { bytes } = await scanCluster(checked.facts)
      return { ...checked, bytes }
    },

    async take(run) {
      const { start, facts, databases: atStart } = await beginOnServer(run, server)
      const changes = await changesSince(run, server, facts, start)
      const copied = await copyCluster(run, facts, facts, start, { changes })
      // Last of all files, and before the end: from a standby it says up to where the recovery has to go.
      const { bytes: control } = await readStableControlFile(facts.dataDirectory)
      run.events.emit('step', { text: 'Ending the backup on the server' })
      const ends = await stopBackup(server, facts.version, facts.walSegmentBytes, start)
      const wal = run.request.standalone ? await copyOwnWal(run, facts, ends) : []
      const renewed = await renewedDatabases(facts, Date.parse(start.time))
      const databases = requireUnmoved(atStart, await server.databases(), renewed)
      return assemble(run, facts, copied, { ends, control, wal, databases })
    },

    awaitWal: (run, taken) => arrivalOfWal(run, taken, server),
  }
}

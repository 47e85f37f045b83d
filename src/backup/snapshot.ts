import { markRepository } from '../catalog/identity.ts'
import { removeBackup } from '../catalog/remove-backup.ts'
import { reasonOf } from '../errors.ts'
import { stopBackup } from '../postgres/low-level-backup.ts'
import type { Server, ServerFacts } from '../postgres/server.ts'
import type { SnapshotSet, Snapshots } from '../snapshot/snapshots.ts'
import { changesSince } from './changes-since.ts'
import { whileReplayStands } from './frozen-replay.ts'
import { arrivalOfWal, assemble, beginOnServer, copyCluster } from './low-level-story.ts'
import type { BackupMethod, BackupRun } from './method.ts'
import { requireUnmoved } from './moved-databases.ts'
import { copyOwnWal } from './own-wal.ts'
import { checkServer, readStableControlFile } from './preflight.ts'
import { renewedDatabases } from './renewed-databases.ts'
import { scanCluster } from './scan.ts'
import { placeOfServer } from './server-place.ts'

/**
 * `snapshot`: the volumes are snapshotted between the start and the stop of a low-level backup, which so lasts seconds;
 * the copy is made from the snapshots, which are removed after it.
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
 * @param connect makes another session, should `server` be lost at the wrong moment
 */
export function snapshotMethod(
  server: Server,
  connect: () => Promise<Server>,
  snapshots: Snapshots,
  expectedDataDirectory: string | undefined,
): BackupMethod {
  return {
    name: 'snapshot',
    lost: server.lost,
    resumes: true,
    fullOnly: () => undefined,

    async place() {
      const { dataDirectory } = await server.facts()
      return placeOfServer(server, dataDirectory)
    },

    async check({ standalone, receiveSlot }) {
      const checked = await checkServer({ server, expectedDataDirectory, standalone, receiveSlot })
      await snapshots.check(foldersOf(checked.facts))
      const { bytes } = await scanCluster(checked.facts)
      return { ...checked, bytes }
    },

    async take(run) {
      const before = await server.facts()
      const prefix = await prefixOf(run, before)
      await sweep(run, before, prefix)
      const { start, facts, databases: atStart } = await beginOnServer(run, server)
      const frozenAtMs = Date.now()
      let set: SnapshotSet | undefined
      try {
        const { views, control } = await whileReplayStands(run, server, connect, facts, async () => {
          set = await snapshots.create(foldersOf(facts), prefix + run.id, run.signal)
          // Later than every page in the snapshots: on a standby it says up to where the recovery has to go.
          const { bytes } = await readStableControlFile(facts.dataDirectory)
          return { views: set.views, control: bytes }
        })
        const viewOf = (folder: string) => views.get(folder)!
        const places = {
          dataDirectory: viewOf(facts.dataDirectory),
          tablespaces: facts.tablespaces.map(({ oid, location }) => ({ oid, location: viewOf(location) })),
        }
        run.events.emit('step', { text: 'Ending the backup on the server; copying from the snapshot' })
        const ends = await stopBackup(server, facts.version, facts.walSegmentBytes, start)
        const renewed = await renewedDatabases(facts, Date.parse(start.time))
        const databases = requireUnmoved(atStart, await server.databases(), renewed)
        const wal = run.request.standalone ? await copyOwnWal(run, facts, ends) : []
        const changes = await changesSince(run, server, facts, start)
        const snapshot = { live: facts, frozenAtMs }
        const copied = await copyCluster(run, facts, places, start, { snapshot, changes })
        // What was read from a snapshot that was lost is worth nothing, also to a run that would go on with it.
        await set!.verify().catch(async (error) => {
          await run.store.each(({ storage }) => removeBackup(storage, run.request.cluster, run.id))
          throw error
        })
        return await assemble(run, facts, copied, { ends, control, wal, databases })
      } finally {
        await set?.remove().catch((error: unknown) => run.events.emit('warning', { text: reasonOf(error) }))
      }
    },

    awaitWal: (run, taken) => arrivalOfWal(run, taken, server),
  }

  /** Removes the snapshots of runs that were killed: nobody else has the lock of this cluster in this repository. */
  async function sweep(run: BackupRun, facts: ServerFacts, prefix: string): Promise<void> {
    const warn = (text: string) => run.events.emit('warning', { text })
    try {
      for (const name of await snapshots.sweep(foldersOf(facts), prefix))
        warn(`removed the snapshot ${name}, which a run that was killed had left`)
    } catch (error) {
      warn(`a snapshot that an earlier run left could not be removed: ${reasonOf(error)}`)
    }
  }
}

function foldersOf(facts: ServerFacts): string[] {
  return [facts.dataDirectory, ...facts.tablespaces.map(({ location }) => location)]
}

/** Two repositories can be written to at the same moment, whatever they are called; each has snapshots of its own. */
async function prefixOf({ store }: BackupRun, { systemIdentifier }: ServerFacts): Promise<string> {
  const { id } = await markRepository(store.repositories[0]!.storage)
  return `pgrecall-${systemIdentifier}-${id.slice(0, 8)}-`
}

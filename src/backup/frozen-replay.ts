import { hostname } from 'node:os'
import { discard } from '../catalog/holder.ts'
import { pausedReplayKey } from '../catalog/layout.ts'
import { isReplayPaused, pauseReplay, requireReplayRights, resumeReplay } from '../postgres/replay.ts'
import type { Server, ServerFacts } from '../postgres/server.ts'
import { readObject } from '../storage/storage.ts'
import type { BackupRun } from './method.ts'

/**
 * Does something while a standby replays nothing. The server keeps a pause beyond the session that asked for it, and a
 * run can be killed: so a mark in the repository says that the pause is ours, and the next run ends it.
 * @param connect makes another session, should the first be lost meanwhile
 */
export async function whileReplayStands<T>(
  run: BackupRun,
  server: Server,
  connect: () => Promise<Server>,
  facts: ServerFacts,
  work: () => Promise<T>,
): Promise<T> {
  if (!facts.inRecovery) return work()
  await requireReplayRights(server)
  const { store } = run
  const key = pausedReplayKey(run.request.cluster)
  const warn = (text: string) => run.events.emit('warning', { text })
  const mark = `${JSON.stringify({ host: hostname(), dataDirectory: facts.dataDirectory })}\n`
  if (await isReplayPaused(server)) {
    const marks = await store.each(({ storage }) => readObject(storage, key))
    if (!Object.values(marks).some((found) => found?.toString() === mark)) {
      warn(
        'the replay on this standby was paused already, and stays so; SELECT pg_wal_replay_resume() lets it go on',
      )
      return work()
    }
    warn('a run that was killed had left the replay on this standby paused; it goes on now')
  }
  await store.each(({ storage }) => storage.put(key, Buffer.from(mark)))
  try {
    await pauseReplay(server, facts.version, run.signal)
    return await work()
  } finally {
    // Whatever became of the session, a standby must not stand still for ever.
    await resumeReplay(server).catch(async () => {
      await using another = await connect()
      await resumeReplay(another)
    })
    await store.each(({ storage }) => discard(storage, key))
  }
}

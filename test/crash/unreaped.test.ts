import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { cleanEnvironment } from '../lab/environment.ts'
import { poll } from '../lab/poll.ts'
import { isAlive } from '../lab/processes.ts'
import { requireServer } from '../lab/programs.ts'
import { asLabUser } from '../lab/user.ts'
import { succeed } from './killed.ts'
import { inspect, lastingDebrisIn } from './repository.ts'
import { createSmallLab } from './small-lab.ts'
import { Stopper } from './stopped.ts'

test('a killed backup that nobody reaps holds no lock', { timeout: 120_000 }, async (context) => {
  requireServer(context)
  await using lab = await createSmallLab()
  const stopper = await Stopper.create(lab, { [lab.repository]: 'REPOSITORY' })
  const copying = { name: 'thread: open REPOSITORY/.incoming/TEMPORARY', nth: 1 }
  // In a container without an init, the parent of an orphan waits for nobody, and what was killed stays a zombie.
  const unreaping = `"$@" & exec sleep 60`
  const command = [lab.product.launcher, '--config', lab.configFile, 'backup', '--jobs', '2']
  const parent = execa('sh', ['-c', unreaping, 'sh', ...command], {
    ...asLabUser,
    cwd: lab.scratch.path,
    env: cleanEnvironment(lab.scratch.path, stopper.environment(copying)),
    extendEnv: false,
    reject: false,
    stdio: 'ignore',
  })
  try {
    const holder = await poll(() => readHolder(join(lab.repository, 'main/locks')), { what: 'the lock' })
    await poll(() => !isAlive(holder.pid), { what: 'the end of the backup' })
    expect(existsSync(`/proc/${holder.pid}`)).toBe(true)

    await succeed(lab, ['backup', '--jobs', '2'])
    expect(await inspect(lab)).toEqual({ ids: [expect.any(String)], problems: [] })
    expect(await lastingDebrisIn(lab.repository)).toEqual([])
  } finally {
    parent.kill('SIGKILL')
    await parent
  }
})

async function readHolder(folder: string): Promise<{ pid: number } | undefined> {
  const [name] = await readdir(folder).catch(() => [])
  return name === undefined ? undefined : JSON.parse(await readFile(join(folder, name), 'utf8'))
}

import { appendFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Cluster } from '../lab/cluster.ts'
import { pgrecall, type RunOptions } from '../lab/product.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { Scratch } from '../lab/scratch.ts'

interface Finding {
  subject: string
  verdict: 'pass' | 'warn' | 'fail'
  text: string
}

let scratch: Scratch
let cluster: Cluster

describe.skipIf(!findPrograms() && !process.env.CI)('the first steps', () => {
  beforeEach(async (context) => {
    requireServer(context)
    scratch = await Scratch.create()
    cluster = await Cluster.create({ within: scratch })
  })
  afterEach(async () => {
    await cluster?.[Symbol.asyncDispose]()
    await scratch?.[Symbol.asyncDispose]()
  })

  test.each(['lab', 'self'] as const)(
    'init, the lines that it prints, check and backup work as %s',
    async (user) => {
      const { port, host } = cluster
      const options: RunOptions = {
        user,
        home: scratch.path,
        env: { PGHOST: host, PGPORT: String(port), PGUSER: 'postgres' },
      }
      const config = join(scratch.path, 'etc/config.yaml')
      const repository = join(scratch.path, 'backups')
      const run = (...args: string[]) => pgrecall([...args, '--json'], options)
      const init = await run('init', '--output', config, '--path', repository)
      expect(init.stderr).toBe('')
      const { postgresqlConf } = JSON.parse(init.stdout) as { postgresqlConf: string[] }
      const again = await run('init', '--output', config, '--path', repository)
      expect(JSON.parse(again.stdout).error).toMatchObject({ kind: 'refused' })

      const premature = await run('--config', config, 'check')
      expect(premature.exitCode).toBe(12)
      expect(failures(premature.stdout)).toMatchObject([{ subject: 'backup' }, { subject: 'archive_mode' }])

      await appendFile(join(cluster.dataDirectory, 'postgresql.conf'), `${postgresqlConf.join('\n')}\n`)
      await cluster.stop()
      await cluster.start()
      const check = await run('--config', config, 'check', '--timeout', '30')
      expect(failures(check.stdout)).toEqual([])
      expect(check.exitCode).toBe(0)
      expect((await run('--config', config, 'backup')).exitCode).toBe(0)
      // Whoever made it: the server's archive_command has to read the one and to write into the other.
      const owner = (await stat(cluster.dataDirectory)).uid
      for (const path of [config, repository, join(repository, 'main/backups')]) {
        expect((await stat(path)).uid, path).toBe(owner)
      }

      await cluster.sql(`ALTER SYSTEM SET archive_command = 'test -z "%p"'`)
      await cluster.sql('SELECT pg_reload_conf()')
      const failing = await run('--config', config, 'check', '--timeout', '2')
      expect(failing.exitCode).toBe(12)
      const finding = failures(failing.stdout).at(-1)
      expect(finding).toMatchObject({ subject: 'archive' })
      expect(finding!.text).toMatch(/did not arrive .* the archiver last failed at .* with 0000000/)
    },
  )
})

function failures(stdout: string): Finding[] {
  return (JSON.parse(stdout) as Finding[]).filter(({ verdict }) => verdict === 'fail')
}

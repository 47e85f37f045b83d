import { chmod, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Cluster } from '../lab/cluster.ts'
import { Lab, type LabConfiguration } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { backUp, failureOf, listedBackups } from './commands.ts'

let lab: Lab

describe.skipIf(!findPrograms() && !process.env.CI)('a backup that cannot work', () => {
  beforeAll(async () => {
    lab = await Lab.create()
  })
  beforeEach(async (context) => {
    requireServer(context)
    await lab.writeConfiguration()
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  async function withSetting(name: string, value: string, work: () => Promise<void>): Promise<void> {
    const set = async (text: string) => {
      await lab.cluster.sql(text)
      await lab.cluster.sql('SELECT pg_reload_conf()')
    }
    await set(`ALTER SYSTEM SET ${name} = '${value}'`)
    await lab.cluster.waitUntil(`current_setting('${name}') = '${value}'`)
    await work()
    await set(`ALTER SYSTEM RESET ${name}`)
  }

  test('says that the server is down', async () => {
    await lab.cluster.stop()
    const failure = await failureOf(lab, ['backup'])
    await lab.cluster.start()
    expect(failure).toMatchObject({ exitCode: 4, kind: 'connection' })
    expect(failure.message).toContain(`cannot connect to the server at ${lab.cluster.host}`)
    expect(failure.hint).toContain('is the server running')
  })

  test.each([
    ['backup', []],
    ['standalone backup', ['--standalone']],
  ])('names the rights that a role lacks for a %s, until it works', async (what, args) => {
    const role = what.replace(' ', '_')
    await lab.cluster.sql(`CREATE ROLE ${role} LOGIN`)
    await lab.writeConfiguration((configuration: LabConfiguration) => {
      const { connection } = configuration.clusters.main as { connection: Record<string, unknown> }
      connection.user = role
    })
    let granted = 0
    for (; (await lab.pgrecall(['backup', ...args])).exitCode !== 0; granted++) {
      const failure = await failureOf(lab, ['backup', ...args])
      expect(failure.message).toContain(`"${role}"`)
      const [statement] = /(?:GRANT|ALTER ROLE) .*/.exec(failure.hint ?? '') ?? []
      if (!statement || granted > 5) throw new Error(`no statement in the hint: ${failure.hint}`)
      await lab.cluster.sql(statement)
    }
    expect(granted).toBeGreaterThan(1)
  })

  test('says that nothing is archived, and names the way out', async () => {
    await withSetting('archive_command', '', async () => {
      const failure = await failureOf(lab, ['backup'])
      expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
      expect(failure.message).toContain('archive_command is empty')
      expect(failure.hint).toContain('--standalone')
    })
  })

  test('fails when the archive_command does nothing, and leaves nothing', async () => {
    const before = await listedBackups(lab)
    await lab.writeConfiguration((configuration) => {
      configuration.clusters.main!.backup = { archiveTimeout: 1 }
    })
    await withSetting('archive_command', 'true', async () => {
      const failure = await failureOf(lab, ['backup', '--no-resume'])
      expect(failure).toMatchObject({ exitCode: 11, kind: 'failed' })
      expect(failure.message).toMatch(/WAL segment \w{24} did not arrive/)
    })
    expect(await listedBackups(lab)).toEqual(before)
    expect(await readdir(join(lab.repository, 'main/backups'))).toEqual(before)
    expect(await readdir(join(lab.repository, '.incoming'))).toEqual([])
    expect(await readdir(join(lab.repository, 'main')).then((names) => names.includes('locks'))).toBe(false)
  })

  test('says that the repository cannot be written', async () => {
    await lab.writeConfiguration((configuration) => {
      configuration.repositories.local!.path = join(lab.scratch.path, 'read-only', 'repository')
    })
    await chmod(await lab.scratch.folder('read-only'), 0o500)
    const failure = await failureOf(lab, ['backup'])
    expect(failure).toMatchObject({ exitCode: 7, kind: 'repository' })
    expect(failure.message).toContain('read-only')
    expect(failure.message).toContain('permission denied')
  })

  test('says that the configuration means another data directory', async () => {
    await using other = await Cluster.create({ within: lab.scratch, name: 'other', start: false })
    await lab.writeConfiguration((configuration) => {
      configuration.clusters.main!.dataDirectory = other.dataDirectory
    })
    const failure = await failureOf(lab, ['backup'])
    expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
    expect(failure.message).toContain(other.dataDirectory)
    expect(failure.message).toContain(lab.cluster.dataDirectory)
  })

  test('refuses a cluster under the name of another one', async () => {
    await backUp(lab)
    await using other = await Cluster.create({ within: lab.scratch, name: 'stranger', fresh: true })
    await lab.writeConfiguration((configuration) => {
      const { host, port, user } = other
      Object.assign(configuration.clusters.main!, {
        dataDirectory: other.dataDirectory,
        connection: { host, port, user },
      })
    })
    const failure = await failureOf(lab, ['backup', '--standalone'])
    expect(failure).toMatchObject({ exitCode: 8, kind: 'conflict' })
  })
})

describe.skipIf(!findPrograms() && !process.env.CI)('a server that archives nothing', () => {
  test('gets no backup but a standalone one', async (context) => {
    requireServer(context)
    await using server = await Lab.create({ archive: false })
    const failure = await failureOf(server, ['backup'])
    expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
    expect(failure.message).toContain('archive_mode is off')
    expect((await backUp(server, ['--standalone'])).standalone).toBe(true)
  })
})

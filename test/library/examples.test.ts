import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { beforeEach, expect, test } from 'vitest'
import { parse } from 'yaml'
import { type Configuration, openCluster, planRestore } from '../../src/index.ts'
import { listedBackups } from '../backup/commands.ts'
import { cleanEnvironment } from '../lab/environment.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { asLabUser } from '../lab/user.ts'
import { documentedExamples, makeProject } from './documented.ts'

beforeEach((context) => void requireServer(context))

test('the examples of the library run as they stand, on a real server', async () => {
  await using lab = await Lab.create()
  const { host, port, dataDirectory, user } = lab.cluster
  const restored = join(lab.scratch.path, 'restored')
  const places: [string, string][] = [
    ["'/etc/pgrecall/config.yaml'", JSON.stringify(lab.configFile)],
    ["'/var/lib/postgresql/17/main'", JSON.stringify(dataDirectory)],
    ["'/var/lib/postgresql/17/restored'", JSON.stringify(restored)],
    ["'/var/lib/pgrecall'", JSON.stringify(lab.repository)],
    ["'/var/run/postgresql', port: 5432, user: 'postgres'", `'${host}', port: ${port}, user: '${user}'`],
  ]
  const project = await lab.scratch.folder('project')
  await makeProject(project, dirname(dirname(lab.product.launcher)))
  const printed: string[] = []
  for (const [index, example] of (await documentedExamples()).entries()) {
    const code = places.reduce((text, [shown, real]) => text.replaceAll(shown, real), example)
    expect(code).not.toMatch(/'\/(?:etc|var)\//)
    const file = join(project, `example-${index}.ts`)
    await writeFile(file, code)
    const { stdout } = await execa(process.execPath, [file], {
      ...asLabUser,
      cwd: project,
      env: cleanEnvironment(lab.scratch.path),
      extendEnv: false,
    })
    printed.push(stdout)
  }
  const [taken, status, stopped, planned, looked, refused] = printed
  // The backup that was stopped is not there, and left nothing in the way of those that follow.
  const [id, ...others] = await listedBackups(lab)
  expect(others).toEqual([])
  expect(taken).toBe(`${id} is in "local"`)
  expect(status).toBe('all is well')
  expect(stopped).toBe('the maintenance window is over')
  expect(planned).toMatch(new RegExp(`^from ${id}, with \\d+ segments? of WAL\\n\\d{3,} files$`))
  expect(looked).toBe('"local" has 1 backups\n0 faults\n[]')
  expect(refused).toMatch(/^2001-01-01 .* lies before the end of the oldest backup .*; the earliest moment/)
  expect(existsSync(join(restored, 'PG_VERSION'))).toBe(true)
  // And the server finds its WAL by the command that the library wrote.
  const server = await lab.adopt(restored, { settings: { archive_mode: 'off' } })
  await server.start()
  await expect(server.sql('SELECT 1 AS one')).resolves.toEqual([{ one: 1 }])

  // That command needs a file, which a value is not.
  const config = parse(await readFile(lab.configFile, 'utf8')) as Configuration
  const cluster = await openCluster({ config })
  const elsewhere = { dataDirectory: join(lab.scratch.path, 'elsewhere') }
  await expect(planRestore(cluster, elsewhere)).rejects.toMatchObject({ kind: 'usage' })
  const { plan } = await planRestore(cluster, { ...elsewhere, restoreCommand: 'fetch %f %p' })
  expect(JSON.stringify(plan.settings)).toContain('fetch %f %p')
})

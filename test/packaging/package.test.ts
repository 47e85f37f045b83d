import { existsSync } from 'node:fs'
import { chmod, cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { execa } from 'execa'
import { beforeEach, expect, test } from 'vitest'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { asLabUser } from '../lab/user.ts'
import { documentedExamples } from '../library/documented.ts'

const ROOT = join(import.meta.dirname, '../..')
/** Without our own Node: what whoever installs has. */
const PATH = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((folder) => !folder.includes('node_modules'))
  .join(delimiter)

beforeEach((context) => void requireServer(context))

test('what npm packs installs, backs up and restores, and is typed to the last declaration', async () => {
  await using lab = await Lab.create()
  const { tarball, files } = await pack(join(lab.scratch.path, 'stage'))
  const tops = new Set(files.map((path) => path.replace(/\/.*/, '')))
  const folders = ['bin', 'dist', 'docs', 'man', 'types']
  const single = ['CHANGELOG.md', 'LICENSE', 'README.md', 'config.example.yaml', 'package.json']
  expect([...tops].toSorted()).toEqual([...folders, ...single].toSorted())

  const prefix = join(lab.scratch.path, 'installed')
  await npm(['install', '--prefix', prefix, '--global', tarball], lab.scratch.path)
  await chmod(lab.scratch.path, 0o755)
  const modules = join(prefix, 'lib/node_modules')
  // Everything is in the package but what its declarations need, and the Node that it runs on.
  const below = await readdir(join(modules, 'pgrecall/node_modules'))
  expect(below.filter((name) => !/^\.|^node-linux-/.test(name))).toEqual(['zod'])
  const pgrecall = async (...args: string[]) => {
    const { stdout } = await execa(join(prefix, 'bin/pgrecall'), ['--config', lab.configFile, ...args], {
      ...asLabUser,
      cwd: lab.scratch.path,
      env: { HOME: lab.scratch.path, PATH: '/usr/bin:/bin' },
      extendEnv: false,
    })
    return stdout
  }
  expect(await pgrecall('--version')).toMatch(/^\d+\.\d+\.\d+$/)
  const { id } = JSON.parse(await pgrecall('backup', '--json')) as { id: string }
  const restored = join(lab.scratch.path, 'restored')
  const answer = JSON.parse(await pgrecall('restore', id, '-D', restored, '--json'))
  expect(answer).toMatchObject({ dryRun: false, plan: { backup: { id } } })
  expect(existsSync(join(restored, 'global/pg_control'))).toBe(true)

  expect(await faultsOfTypes(join(modules, 'project'))).toBe('')
})

function npm(args: string[], cwd: string) {
  return execa('npm', [...args, '--no-audit', '--no-fund', '--prefer-offline'], { cwd, env: { PATH } })
}

/** As `npm pack` does after prepack, but not in the checkout, where other tests run from dist. */
async function pack(stage: string): Promise<{ tarball: string; files: string[] }> {
  const built = ['dist', 'man', 'types']
  const { files } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { files: string[] }
  const asTheyAre = files.filter((name) => !built.includes(name.replace(/\/.*/, '')))
  for (const name of [...asTheyAre, 'package.json', 'README.md', 'LICENSE']) {
    await cp(join(ROOT, name), join(stage, name), { recursive: true })
  }
  const withCompiler = { PATH: `${join(ROOT, 'node_modules/.bin')}${delimiter}${PATH}` }
  for (const [script, folder] of [
    ['build.ts', 'dist'],
    ['build-types.ts', 'types'],
  ] as const) {
    await execa(process.execPath, [join('scripts', script), join(stage, folder)], {
      cwd: ROOT,
      env: withCompiler,
    })
  }
  const { stdout } = await npm(['pack', '--json', '--ignore-scripts'], stage)
  const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[]
  return { tarball: join(stage, packed!.filename), files: packed!.files.map(({ path }) => path) }
}

/** What the compiler says of a project that uses the package, beside which it lies, when it looks into every declaration. */
async function faultsOfTypes(project: string): Promise<string> {
  for (const name of ['@types/node', 'undici-types']) {
    const path = join('node_modules', name)
    await cp(join(ROOT, path), join(project, path), { recursive: true })
  }
  const mistake = `import { openCluster, takeBackup } from 'pgrecall'
// @ts-expect-error there is no such type
await takeBackup(await openCluster(), { type: 'half' })\n`
  const sources = [...(await documentedExamples()), mistake].map((code, index) => ({
    name: `source-${index}.ts`,
    code,
  }))
  for (const { name, code } of sources) await writeFile(join(project, name), code)
  await writeFile(join(project, 'package.json'), '{ "type": "module" }\n')
  const options = ['--strict', '--module', 'nodenext', '--target', 'es2024', '--skipLibCheck', 'false']
  const { stdout } = await execa(
    join(ROOT, 'node_modules/.bin/tsc'),
    ['--noEmit', ...options, '--types', 'node', ...sources.map(({ name }) => name)],
    { cwd: project, reject: false },
  )
  return stdout
}

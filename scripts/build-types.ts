/**
 * Writes types/: the declarations that `import 'pgrecall'` reaches, and no others. `node scripts/build-types.ts FOLDER` writes
 * them elsewhere.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

const target = process.argv[2] ?? 'types'
const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as { dependencies: object }
/** What a declaration imports, in either way of writing it; the compiler puts types of a library's into double quotes. */
const IMPORT = /(?:from |import\()(['"])([^'"]+)\1/g

const all = await mkdtemp(join(tmpdir(), 'pgrecall-types-'))
try {
  execFileSync('tsc', ['--project', 'tsconfig.types.json', '--outDir', all], { stdio: 'inherit' })
  await rm(target, { recursive: true, force: true })
  for (const file of reachedFrom('index.d.ts')) {
    const path = join(target, file)
    await mkdir(dirname(path), { recursive: true })
    // The compiler leaves the names of sources, which are not there.
    await writeFile(
      path,
      textOf(file).replaceAll(IMPORT, (found) => found.replace(/\.ts(['"])$/, '.js$1')),
    )
  }
} finally {
  await rm(all, { recursive: true })
}

/** @throws Error where a declaration needs a package that is not installed with ours */
function reachedFrom(entry: string): Set<string> {
  const found = new Set([entry])
  for (const file of found) {
    for (const [, , name] of textOf(file).matchAll(IMPORT)) {
      if (name!.startsWith('.')) found.add(join(dirname(file), name!.replace(/\.ts$/, '.d.ts')))
      else if (!name!.startsWith('node:') && !Object.hasOwn(dependencies, name!))
        throw new Error(`${file} needs the package ${name}`)
    }
  }
  return found
}

function textOf(file: string): string {
  return readFileSync(join(all, file), 'utf8')
}

import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const SOURCE = fileURLToPath(new URL('../src/', import.meta.url))

/** What all may use, and what uses nothing itself. */
const LEAVES = ['errors.ts', 'events.ts', 'node-version.ts', 'side-by-side.ts']

/** Which rooms a room may import from, beside itself and the leaves. */
const ROOMS: Record<string, string[]> = {
  storage: [],
  archive: [],
  postgres: [],
  threads: [],
  snapshot: ['archive'],
  cli: [],
  notices: [],
  schedule: [],
  catalog: ['archive', 'postgres', 'storage'],
  config: ['archive', 'catalog', 'notices', 'postgres', 'schedule', 'storage'],
  wal: ['archive', 'catalog', 'postgres', 'storage', 'threads'],
  reconstruction: ['archive', 'catalog', 'postgres', 'storage'],
  backup: ['archive', 'catalog', 'postgres', 'snapshot', 'storage', 'threads', 'wal'],
  restore: ['archive', 'catalog', 'postgres', 'reconstruction', 'storage', 'threads', 'wal'],
  consolidation: ['archive', 'backup', 'catalog', 'postgres', 'reconstruction', 'storage', 'threads'],
  logical: ['archive', 'backup', 'catalog', 'postgres', 'storage'],
  copy: ['archive', 'catalog', 'postgres', 'storage', 'wal'],
  rotation: ['archive', 'catalog', 'postgres', 'storage', 'wal'],
  verification: [
    'archive',
    'catalog',
    'copy',
    'logical',
    'postgres',
    'reconstruction',
    'retention',
    'storage',
    'threads',
    'wal',
  ],
  retention: ['catalog', 'postgres', 'storage'],
  status: ['catalog', 'cli', 'postgres', 'restore', 'storage', 'wal'],
  checks: ['archive', 'catalog', 'cli', 'config', 'postgres', 'status', 'storage'],
  report: ['catalog', 'cli', 'postgres', 'retention', 'status'],
  commands: [
    'archive',
    'backup',
    'catalog',
    'checks',
    'cli',
    'config',
    'consolidation',
    'copy',
    'logical',
    'notices',
    'postgres',
    'report',
    'restore',
    'retention',
    'rotation',
    'schedule',
    'snapshot',
    'status',
    'storage',
    'verification',
    'wal',
  ],
  library: [
    'backup',
    'catalog',
    'checks',
    'commands',
    'config',
    'copy',
    'logical',
    'postgres',
    'restore',
    'retention',
    'status',
    'verification',
    'wal',
  ],
  'index.ts': [
    'backup',
    'catalog',
    'checks',
    'commands',
    'composition.ts',
    'config',
    'copy',
    'library',
    'restore',
    'retention',
    'status',
    'verification',
    'wal',
  ],
  'main.ts': ['catalog', 'cli', 'commands', 'composition.ts', 'config', 'notices', 'wal'],
  'composition.ts': ['catalog', 'cli', 'commands', 'config', 'postgres', 'snapshot', 'storage'],
  'entry.ts': ['main.ts', 'threads'],
}

/** Where only some files of a room are open to another one; `type` lets types through and nothing else. */
const NARROW: Record<string, string[] | 'type'> = {
  'catalog -> postgres': ['postgres/lsn.ts', 'postgres/timeline-history.ts', 'postgres/wal-file.ts'],
  'catalog -> archive': ['archive/age.ts', 'archive/codec.ts', 'archive/file-name.ts'],
  'verification -> archive': ['archive/age.ts', 'archive/codec.ts', 'archive/tar.ts'],
  'verification -> retention': ['retention/stretches.ts'],
  'snapshot -> archive': ['archive/file-name.ts'],
  'backup -> snapshot': 'type',
  'commands -> snapshot': 'type',
  'checks -> cli': ['cli/units.ts'],
  'checks -> status': ['status/archiver.ts'],
  'report -> cli': ['cli/terminal.ts', 'cli/units.ts'],
  'report -> postgres': ['postgres/lsn.ts', 'postgres/wal-file.ts'],
  'status -> cli': ['cli/units.ts'],
  'status -> restore': ['restore/find-target.ts', 'restore/timeline-path.ts'],
  'config -> archive': ['archive/age.ts', 'archive/age-keys.ts', 'archive/codec.ts'],
  'config -> catalog': ['catalog/layout.ts'],
  'config -> notices': ['notices/operations.ts'],
  'config -> postgres': 'type',
  'config -> schedule': ['schedule/when.ts'],
  'config -> storage': 'type',
  'main.ts -> notices': ['notices/operations.ts'],
  'library -> config': 'type',
  'entry.ts -> threads': ['threads/compile-cache.ts'],
}

/** The composition roots: they alone touch what belongs to the process. */
const ROOTS = ['main.ts', 'composition.ts', 'entry.ts']
/** Who opens repositories: the root, and workers, which are small roots of their own; and where that is written down. */
const opensRepositories = (file: string) =>
  file === 'composition.ts' || file.endsWith('-worker.ts') || OPENERS.includes(file)
const OPENERS = ['storage/open.ts', 'catalog/open-repository.ts']

const LONGEST_FILE = 300
const VAGUE = /^(?:utils?|helpers?|common|lib|misc|shared)$/

interface Import {
  to: string
  typeOnly: boolean
}

const STATEMENT = /\b(import|export)\s+(type\s+)?([\w*{][^'";]*?)\s*from\s*'([^']+)'/g
const BARE = /\bimport\s*'([^']+)'/g
const DYNAMIC = /(typeof\s+)?\bimport\(\s*'([^']+)'\s*\)/g
const WORKER = /\bworkerScript\(\s*'([^']+)'/g

const files = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => file.endsWith('.ts'))
  .toSorted()
const texts = new Map(files.map((file) => [file, readFileSync(join(SOURCE, file), 'utf8')]))
const imports = new Map(files.map((file) => [file, importsOf(file)]))

function importsOf(file: string): Import[] {
  const text = texts.get(file)!
  const found: { name: string; typeOnly: boolean }[] = []
  for (const [, , type, names, name] of text.matchAll(STATEMENT)) {
    const inBraces = /^\{([^}]*)\}$/.exec(names!.trim())?.[1]
    const parts = inBraces?.split(',').filter((part) => part.trim() !== '')
    found.push({
      name: name!,
      typeOnly: Boolean(type) || (parts?.every((part) => /^\s*type\s/.test(part)) ?? false),
    })
  }
  for (const [, name] of text.matchAll(BARE)) found.push({ name: name!, typeOnly: false })
  for (const [, type, name] of text.matchAll(DYNAMIC)) found.push({ name: name!, typeOnly: Boolean(type) })
  for (const [, name] of text.matchAll(WORKER)) found.push({ name: `./${name}.ts`, typeOnly: false })
  return found
    .filter(({ name }) => name.startsWith('.'))
    .map(({ name, typeOnly }) => ({ to: posix.join(posix.dirname(file), name), typeOnly }))
}

const roomOf = (file: string) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : file)

/** Comments may name what code may not. */
const codeOf = (file: string) =>
  texts
    .get(file)!
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/^\s*\/\/.*$/gm, '')

function breaksOfRooms(): string[] {
  return files.flatMap((file) =>
    imports.get(file)!.flatMap(({ to, typeOnly }) => {
      const [from, into] = [roomOf(file), roomOf(to)]
      if (!files.includes(to)) return [`${file} imports ${to}, which is not there`]
      if (from === into || LEAVES.includes(to)) return []
      const allowed = ROOMS[from]
      if (LEAVES.includes(from)) return [`${file} imports ${to}, but must import nothing`]
      if (!allowed) return [`${file} lies in a room that the table does not have`]
      if (!allowed.includes(into))
        return [`${file} imports ${to}, but ${from} may use ${allowed.join(', ') || 'no other room'}`]
      const narrow = NARROW[`${from} -> ${into}`]
      if (narrow === 'type' && !typeOnly)
        return [`${file} imports ${to}, of which ${from} may use types only`]
      if (Array.isArray(narrow) && !narrow.includes(to))
        return [`${file} imports ${to}, but ${from} may use only ${narrow.join(', ')}`]
      return []
    }),
  )
}

function breaksOfProcess(): string[] {
  const owned = /\bprocess\.(env|exit|exitCode|argv|stdin|stdout|stderr)\b|\}\s*=\s*process\b|\bconsole\.\w+/g
  return files
    .filter((file) => !ROOTS.includes(file))
    .flatMap((file) =>
      [...codeOf(file).matchAll(owned)].map(
        ([use]) => `${file} uses ${use}, which belongs to ${ROOTS.join(' and ')}`,
      ),
    )
}

function breaksOfStorage(): string[] {
  return files
    .filter(
      (file) =>
        !opensRepositories(file) &&
        /(?<!function )\b(?:openStorage|openRepository|openRepositoryWith)\(|\bnew (?:Local|S3)Storage\(/.test(
          codeOf(file),
        ),
    )
    .map((file) => `${file} opens a repository, which only composition.ts and workers do`)
}

function breaksOfSize(): string[] {
  return files.flatMap((file) => {
    const lines = texts.get(file)!.trimEnd().split('\n').length
    return lines > LONGEST_FILE ? [`${file} is longer than ${LONGEST_FILE} lines`] : []
  })
}

function breaksOfNames(): string[] {
  return files.flatMap((file) =>
    [...dirname(file).split('/'), basename(file, '.ts')]
      .filter((name) => VAGUE.test(name))
      .map((name) => `${file} is called "${name}", which does not say what happens in it`),
  )
}

function cycles(): string[] {
  const found = new Set<string>()
  const done = new Set<string>()
  const visit = (file: string, way: string[]) => {
    const at = way.indexOf(file)
    if (at >= 0) {
      const circle = way.slice(at)
      const first = circle.indexOf(circle.toSorted()[0]!)
      found.add([...circle.slice(first), ...circle.slice(0, first), circle[first]].join(' -> '))
      return
    }
    if (done.has(file)) return
    for (const { to } of imports.get(file) ?? []) visit(to, [...way, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
  return [...found].map((circle) => `${circle} is a circle`)
}

const RULES: [string, () => string[]][] = [
  ['a room imports only from the rooms below it', breaksOfRooms],
  ['only the composition root touches the process and its streams', breaksOfProcess],
  ['only the composition root and workers open repositories', breaksOfStorage],
  [`no file is longer than ${LONGEST_FILE} lines`, breaksOfSize],
  ['no file or folder has a name that says nothing', breaksOfNames],
  ['no imports go in a circle', cycles],
]

describe('the source keeps the rules of the house', () => {
  test.each(RULES)('%s', (_rule, breaks) => {
    expect(breaks()).toEqual([])
  })

  test('every room of the table is there, and the imports were found', () => {
    expect(Object.keys(ROOMS).filter((room) => !files.some((file) => roomOf(file) === room))).toEqual([])
    expect([...imports.values()].flat().length).toBeGreaterThan(100)
    expect(imports.get('main.ts')!.some(({ to }) => to === 'commands/backup.ts')).toBe(true)
    expect(imports.get('config/connection.ts')).toContainEqual({ to: 'postgres/server.ts', typeOnly: true })
    expect(imports.get('backup/copy-pool.ts')!.some(({ to }) => to === 'backup/copy-worker.ts')).toBe(true)
  })
})

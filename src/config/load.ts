import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { distance } from 'fastest-levenshtein'
import { LineCounter, parseDocument } from 'yaml'
import type { z } from 'zod'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { type Config, ConfigSchema } from './schema.ts'

export interface LoadedConfig {
  config: Config
  /** The file that it came from; undefined when no file was found and the defaults hold. */
  file: string | undefined
  warnings: string[]
}

export interface Surroundings {
  env: Record<string, string | undefined>
  home: string
  /** The current folder, from which a relative `--config` is meant. */
  cwd: string
}

/** Where a configuration is looked for, in this order, when neither `--config` nor `$PGRECALL_CONFIG` names one. */
export function configPaths({ env, home }: Pick<Surroundings, 'env' | 'home'>): string[] {
  return [
    join(env.XDG_CONFIG_HOME || join(home, '.config'), 'pgrecall', 'config.yaml'),
    '/etc/pgrecall/config.yaml',
  ]
}

/**
 * Finds, reads and checks the configuration.
 * @param named what `--config` says
 * @returns undefined when there is no file and none was named
 * @throws PgrecallError `config`, naming the file, the key and the mend
 */
export function loadConfig(named: string | undefined, surroundings: Surroundings): LoadedConfig | undefined {
  const explicit = named ?? (surroundings.env.PGRECALL_CONFIG || undefined)
  const candidates = explicit
    ? [join(explicit.startsWith('/') ? '' : surroundings.cwd, explicit)]
    : configPaths(surroundings)
  for (const file of candidates) {
    const text = readIfPresent(file)
    if (text !== undefined) return { config: parseConfig(text, file), file, warnings: warningsOf(text, file) }
  }
  if (explicit) {
    throw new PgrecallError('config', `there is no configuration file ${candidates[0]}`, {
      hint: 'correct --config or PGRECALL_CONFIG, or make one with "pgrecall init"',
    })
  }
  return undefined
}

function readIfPresent(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined
    throw new PgrecallError('config', `cannot read ${file}: ${reasonOf(error)}`, {
      hint: 'let the user who runs pgrecall, usually postgres, read it',
      cause: error,
    })
  }
}

/**
 * Reads the text of a configuration file.
 * @throws PgrecallError `config` with one line for each mistake
 */
export function parseConfig(text: string, file: string): Config {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const fault = document.errors[0]
  if (fault) {
    const { line, col } = lines.linePos(fault.pos[0])
    throw new PgrecallError('config', `${file}:${line}:${col}: ${fault.message}`, {
      hint: 'correct the YAML there',
    })
  }
  const result = ConfigSchema.safeParse(document.toJS() ?? {})
  if (result.success) return result.data
  const lineOf = (path: PropertyKey[]) => {
    for (let depth = path.length; depth > 0; depth--) {
      const node = document.getIn(path.slice(0, depth), true) as
        | { range?: [number, number, number] }
        | undefined
      if (node?.range) return `:${lines.linePos(node.range[0]).line}`
    }
    return ''
  }
  const sentences = result.error.issues.flatMap((issue) => sentencesOf(issue, file, lineOf))
  throw new PgrecallError('config', sentences.join('\n'), {
    hint: 'config.example.yaml shows every key with its meaning',
  })
}

function sentencesOf(
  issue: z.core.$ZodIssue,
  file: string,
  lineOf: (path: PropertyKey[]) => string,
): string[] {
  const at = (path: PropertyKey[]) =>
    `${file}${lineOf(path)}: ${path.length ? `"${path.map(String).join('.')}"` : 'the file'}`
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => {
        const nearest = nearestKey(key, issue.path)
        return `${at([...issue.path, key])} is not known${nearest ? `; did you mean "${nearest}"?` : ''}`
      })
    case 'invalid_union': {
      const best = issue.errors.toSorted((a, b) => b[0]!.path.length - a[0]!.path.length)[0]
      return best?.length
        ? best.flatMap((inner) =>
            sentencesOf({ ...inner, path: [...issue.path, ...inner.path] } as never, file, lineOf),
          )
        : [`${at(issue.path)} ${issue.message}`]
    }
    case 'invalid_type':
      return [
        issue.input === undefined || /received undefined/.test(issue.message)
          ? `${at(issue.path)} is missing (${describeType(issue.expected)})`
          : `${at(issue.path)} must be ${describeType(issue.expected)}`,
      ]
    case 'invalid_value':
      return [`${at(issue.path)} must be ${issue.values.map((value) => `"${String(value)}"`).join(' or ')}`]
    case 'invalid_key':
      return [`${at(issue.path)} is not a possible name: ${issue.issues[0]?.message ?? ''}`]
    case 'too_small':
      return [
        `${at(issue.path)} ${/^must/.test(issue.message) ? issue.message : `must be at least ${issue.minimum}`}`,
      ]
    case 'too_big':
      return [`${at(issue.path)} must be at most ${issue.maximum}`]
    default:
      return [`${at(issue.path)} ${issue.message}`]
  }
}

const describeType = (type: string) =>
  ({
    string: 'a text',
    number: 'a number',
    int: 'a whole number',
    object: 'a group of keys',
    record: 'a group of keys',
    array: 'a list',
    boolean: 'true or false',
  })[type] ?? type

const KNOWN_KEYS: Record<string, string[]> = {
  '': Object.keys(ConfigSchema.shape),
  log: Object.keys(ConfigSchema.shape.log.unwrap().shape),
  repositories: Object.keys(ConfigSchema.shape.repositories.valueType.shape),
  clusters: Object.keys(ConfigSchema.shape.clusters.valueType.shape),
}

/** The key that was probably meant: the nearest of those that this place, or else any place, knows. */
function nearestKey(key: string, path: PropertyKey[]): string | undefined {
  const cluster = ConfigSchema.shape.clusters.valueType.shape
  const place = String(path[0] ?? '')
  const inner: Record<string, string[]> = {
    backup: Object.keys(cluster.backup.unwrap().shape),
    restore: Object.keys(cluster.restore.unwrap().shape),
    retention: Object.keys(cluster.retention.unwrap().shape),
    connection: ['host', 'port', 'user', 'database', 'password', 'passwordFile'],
  }
  const known = inner[String(path[2] ?? '')] ?? KNOWN_KEYS[place] ?? []
  const ranked = known
    .map((candidate) => ({ candidate, far: distance(key.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.far - b.far)
  const best = ranked[0]
  return best && best.far <= Math.max(2, Math.floor(key.length / 2)) ? best.candidate : undefined
}

/** A file that holds a secret must not be readable by others. */
function warningsOf(text: string, file: string): string[] {
  const holdsSecret = /^\s*password\s*:|:\/\/[^\s/:@]+:[^\s@]+@/m.test(text)
  if (!holdsSecret) return []
  try {
    const mode = statSync(file).mode & 0o077
    return mode === 0 ? [] : [`${file} holds a secret and can be read by others; run: chmod 600 ${file}`]
  } catch {
    return []
  }
}

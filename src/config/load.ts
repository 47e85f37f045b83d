import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Document, LineCounter, parseDocument, visit } from 'yaml'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { lineOf, sentencesOf } from './mistakes.ts'
import { type Config, ConfigSchema } from './schema.ts'

export interface LoadedConfig {
  config: Config
  /** The file that it came from; undefined when no file was found and the defaults hold. */
  file: string | undefined
  /** When that was changed last, nanoseconds since 1970, as it was before it was read. */
  changedAtNs?: bigint
  /** Where a file would be taken instead of it, or of the defaults: none is there. */
  absent: string[]
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
    const found = readIfPresent(file)
    if (!found) continue
    const config = parseConfig(found.text, file)
    const absent = candidates.slice(0, candidates.indexOf(file))
    return { config, file, changedAtNs: found.changedAtNs, absent, warnings: warningsOf(config, file) }
  }
  if (explicit) {
    throw new PgrecallError('config', `there is no configuration file ${candidates[0]}`, {
      hint: 'correct --config or PGRECALL_CONFIG, or make one with "pgrecall init"',
    })
  }
  return undefined
}

/** The time is looked at first, so that a change in between is noticed by whoever compares it later. */
function readIfPresent(file: string): { text: string; changedAtNs: bigint } | undefined {
  try {
    const changedAtNs = statSync(file, { bigint: true }).mtimeNs
    return { text: readFileSync(file, 'utf8'), changedAtNs }
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
  const at = (line: number | undefined) => (line === undefined ? file : `${file}:${line}`)
  const value = plainValue(document, (offset) => at(lines.linePos(offset).line)) ?? {}
  return checked(value, (path) => at(lineOf(document, lines, path)))
}

/** A configuration that is a value, and lies in no file. @throws PgrecallError `config` with one line for each mistake */
export function configurationOf(value: unknown): LoadedConfig {
  const config = checked(value, () => 'the configuration')
  return { config, file: undefined, absent: [], warnings: [] }
}

function checked(value: unknown, placeOf: Parameters<typeof sentencesOf>[1]): Config {
  const result = ConfigSchema.safeParse(value)
  if (result.success) return result.data
  const sentences = result.error.issues.flatMap((issue) => sentencesOf(issue, placeOf))
  throw new PgrecallError('config', sentences.join('\n'), {
    hint: 'config.example.yaml shows every key with its meaning',
  })
}

function plainValue(document: Document.Parsed, at: (offset: number) => string): unknown {
  let place = at(0)
  visit(document, {
    Alias: (_key, alias) => {
      if (alias.resolve(document)) return undefined
      place = at(alias.range?.[0] ?? 0)
      return visit.BREAK
    },
  })
  try {
    return document.toJS()
  } catch (error) {
    throw new PgrecallError('config', `${place}: ${reasonOf(error)}`, { hint: 'correct the YAML there' })
  }
}

/** A file that holds a secret must not be readable by others. */
function warningsOf(config: Config, file: string): string[] {
  const holdsSecret = Object.values(config.clusters).some(({ connection }) =>
    typeof connection === 'string'
      ? /^[^/]*\/\/[^/@]*:[^/@]*@|[?&]password=/.test(connection)
      : connection.password !== undefined,
  )
  const notices = [config, ...Object.values(config.clusters)].flatMap((owner) => owner.notices)
  // Whoever knows the address of a webhook can write to it.
  if (!holdsSecret && notices.every(({ url }) => url === undefined)) return []
  try {
    const mode = statSync(file).mode & 0o077
    return mode === 0 ? [] : [`${file} holds a secret and can be read by others; run: chmod 600 ${file}`]
  } catch {
    return []
  }
}

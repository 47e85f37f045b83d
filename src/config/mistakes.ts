import { distance } from 'fastest-levenshtein'
import { type Document, isAlias, isMap, isScalar, isSeq, type LineCounter } from 'yaml'
import type { z } from 'zod'
import { HOOK_KEYS, NOTICE_KEYS } from './notice-schema.ts'
import { ConfigSchema, ENCRYPTION_KEYS, REPOSITORY_KEYS } from './schema.ts'

type Issue = z.core.$ZodIssue
/** Where a key is: `file:line`, or the file alone. */
type Locate = (path: readonly PropertyKey[]) => string

/** One sentence for each mistake: where it is, which key, and what must stand there. No value is repeated. */
export function sentencesOf(issue: Issue, locate: Locate): string[] {
  const at = (path: readonly PropertyKey[]) =>
    `${locate(path)}: ${path.length ? `"${path.map(String).join('.')}"` : 'the file'}`
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => {
        const nearest = nearestKey(key, issue.path)
        return `${at([...issue.path, key])} is not known${nearest ? `; did you mean "${nearest}"?` : ''}`
      })
    case 'invalid_union':
      return sentencesOfUnion(issue, locate, at)
    case 'invalid_type':
      return [
        /received undefined/.test(issue.message)
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

/** Of several forms that a value can have, the one that was meant is that whose type fits. */
function sentencesOfUnion(
  issue: Extract<Issue, { code: 'invalid_union' }>,
  locate: Locate,
  at: (path: readonly PropertyKey[]) => string,
): string[] {
  const otherTypes = issue.errors.flatMap(([first]) =>
    first?.code === 'invalid_type' && first.path.length === 0 ? [describeType(first.expected)] : [],
  )
  const meant = issue.errors.find(([first]) => first?.code !== 'invalid_type' || first.path.length > 0)
  if (!meant && otherTypes.length === 0) return [`${at(issue.path)} ${issue.message}`]
  if (!meant) return [`${at(issue.path)} must be ${otherTypes.join(' or ')}`]
  return meant.flatMap((inner) =>
    sentencesOf({ ...inner, path: [...issue.path, ...inner.path] } as Issue, locate),
  )
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

/** The line on which a key stands; of a key that is missing, the line of the group that lacks it. */
export function lineOf(
  document: Document.Parsed,
  lines: LineCounter,
  path: readonly PropertyKey[],
): number | undefined {
  let node: unknown = document.contents
  let found: unknown
  for (const step of path) {
    if (isAlias(node)) node = node.resolve(document)
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => String(isScalar(key) ? key.value : key) === String(step))
      found = pair?.key ?? found
      node = pair?.value
    } else if (isSeq(node)) {
      node = node.items[Number(step)]
      found = node ?? found
    } else break
  }
  const range = (found as { range?: [number, number, number] } | undefined)?.range
  return range && lines.linePos(range[0]).line
}

const KNOWN_KEYS: Record<string, string[]> = {
  '': Object.keys(ConfigSchema.shape),
  hooks: HOOK_KEYS,
  notices: NOTICE_KEYS,
  log: Object.keys(ConfigSchema.shape.log.unwrap().shape),
  repositories: REPOSITORY_KEYS,
  clusters: Object.keys(ConfigSchema.shape.clusters.valueType.shape),
}

/** The key that was probably meant: the nearest of those that this place knows. */
function nearestKey(key: string, path: readonly PropertyKey[]): string | undefined {
  const cluster = ConfigSchema.shape.clusters.valueType.shape
  const place = String(path[0] ?? '')
  const inner: Record<string, string[]> = {
    backup: Object.keys(cluster.backup.unwrap().shape),
    restore: Object.keys(cluster.restore.unwrap().shape),
    retention: Object.keys(cluster.retention.unwrap().shape),
    repositories: ['name', 'required'],
    encryption: ENCRYPTION_KEYS,
    objectLock: ['mode', 'days'],
    schedule: Object.keys(cluster.schedule.unwrap().shape),
    hooks: HOOK_KEYS,
    notices: NOTICE_KEYS,
    wal: Object.keys(cluster.wal.unwrap().shape),
    connection: ['host', 'port', 'user', 'database', 'password', 'passwordFile'],
  }
  const known = inner[String(path[2] ?? '')] ?? KNOWN_KEYS[place] ?? []
  const ranked = known
    .map((candidate) => ({ candidate, far: distance(key.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.far - b.far)
  const best = ranked[0]
  return best && best.far <= Math.max(2, Math.floor(key.length / 2)) ? best.candidate : undefined
}

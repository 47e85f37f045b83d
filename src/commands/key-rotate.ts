import type { Repository } from '../catalog/repository.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { EXIT_CODES, PgrecallError } from '../errors.ts'
import { type RotationResult, requireKeys, rotateKeys } from '../rotation/rotate-keys.ts'
import type { CommandContext, Run } from './context.ts'

const FAILURES_SHOWN = 10

export const run: Run = async ({ options }, context) => {
  const { name: cluster } = context.cluster()
  const request = { cluster, jobs: options.jobs as number, dryRun: options.dryRun === true }
  const repositories = encryptedOf(context, cluster)
  // Of all of them, before the first one is changed.
  for (const repository of repositories) await requireKeys(repository)
  const results = []
  for (const repository of repositories) {
    results.push({ repository, result: await rotateKeys(request, repository, context) })
  }
  return {
    text: results.map(({ repository, result }) => textOf(repository, result, request.dryRun)).join('\n\n'),
    json: results.map(({ repository: { name, keys }, result }) => ({
      repository: name,
      dryRun: request.dryRun,
      recipients: keys.sealer?.recipients,
      ...result,
    })),
    exitCode: exitCodeFor(results.flatMap(({ result }) => result.failures)),
  }
}

function encryptedOf(context: CommandContext, cluster: string): Repository[] {
  const encrypted = context.repositories().filter(({ keys }) => keys.sealer)
  if (encrypted.length > 0) return encrypted
  throw new PgrecallError('config', `no repository of cluster "${cluster}" is configured to encrypt`, {
    hint: 'name public keys under recipients of a repository\'s encryption; "pgrecall key new" makes a pair',
  })
}

function textOf({ name, keys }: Repository, result: RotationResult, dryRun: boolean): string {
  const { rewrapped, current, headerBytes, records, plain, receiving, failures } = result
  const objects = formatCount(rewrapped, 'object')
  const lines = [
    `${objects} ${dryRun ? 'would get' : 'got'} a new header (${formatBytes(headerBytes)}), ${current} had it already.`,
  ]
  if (records > 0) {
    const what = `${formatCount(records, 'record')} of ${records === 1 ? 'a backup' : 'backups'}`
    lines.push(`${what} ${dryRun ? 'would be' : records === 1 ? 'was' : 'were'} written anew.`)
  }
  if (plain > 0)
    lines.push(`Not encrypted, from before there were keys, and left so: ${formatCount(plain, 'object')}.`)
  if (receiving > 0)
    lines.push(
      `Begun by wal-receive, and for the old keys until it has more of it: ${formatCount(receiving, 'segment')}.`,
    )
  lines.push(...failureLines(failures))
  const recipients = formatCount(keys.sealer?.recipients.length ?? 0, 'public key')
  return [`Repository "${name}", encrypted to ${recipients}:`, ...lines.map((line) => `  ${line}`)].join('\n')
}

function failureLines(failures: RotationResult['failures']): string[] {
  return [...Map.groupBy(failures, ({ kind }) => kind)].flatMap(([kind, found]) => {
    const why = kind === 'key' ? 'cannot be opened with any secret key of this host' : 'cannot be read'
    const shown = found.slice(0, FAILURES_SHOWN)
    const more = found.length - shown.length
    return [
      `${formatCount(found.length, 'object')} ${why}, and left as before:`,
      ...shown.map(({ key, reason }) => (kind === 'key' ? `  ${key}` : `  ${key}: ${reason}`)),
      ...(more > 0 ? [`  and ${more} more; --json names all`] : []),
      ...(kind === 'key'
        ? ['  Name the file with their secret key as identityFile too, and run this again.']
        : []),
    ]
  })
}

/** A key that is missing can be brought. */
function exitCodeFor(failures: RotationResult['failures']): number {
  const kind = failures.find((failure) => failure.kind === 'key')?.kind ?? failures[0]?.kind
  return kind ? EXIT_CODES[kind].code : 0
}

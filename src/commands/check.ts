import { setTimeout as wait } from 'node:timers/promises'
import { updateCatalog } from '../catalog/catalog.ts'
import { claimIdentity } from '../catalog/identity.ts'
import type { Repository } from '../catalog/repository.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import { paint } from '../cli/terminal.ts'
import type { ClusterConfig } from '../config/schema.ts'
import { EXIT_CODES, PgrecallError, reasonOf } from '../errors.ts'
import { switchWal } from '../postgres/low-level-backup.ts'
import type { Server, ServerFacts } from '../postgres/server.ts'
import { summarizesWal } from '../postgres/wal-summaries.ts'
import { methodOf, requestOf } from './backup-method.ts'
import { checkRepository, type Finding } from './check-repository.ts'
import type { CommandContext, Run } from './context.ts'

/** Tries what tonight's backup and every archived segment will need, and says of each whether it works. */
export const run: Run = async ({ options }, context) => {
  const findings: Finding[] = []
  const attempt = async <T>(
    subject: string,
    work: () => Promise<{ text: string; value: T; warnings?: string[] }>,
  ) => {
    try {
      const { text, value, warnings = [] } = await work()
      findings.push({ subject, verdict: 'pass', text })
      for (const warning of warnings) findings.push({ subject, verdict: 'warn', text: warning })
      return value
    } catch (error) {
      context.signal.throwIfAborted()
      const hint = error instanceof PgrecallError ? error.hint : undefined
      findings.push({ subject, verdict: 'fail', text: reasonOf(error), ...(hint && { hint }) })
      return undefined
    }
  }

  const configured = await attempt('configuration', async () => checkConfiguration(context))
  if (configured) {
    const usable: Repository[] = []
    for (const repository of configured) {
      const checked = await checkRepository(repository, context)
      findings.push(...checked.findings)
      if (checked.isUsable) usable.push(repository)
    }
    const server = await attempt('connection', async () => {
      const connected = await context.connect()
      return { text: `connected as "${connected.user}"`, value: connected }
    })
    if (server) {
      await using _closing = server
      await checkTheServer(server, usable, options, context, attempt)
    }
  }
  return {
    text: findings.map((finding) => findingText(finding, context.view.color)).join('\n'),
    json: findings,
    exitCode: findings.some(({ verdict }) => verdict === 'fail') ? EXIT_CODES.problems.code : 0,
  }
}

type Attempt = <T>(
  subject: string,
  work: () => Promise<{ text: string; value: T; warnings?: string[] }>,
) => Promise<T | undefined>

async function checkTheServer(
  server: Server,
  usable: readonly Repository[],
  options: Record<string, unknown>,
  context: CommandContext,
  attempt: Attempt,
): Promise<void> {
  const { name, config } = context.cluster()
  const facts = await attempt('server', async () => {
    const facts = await server.facts()
    // A cold backup is taken without a server, which runs now.
    const checked =
      config.backup.method === 'cold' ? { warnings: [] } : await checkMethod(config, options, context)
    const text = `PostgreSQL ${facts.versionText.split(' ')[0]} with ${facts.dataDirectory}, ready for backups by "${config.backup.method}"`
    const warnings = [
      ...checked.warnings,
      ...(facts.dataChecksums
        ? []
        : ['data checksums are off, so a page that the disk damaged is not noticed']),
      ...(await summaryWarning(server, config)),
      ...facts.outsideFiles.map((file) => `${file} is outside the data directory and in no backup`),
    ]
    return { text, value: facts, warnings }
  })
  if (!facts) return
  if (facts.inRecovery) {
    await attempt('archive', async () => ({
      text: 'the server is a standby, which ends no segment',
      value: true,
      warnings: ['whether WAL arrives can only be tried at the primary'],
    }))
  } else if (usable.length > 0)
    await attempt('archive', () =>
      seeSegmentArrive(server, usable, facts, name, Number(options.timeout), context),
    )
}

/** Without summaries, `files` reads what has changed whole, and `stream` can build upon nothing. */
async function summaryWarning(server: Server, { backup }: ClusterConfig): Promise<string[]> {
  const isOfUse = backup.type !== 'full' && (backup.method === 'files' || backup.method === 'stream')
  if (!isOfUse || (await summarizesWal(server)) !== false) return []
  const without =
    backup.method === 'files'
      ? 'incremental backups read every changed file whole'
      : 'every backup is a full one'
  return [`summarize_wal is off, so ${without}; set it to on, and reload the server`]
}

/** All that the configured method looks at before it begins. */
async function checkMethod(config: ClusterConfig, options: Record<string, unknown>, context: CommandContext) {
  await using resources = new AsyncDisposableStack()
  const method = await methodOf(config, options, context, resources)
  return await method.check(requestOf(context.cluster().name, config, options, context.version))
}

async function checkConfiguration(context: CommandContext) {
  const { file, warnings } = context.config()
  const { name } = context.cluster()
  const text = file ? `${file}, cluster "${name}"` : `no file, so the defaults hold; cluster "${name}"`
  return { text, value: context.repositories(), warnings }
}

/** The proof that archiving works is a segment that was written now and is in the repository. */
async function seeSegmentArrive(
  server: Server,
  repositories: readonly Repository[],
  facts: ServerFacts,
  cluster: string,
  timeoutSeconds: number,
  context: CommandContext,
) {
  const { signal, events, now } = context
  const warnings: string[] = []
  /** Those in which it works; one that is optional may not be among them. */
  const wellIn = async (those: readonly Repository[], work: (repository: Repository) => Promise<void>) => {
    const well: Repository[] = []
    for (const repository of those) {
      try {
        await work(repository)
        well.push(repository)
      } catch (error) {
        signal.throwIfAborted()
        if (repository.required) throw error
        warnings.push(reasonOf(error))
      }
    }
    return well
  }
  const claimed = await wellIn(repositories, ({ storage }) => claimIdentity(storage, cluster, facts))
  const begun = performance.now()
  const segment = await switchWal(server, 'pgrecall check')
  events.emit('step', { text: `Waiting for WAL segment ${segment} in the archive` })
  const stored = await wellIn(claimed, async (repository) => {
    while (!(await statWalFile(repository, cluster, segment))) {
      if (performance.now() - begun > timeoutSeconds * 1000)
        throw await notSeen(server, segment, repository.name, timeoutSeconds)
      await wait(100, undefined, { signal })
    }
  })
  const seconds = ((performance.now() - begun) / 1000).toFixed(1)
  for (const { storage } of stored) await updateCatalog(storage, cluster, now())
  return {
    text: `segment ${segment} was switched and is stored, after ${seconds} s`,
    value: segment,
    warnings,
  }
}

async function notSeen(
  server: Server,
  segment: string,
  repository: string,
  seconds: number,
): Promise<PgrecallError> {
  const row = await server.one<{ failed: string | null; at: string | null }>(
    'SELECT last_failed_wal AS failed, last_failed_time::text AS at FROM pg_stat_archiver',
  )
  const failing = row.failed ? `; the archiver last failed at ${row.at} with ${row.failed}` : ''
  return new PgrecallError(
    'failed',
    `segment ${segment} did not arrive in "${repository}" within ${seconds} s${failing}`,
    {
      hint: "look into the server's log for what archive_command said",
    },
  )
}

function findingText({ subject, verdict, text, hint }: Finding, color: boolean): string {
  const style = { pass: 'green', warn: 'yellow', fail: 'red' } as const
  const mark = paint(verdict.padEnd(4), style[verdict], color)
  return `${mark}  ${subject}: ${text}${hint ? `\n      ${hint}` : ''}`
}

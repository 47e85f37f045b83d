import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Repository } from '../catalog/repository.ts'
import { readVerifications } from '../catalog/verification-file.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Server } from '../postgres/server.ts'
import { checkConfiguration } from './configuration.ts'
import { type Finding, fail, lookInto, pass, softened, together } from './finding.ts'
import { checkHooks } from './hooks.ts'
import { lookAtServer, lookWithoutServer, type ServerLook } from './look-at-server.ts'
import { checkPrograms } from './programs.ts'
import { judgeProof } from './proof.ts'
import { type Purpose, purposeOf } from './purpose.ts'
import type { LookOverQuestion } from './question.ts'
import { type CheckedRepository, checkRepository } from './repositories.ts'
import { mayArrive } from './segment.ts'

/** What came of looking a cluster over. */
export interface Look {
  findings: Finding[]
  /** Into which something can be stored. */
  usable: Repository[]
  /** Whether it makes sense to end a segment and to wait for it: why not is told already. */
  mayArrive: boolean
  /** Whether the server that answered is a standby. */
  inRecovery: boolean
}

/**
 * Everything that would make tonight's backup or tomorrow's restore fail. What cannot be asked, as a server that is down, is a
 * finding and no error.
 */
export async function lookOver(question: LookOverQuestion): Promise<Finding[]> {
  return (await look(question)).findings
}

/** The same, with what is needed to see a segment arrive. */
export async function look(question: LookOverQuestion): Promise<Look> {
  const { cluster, config, loaded } = question
  const configuration = await checkConfiguration(cluster, config, loaded)
  const { repositories, findings: unopened } = openAll(question)
  const stores: CheckedRepository[] = []
  for (const repository of repositories) stores.push(await checkRepository(repository, question))
  const catalogs = stores.flatMap(({ catalog }) => catalog ?? [])
  const purpose = purposeOf(config, catalogs)
  const { connection, look: server } = await lookThere(question, purpose, stores)
  return {
    findings: [
      ...configuration,
      ...(await checkHooks([...loaded.config.hooks, ...config.hooks])),
      ...unopened,
      ...stores.flatMap(({ keys }) => keys),
      ...stores.flatMap(({ findings }) => findings),
      ...(await programsFor(question, purpose, server, stores)),
      ...connection,
      ...server.server,
      ...server.archiving,
      ...server.space,
      ...(await proofOf(stores, question)),
    ],
    usable: stores.filter(({ isUsable }) => isUsable).map(({ repository }) => repository),
    mayArrive: server.facts !== undefined && mayArrive([...server.server, ...server.archiving]),
    inRecovery: server.facts?.inRecovery ?? false,
  }
}

function openAll({ repositories }: LookOverQuestion): { repositories: Repository[]; findings: Finding[] } {
  try {
    return { repositories: repositories(), findings: [] }
  } catch (error) {
    return { repositories: [], findings: [failure('configuration', error)] }
  }
}

async function lookThere(
  question: LookOverQuestion,
  purpose: Purpose,
  stores: readonly CheckedRepository[],
): Promise<{ connection: Finding[]; look: ServerLook }> {
  let server: Server
  try {
    server = await question.connect()
  } catch (error) {
    question.signal.throwIfAborted()
    const connection = [await judgeAbsence(question, error)]
    return { connection, look: await lookWithoutServer(question, stores) }
  }
  await using _closing = server
  const connection = [pass('connection', `connected as "${server.user}"`)]
  try {
    const look = await lookAtServer(server, question, purpose, stores)
    // What it could not be asked any more may be a warning there.
    server.lost.throwIfAborted()
    return { connection, look }
  } catch (error) {
    question.signal.throwIfAborted()
    return { connection: [failure('connection', error)], look: await lookWithoutServer(question, stores) }
  }
}

/** A cold backup is taken of a server that is shut down. */
async function judgeAbsence({ config, checkMethod }: LookOverQuestion, error: unknown): Promise<Finding> {
  if (config.backup.method !== 'cold') return failure('connection', error)
  try {
    await checkMethod()
    return pass('connection', 'the server is shut down, as a cold backup needs it')
  } catch (reason) {
    return failure('connection', reason)
  }
}

function failure(subject: string, error: unknown): Finding {
  return fail(subject, reasonOf(error), error instanceof PgrecallError ? error.hint : undefined)
}

async function programsFor(
  { config, env, signal }: LookOverQuestion,
  { logical }: Purpose,
  { facts, receives }: ServerLook,
  stores: readonly CheckedRepository[],
): Promise<Finding[]> {
  const stored = stores.flatMap(({ catalog }) => catalog?.backups.at(-1)?.postgres.version ?? [])[0]
  const major =
    facts?.majorVersion ?? (await majorOf(config.dataDirectory)) ?? (stored && Math.floor(stored / 10_000))
  const needs = { major, method: config.backup.method, dumps: logical, receives }
  return together(
    'programs',
    await lookInto('programs', signal, () => checkPrograms(needs, env, process.versions.node)),
  )
}

async function majorOf(dataDirectory: string | undefined): Promise<number | undefined> {
  if (dataDirectory === undefined) return undefined
  const text = await readFile(join(dataDirectory, 'PG_VERSION'), 'utf8').catch(() => '')
  return Number(text.trim()) || undefined
}

async function proofOf(
  stores: readonly CheckedRepository[],
  { cluster, now, signal }: LookOverQuestion,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const { repository, catalog } of stores) {
    if (!catalog) continue
    const look = async () => {
      const verifications = await readVerifications(repository.storage, cluster)
      return together(
        `proof in "${repository.name}"`,
        judgeProof(repository.name, catalog, verifications, now()),
      )
    }
    findings.push(...softened(await lookInto(`proof in "${repository.name}"`, signal, look), repository))
  }
  return findings
}

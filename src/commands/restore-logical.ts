import { resolve } from 'node:path'
import { noteRestoreRate } from '../catalog/restore-rates.ts'
import { formatDuration } from '../cli/units.ts'
import { EXIT_CODES } from '../errors.ts'
import { restoreLogical } from '../logical/restore-logical.ts'
import { type PreparedRestore, prepareLogicalRestore } from '../logical/restore-prepare.ts'
import { isChosen } from '../logical/restore-request.ts'
import { inDatabase } from '../postgres/in-database.ts'
import { Server } from '../postgres/server.ts'
import type { CommandContext, Run } from './context.ts'
import {
  environmentOf,
  logicalRequestOf,
  refuseRestoreOptionsOf,
  targetOf,
} from './restore-logical-options.ts'
import { differenceCount, errorCount, logicalPlanText, logicalResultText } from './restore-logical-text.ts'

/** `restore ID` of a logical backup: into a server that runs. */
export const run: Run = async ({ args, options }, context) => {
  refuseRestoreOptionsOf('physical', options)
  const { name } = context.cluster()
  const asked = logicalRequestOf(name, args[0]!, options, context.cwd)
  const request = {
    ...asked,
    staging: asked.staging === undefined ? undefined : resolve(context.cwd, asked.staging),
  }
  const connection = targetOf(await context.connection(), options)
  const source = {
    connection,
    connect: (to: Parameters<typeof Server.connect>[0]) => Server.connect(to),
    env: environmentOf(context.env, options),
  }
  // Nobody may be in a database that is dropped.
  await using server = await source.connect(request.create ? inDatabase(connection, 'template1') : connection)
  const prepared = await prepareLogicalRestore(request, server, source, {
    repositories: context.repositories(),
    events: context.events,
    signal: context.signal,
  })
  const words = logicalPlanText(prepared)
  const facts = { plan: planFacts(prepared.plan, request.compare) }
  if (options.dryRun) return { text: words, json: { dryRun: true, ...facts } }

  context.events.emit('notice', { lines: words.split('\n') })
  const begun = context.now()
  const result = await restoreLogical(prepared, server, {
    source,
    events: context.events,
    signal: context.signal,
    now: context.now,
  })
  const tookMs = context.now().getTime() - begun.getTime()
  const took = formatDuration(tookMs)
  const [errors, differences] = [errorCount(result), differenceCount(result)]
  if (errors === 0) await rememberRate(prepared, tookMs, context)
  return {
    text: logicalResultText(prepared.plan, result, took),
    json: { dryRun: false, ...facts, ...result, errors, ...(request.compare && { differences }) },
    exitCode: errors > 0 ? EXIT_CODES.failed.code : differences > 0 ? EXIT_CODES.problems.code : 0,
  }
}

/** By what loading whole databases took, the next restore is estimated. */
async function rememberRate(
  { request, plan, backup: { repository, record } }: PreparedRestore,
  tookMs: number,
  { now, events }: CommandContext,
): Promise<void> {
  const isPart =
    isChosen(request.choice) || request.choice.only !== undefined || record.selection !== undefined
  if (isPart || tookMs <= 0) return
  const loaded = plan.form === 'script' ? record.databases : plan.databases.map(({ dumped }) => dumped)
  const rate = {
    kind: 'restore',
    backup: record.id,
    finishedAt: now().toISOString(),
    bytes: loaded.reduce((sum, { bytes }) => sum + bytes, 0),
    seconds: tookMs / 1000,
    jobs: request.jobs,
  } as const
  await noteRestoreRate(repository, record.cluster, rate, events)
}

type Plan = Awaited<ReturnType<typeof prepareLogicalRestore>>['plan']

/** Without the statements about roles, which may hold passwords. */
const planFacts = ({ globals, databases, ...plan }: Plan, compare: boolean) => ({
  ...plan,
  compare,
  globals: globals && {
    madeRoles: globals.madeRoles,
    madeTablespaces: globals.madeTablespaces,
    existing: globals.existing,
    changesExisting: globals.changesExisting,
  },
  databases: databases.map(({ name, into, way, dropsDatabase, allOrNothing, properties, analyze }) => ({
    name,
    into,
    way,
    dropsDatabase,
    allOrNothing,
    properties,
    analyze,
  })),
})

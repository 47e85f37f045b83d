import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { constants } from 'node:os'
import { join } from 'node:path'
import { parseArgs, styleText } from 'node:util'
import { execa } from 'execa'
import { type TableChecksum, tableChecksums } from '../test/lab/checksums.ts'
import { Lab } from '../test/lab/lab.ts'
import type { Load } from '../test/lab/load.ts'
import { findPrograms } from '../test/lab/programs.ts'
import { labUser } from '../test/lab/user.ts'

const USAGE = `Loses a throwaway PostgreSQL server, and recovers it to a chosen moment.

  npm run quickstart -- [--s3] [--encrypt] [--scale N] [--keep]

  --s3        keep the backups in a bucket of a real S3 server (Ceph's gateway, on this machine)
  --encrypt   encrypt everything for a key that is made for this
  --scale N   size of the pgbench database, about 15 MB each (default 20)
  --keep      leave the server, the repository and the configuration to look around in
`
/** Transactions a second: few enough that the story is the same on a small machine. */
const RATE = 400
/** Transactions between the moment T and the disaster, which must be gone afterwards. */
const WRITES_AFTER = 2000
/** The table that the disaster drops. It is the one that pgbench writes a row to in every transaction. */
const DROPPED = 'pgbench_history'
/** What the person at this terminal has chosen about how programs talk to them. */
const OF_THE_TERMINAL = ['TERM', 'COLORTERM', 'NO_COLOR', 'FORCE_COLOR', 'LANG', 'LC_ALL', 'TZ']

/** What the person is told in a sentence, without a stack trace. */
class Failure extends Error {}

interface Moment {
  /** As PostgreSQL writes it: UTC, to the microsecond. */
  time: string
  tables: TableChecksum[]
}

async function main(): Promise<number> {
  const { keep, scale, s3, encrypt } = readOptions()
  if (s3 || encrypt) await installMore()
  console.log(bold('\nA PostgreSQL server is lost, and recovered to a moment that we choose.'))
  await using lab = await startLab(s3, encrypt)
  try {
    await fill(lab, scale)
    const load = await startTransactions(lab)
    await backUp(lab)
    const moment = await chooseMoment(lab, load)
    await disaster(lab, moment)
    const restoring = performance.now()
    await restore(lab, moment)
    await startRestored(lab)
    const took = since(restoring)
    const matches = await compare(lab, moment)
    if (keep) await leave(lab)
    conclude(matches, moment, took)
    return matches ? 0 : 1
  } catch (error) {
    if (keep) await leave(lab)
    throw error
  }
}

/** What the set-up leaves out for a quickstart on the disk. */
async function installMore(): Promise<void> {
  const { exitCode } = await execa('sh', ['scripts/setup.sh', 'gateway'], { stdio: 'inherit', reject: false })
  if (exitCode !== 0) throw new Failure('what --s3 and --encrypt need is missing')
}

async function startLab(s3: boolean, encrypt: boolean): Promise<Lab> {
  step('A PostgreSQL server, for this only')
  const programs = findPrograms()
  if (!programs) {
    throw new Failure('no PostgreSQL server found: install one, or set PG_BIN to the folder of its programs')
  }
  const lab = await Lab.create({
    fresh: true,
    settings: { shared_buffers: '128MB', max_wal_size: '2GB' },
    repositories: s3 ? { bucket: 's3' } : { local: 'local' },
    encrypted: encrypt,
  })
  const { host, port } = lab.cluster
  say(
    `PostgreSQL ${programs.version} on the socket ${host}, port ${port}${labUser ? `, run by ${labUser.name}` : ''}`,
  )
  const [setting] = await lab.cluster.sql<{ archive_command: string }>('SHOW archive_command')
  const [repository] = Object.values(lab.repositories)
  say(`the backups go to ${repository!.storage.location}${encrypt ? ', encrypted' : ''}`)
  say('it hands each finished piece of its WAL to pgrecall:')
  say(dim(`archive_command = '${setting!.archive_command}'`))
  return lab
}

async function fill(lab: Lab, scale: number): Promise<void> {
  const began = step('Data, by pgbench')
  await lab.cluster.pgbench(['--initialize', '--quiet', `--scale=${scale}`])
  const [row] = await lab.cluster.sql<{ size: string }>(
    `SELECT pg_size_pretty(pg_database_size('postgres')) AS size`,
  )
  say(`${count(scale * 100_000)} accounts, ${row!.size}, in ${since(began)}`)
}

async function startTransactions(lab: Lab): Promise<Load> {
  step('Transactions that do not stop for a backup')
  const load = lab.cluster.startPgbench({ clients: 4, args: [`--rate=${RATE}`] })
  await lab.cluster.waitUntil(`(SELECT count(*) >= ${RATE} FROM ${DROPPED})`, { timeoutMs: 60_000 })
  say(`4 clients, ${RATE} transactions a second`)
  return load
}

async function backUp(lab: Lab): Promise<void> {
  const began = step('A full backup')
  await runPgrecall(lab, ['backup'])
  say(`done in ${since(began)}, while the transactions went on`)
}

async function chooseMoment(lab: Lab, load: Load): Promise<Moment> {
  step('The moment T')
  // Only while nothing is written do a time on the clock and a state of the tables belong together exactly.
  await load.stop()
  const [row] = await lab.cluster.sql<{ time: string }>(
    `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS time`,
  )
  const moment = { time: row!.time, tables: await tableChecksums(lab.cluster) }
  say(`${bold(moment.time)}, with the clients paused for a checksum of every table`)
  say(`${DROPPED} holds ${count(rowsOf(moment.tables, DROPPED))} rows`)
  return moment
}

async function disaster(lab: Lab, moment: Moment): Promise<void> {
  const { cluster } = lab
  const atT = rowsOf(moment.tables, DROPPED)
  step('Life goes on, and then the disaster')
  const load = cluster.startPgbench({ clients: 4, args: [`--rate=${RATE}`] })
  await cluster.waitUntil(`(SELECT count(*) >= ${atT + WRITES_AFTER} FROM ${DROPPED})`, { timeoutMs: 60_000 })
  await load.stop()
  const written = rowsOf(await tableChecksums(cluster), DROPPED) - atT
  say(`${count(written)} transactions after T`)
  await cluster.sql(`DROP TABLE ${DROPPED}`)
  say(dim(`DROP TABLE ${DROPPED}`))
  const segment = await cluster.archiveWal()
  say(`the WAL is in the repository up to ${segment}`)
  await cluster.kill9()
  await rm(cluster.dataDirectory, { recursive: true })
  say(dim(`kill -9 (the server); rm -rf ${cluster.dataDirectory}`))
}

async function restore(lab: Lab, moment: Moment): Promise<void> {
  const began = step('Back to T')
  const target = ['--time', moment.time, '--target-action', 'promote']
  await runPgrecall(lab, ['restore', 'latest', ...target, '--data-directory', lab.cluster.dataDirectory])
  say(`done in ${since(began)}`)
}

async function startRestored(lab: Lab): Promise<void> {
  const began = step('The server starts, replays the WAL up to T, and opens')
  await lab.cluster.start({ timeoutMs: 120_000 })
  await lab.cluster.waitForPromotion(120_000)
  const [row] = await lab.cluster.sql<{ restore_command: string }>('SHOW restore_command')
  say(dim(`restore_command = '${row!.restore_command}'`))
  const [, last] = /last completed transaction was at log time (.*)/.exec(lab.cluster.logText()) ?? []
  if (last) say(`its last recovered transaction was at ${last}`)
  say(`open for writing after ${since(began)}`)
}

async function compare(lab: Lab, moment: Moment): Promise<boolean> {
  step('The tables at T and now')
  const now = await tableChecksums(lab.cluster)
  const names = [...new Set([...moment.tables, ...now].map(({ table }) => table))].sort()
  const rows = names.map((name) => {
    const before = moment.tables.find(({ table }) => table === name)
    const after = now.find(({ table }) => table === name)
    return { name, before, after, same: before !== undefined && digest(before) === digest(after) }
  })
  say(dim(tableLine(['table', 'rows at T', 'rows now', 'checksum at T', 'checksum now'])))
  for (const { name, before, after, same } of rows) {
    const mark = same ? styleText('green', '✓') : styleText('red', '✗')
    const counts = [before, after].map((table) => (table ? count(table.rows) : 'none'))
    const line = tableLine([name.replace(/^public\./, ''), ...counts, digest(before), digest(after)])
    say(`${line}  ${mark}${name === `public.${DROPPED}` && after ? ' was dropped' : ''}`)
  }
  return rows.every(({ same }) => same)
}

function conclude(matches: boolean, moment: Moment, took: string): void {
  const rows = moment.tables.reduce((sum, table) => sum + table.rows, 0)
  const what = `${moment.tables.length} tables with ${count(rows)} rows`
  console.log(
    matches
      ? `\n${styleText(['bold', 'green'], 'Recovered')} ${what}, every one as it was at ${moment.time}, in ${took}.`
      : `\n${styleText(['bold', 'red'], 'Not recovered')}: of ${what}, some differ from what they were at ${moment.time}.`,
  )
}

async function leave(lab: Lab): Promise<void> {
  const folders = await lab.keep()
  const { dataDirectory, host, isRunning, port, programs, user } = lab.cluster
  const config = `${lab.product.launcher} --config ${lab.configFile}`
  step('The lab stays')
  if (isRunning) say(`the database    ${programs.path('psql')} -h ${host} -p ${port} -U ${user} postgres`)
  say(`the backups     ${config} list`)
  for (const { storage } of Object.values(lab.repositories)) say(`the repository  ${storage.location}`)
  if (lab.gateway) say(`its S3 server   ${lab.gateway.endpoint}, keys in ${lab.gateway.credentialsFile}`)
  say(`the server log  ${lab.cluster.logFile}`)
  const stop = isRunning
    ? `kill -QUIT "$(head -n 1 ${join(dataDirectory, 'postmaster.pid')})"; sleep 1; `
    : ''
  say(`to remove it    ${stop}rm -rf ${folders.join(' ')}`)
}

/** Runs pgrecall as a user would, in sight of the user. */
async function runPgrecall(lab: Lab, args: string[]): Promise<void> {
  const shown = args.map((arg) => (/^[\w./=-]+$/.test(arg) ? arg : `'${arg}'`)).join(' ')
  say(`${bold('$ pgrecall')} ${dim(`--config ${lab.configFile}`)} ${bold(shown)}`)
  const env = Object.fromEntries(OF_THE_TERMINAL.flatMap((name) => [[name, process.env[name]]]).filter(isSet))
  const { exitCode, signal } = await lab.pgrecall(args, { output: 'inherit', env, timeoutMs: 600_000 })
  if (exitCode !== 0) throw new Failure(`pgrecall ${args[0]} ended with ${signal ?? `exit code ${exitCode}`}`)
}

function readOptions(): { keep: boolean; scale: number; s3: boolean; encrypt: boolean } {
  try {
    const { values } = parseArgs({
      options: {
        scale: { type: 'string', default: '20' },
        keep: { type: 'boolean', default: false },
        s3: { type: 'boolean', default: false },
        encrypt: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    if (values.help) {
      console.log(USAGE)
      process.exit(0)
    }
    if (!/^[1-9]\d{0,3}$/.test(values.scale))
      throw new Error(`--scale ${values.scale} is not a number from 1 to 9999`)
    return { ...values, scale: Number(values.scale) }
  } catch (error) {
    throw new Failure(`${(error as Error).message}\n\n${USAGE}`)
  }
}

function rowsOf(tables: TableChecksum[], name: string): number {
  return tables.find(({ table }) => table === `public.${name}`)?.rows ?? 0
}

/** The checksum is a sum of some 22 digits; a line of two of them needs something shorter that says the same. */
function digest(table: TableChecksum | undefined): string {
  if (!table) return 'none'
  return createHash('sha256').update(`${table.rows} ${table.checksum}`).digest('hex').slice(0, 12)
}

function tableLine([name, ...others]: string[]): string {
  const widths = [11, 11, 15, 14]
  return name!.padEnd(17) + others.map((text, column) => text.padStart(widths[column]!)).join('')
}

function isSet(entry: (string | undefined)[]): entry is [string, string] {
  return entry[1] !== undefined
}

let steps = 0

/** Prints the head of the next step. @returns when it began, for `since` */
function step(title: string): number {
  steps++
  console.log(`\n${styleText('cyan', String(steps).padStart(2))}  ${bold(title)}`)
  return performance.now()
}

function say(text: string): void {
  console.log(`    ${text}`)
}

function since(began: number): string {
  return `${((performance.now() - began) / 1000).toFixed(1)} s`
}

function count(value: number): string {
  return value.toLocaleString('en-US')
}

function bold(text: string): string {
  return styleText('bold', text)
}

function dim(text: string): string {
  return styleText('dim', text)
}

// The lab ends its processes and removes its folders whenever this process exits.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    console.error('\nStopped; removing the server and its folders.')
    process.exit(128 + constants.signals[signal])
  })
}

try {
  process.exitCode = await main()
} catch (error) {
  const text = error instanceof Failure ? error.message : (error as Error).stack
  console.error(
    `\n${styleText(['bold', 'red'], 'The quickstart failed:', { stream: process.stderr })} ${text}`,
  )
  process.exitCode = 1
}

import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { execa } from 'execa'
import { Programs } from '../test/lab/programs.ts'

const USAGE = `Runs the tests on several versions of PostgreSQL, one after the other, and sums up.

  npm run test:matrix -- [VERSION...] [FILE...]

  VERSION   14, 15, 17 and 18 when none is given; 13 is there too. What is missing is made: scripts/postgres.sh
  FILE      part of a path, for vitest; default the whole suite
`
const VERSIONS = ['14', '15', '17', '18']
const ROOT = join(import.meta.dirname, '..')

/** What vitest's reporter "json" writes, as far as we use it. */
interface Report {
  numPassedTests: number
  numPendingTests: number
  testResults: FileReport[]
}

interface FileReport {
  name: string
  status: string
  assertionResults: { fullName: string; status: string }[]
}

interface Outcome {
  server: string
  /** Undefined when there is no such server, or vitest did not get to its end. */
  report: Report | undefined
  seconds: number
}

async function main(): Promise<number> {
  const args = process.argv.slice(2)
  if (args.some((arg) => arg.startsWith('-'))) {
    process.stderr.write(USAGE)
    return 2
  }
  const versions = args.filter((arg) => /^\d+$/.test(arg))
  const files = args.filter((arg) => !versions.includes(arg))
  const outcomes: Outcome[] = []
  for (const version of versions.length > 0 ? versions : VERSIONS) outcomes.push(await runOn(version, files))
  process.stdout.write(`\n${outcomes.map(inWords).join('\n')}\n`)
  return outcomes.every(({ report }) => report && failures(report).length === 0) ? 0 : 1
}

async function runOn(version: string, files: string[]): Promise<Outcome> {
  const start = performance.now()
  const server = await serverOf(version)
  const name = `PostgreSQL ${server?.version ?? version}`
  process.stdout.write(`\n${name}${server ? '' : ' is missing'}\n`)
  const report = server && (await runVitest(server, files))
  return { server: name, report, seconds: (performance.now() - start) / 1000 }
}

async function serverOf(version: string): Promise<Programs | undefined> {
  const { stdout, failed } = await execa('sh', [join(ROOT, 'scripts/postgres.sh'), version], {
    stderr: 'inherit',
    reject: false,
  })
  return failed ? undefined : new Programs(stdout)
}

async function runVitest(server: Programs, files: string[]): Promise<Report | undefined> {
  const output = join(tmpdir(), `pgrecall-matrix-${process.pid}.json`)
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${output}`]
  try {
    await execa('vitest', ['run', ...reporters, ...files], {
      cwd: ROOT,
      preferLocal: true,
      env: { PGRECALL_TEST_PG_BIN: server.bin },
      stdio: 'inherit',
      reject: false,
    })
    return JSON.parse(await readFile(output, 'utf8'))
  } catch {
    return undefined
  } finally {
    await rm(output, { force: true })
  }
}

function inWords({ server, report, seconds }: Outcome): string {
  if (!report) return `${server.padEnd(20)} did not run to the end`
  const failed = failures(report)
  const counts = `${report.numPassedTests} passed, ${failed.length} failed, ${report.numPendingTests} skipped`
  return [`${server.padEnd(20)} ${counts}, ${Math.round(seconds)} s`, ...failed].join('\n  ')
}

/** A line for each test that failed, and for each file that failed outside of its tests. */
function failures(report: Report): string[] {
  return report.testResults.flatMap(({ name, status, assertionResults }) => {
    const file = relative(ROOT, name)
    const failed = assertionResults.filter((test) => test.status === 'failed')
    if (status === 'failed' && failed.length === 0) return [file]
    return failed.map((test) => `${file}: ${test.fullName}`)
  })
}

process.exitCode = await main()

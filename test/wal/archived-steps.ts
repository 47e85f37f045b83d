import { appendFile } from 'node:fs/promises'
import { backUp } from '../backup/commands.ts'
import { Lab, type LabConfiguration } from '../lab/lab.ts'

/** A backup, and behind it archived segments of 1 MiB with a row of the table `steps` each. */
export interface ArchivedSteps extends AsyncDisposable {
  lab: Lab
  /** The segment of each step, and a position right behind its commit. */
  steps: { segment: string; lsn: string }[]
  /** The last segment that is archived, behind those of the steps. */
  last: string
  /** Where pgrecall logs, at debug level. */
  logFile: string
  /** The configuration as at the beginning, with what `change` makes of it. */
  configure(change?: (configuration: LabConfiguration) => void): Promise<void>
}

/** The server is stopped afterwards. */
export async function archiveSteps(count: number): Promise<ArchivedSteps> {
  const lab = await Lab.create({ initdb: ['--wal-segsize=1'] })
  const logFile = await lab.scratch.file('pgrecall.log', '')
  const { cluster } = lab
  await cluster.sql('CREATE TABLE steps (n int)')
  await backUp(lab)
  const steps: ArchivedSteps['steps'] = []
  for (let n = 1; n <= count; n++) {
    await cluster.sql(`INSERT INTO steps VALUES (${n})`)
    const [row] = await cluster.sql<{ segment: string; lsn: string }>(
      'SELECT pg_walfile_name(lsn) AS segment, lsn::text FROM pg_current_wal_insert_lsn() lsn',
    )
    steps.push(row!)
    await cluster.sql('SELECT pg_switch_wal()')
  }
  const last = await cluster.archiveWal()
  await cluster.stop()
  const configure: ArchivedSteps['configure'] = (change) =>
    lab.writeConfiguration((configuration) => {
      configuration.log = { level: 'debug', file: logFile }
      change?.(configuration)
    })
  await configure()
  return { lab, steps, last, logFile, configure, [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose]() }
}

/** Makes the configuration another one, that says the same. */
export function touchConfiguration(lab: Lab): Promise<void> {
  return appendFile(lab.configFile, '# changed\n')
}

import { chmod, readdir, rename, stat, writeFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { usesSocketInTmp } from '../config/connection.ts'
import { findLocalServers, nameOf } from '../config/defaults.ts'
import { ownerOfCluster } from '../config/run-as.ts'
import type { ClusterConfig, Config } from '../config/schema.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { cronFile } from '../schedule/cron.ts'
import { jobsOf, type Place, type ScheduleFile, type SchedulePlan } from '../schedule/jobs.ts'
import { kubernetesManifest } from '../schedule/kubernetes.ts'
import { formerUnits, systemdUnits } from '../schedule/systemd.ts'
import type { CommandContext, Run } from './context.ts'

const KINDS = {
  systemd: systemdUnits,
  cron: (plan: SchedulePlan) => [cronFile(plan)],
  kubernetes: (plan: SchedulePlan) => [kubernetesManifest(plan)],
}

/** Prints, or writes, the files by which the cluster's schedule is kept. */
export const run: Run = async ({ options }, context) => {
  const kind = kindOf(options)
  const plan = planOf(context)
  if (!plan.jobs.some(({ name, next }) => [name, next?.name].includes('retention'))) {
    context.events.emit('warning', {
      text: `nothing removes old backups of cluster "${plan.cluster}": it has no retention rule, or its schedule leaves it out`,
    })
  }
  const files = KINDS[kind](plan)
  const folder = options.output as string | undefined
  if (folder === undefined) {
    return { text: printed(files), json: { cluster: plan.cluster, kind, files, written: [] } }
  }
  const path = resolve(context.cwd, folder)
  const written = await writeAll(files, path)
  const steps = [...(kind === 'systemd' ? await stepsBefore(plan, path) : []), nextStep(kind, files)]
  return {
    text: [`Wrote ${written.join('\n      ')}`, ...steps].join('\n'),
    json: { cluster: plan.cluster, kind, files, written },
  }
}

function kindOf(options: Record<string, unknown>): keyof typeof KINDS {
  const [kind, ...more] = Object.keys(KINDS).filter((name) => options[name] === true)
  if (kind !== undefined && more.length === 0) return kind as keyof typeof KINDS
  throw new PgrecallError(
    'usage',
    kind === undefined
      ? 'nothing says for what the schedule is to be printed'
      : `the schedule is printed for one thing at a time, and not for ${[kind, ...more].join(' and ')} at once`,
    { hint: 'give one of --systemd, --cron and --kubernetes' },
  )
}

function planOf(context: CommandContext): SchedulePlan {
  const { config, file } = context.config()
  if (file === undefined) {
    throw new PgrecallError('config', 'there is no configuration file that scheduled runs could be given', {
      hint: 'make one with "pgrecall init"',
    })
  }
  const { name, config: cluster } = context.cluster()
  const { schedule, backup, retention, dataDirectory, timeZone } = cluster
  const hasRules = Object.entries(retention).some(
    ([rule, value]) => rule !== 'minimum' && value !== undefined,
  )
  const readsFiles = backup.method !== 'stream'
  return {
    cluster: name,
    jobs: jobsOf(schedule, hasRules),
    walReceive: schedule.walReceive
      ? ['wal-receive', ...(schedule.walReceive === 'synchronous' ? ['--synchronous'] : [])]
      : undefined,
    launcher: context.launcher,
    configFile: file,
    version: context.version,
    user: schedule.user ?? userOf(cluster, context),
    timeZone,
    isOtherZone: timeZone !== Intl.DateTimeFormat().resolvedOptions().timeZone,
    host: hostname(),
    schedule,
    writes: placesOf(name, cluster, config),
    dataDirectory: readsFiles ? dataDirectory : undefined,
    needsTmp: usesSocketInTmp(cluster.connection, context.env, findLocalServers),
    needsRights: backup.method === 'snapshot',
  }
}

/** Whom root becomes for this cluster, or who asks. */
function userOf(cluster: ClusterConfig, { isRoot }: CommandContext): string {
  const owner = ownerOfCluster(cluster, findLocalServers)
  if (owner) return nameOf(owner.uid) ?? String(owner.uid)
  return isRoot ? 'postgres' : userInfo().username
}

/** Every folder that a job writes to. */
function placesOf(name: string, cluster: ClusterConfig, config: Config): Place[] {
  const repositories = cluster.repositories.flatMap(({ name: repository }) => {
    const chosen = config.repositories[repository]!
    return chosen.type === 'local' ? [{ name: `repository-${repository}`, path: chosen.path }] : []
  })
  const { schedule } = cluster
  const folder = (word: string, file: string | undefined) =>
    file ? [{ name: word, path: dirname(file) }] : []
  return [
    ...repositories,
    ...(schedule.walReceive ? [{ name: `receive-${name}`, path: receiveFolder(name, cluster) }] : []),
    ...folder('report', schedule.report ? schedule.report.output : undefined),
    ...folder('log', config.log.file),
  ]
}

/** @throws PgrecallError `config` where it would depend on who runs the job */
function receiveFolder(name: string, { wal }: ClusterConfig): string {
  if (wal.receive.directory !== undefined) return wal.receive.directory
  throw new PgrecallError('config', 'the schedule has walReceive, and nothing says where WAL is received', {
    hint: `set clusters.${name}.wal.receive.directory`,
  })
}

/** As comments say where each belongs, the whole can be read, and each file copied out of it. */
function printed(files: readonly ScheduleFile[]): string {
  if (files.length === 1) return files[0]!.text.trimEnd()
  return files.map(({ name, text }) => `# ${name}\n${text}`).join('\n')
}

/** What a unit cannot do for itself: make a folder where it may write to nothing else, and stop another one. */
async function stepsBefore(plan: SchedulePlan, folder: string): Promise<string[]> {
  const isAbsent = (path: string) =>
    stat(path).then(
      () => false,
      (error) => systemCode(error) === 'ENOENT',
    )
  const absent: string[] = []
  for (const { path } of plan.writes) if (await isAbsent(path)) absent.push(path)
  const former = formerUnits(plan, await readdir(folder))
  return [
    ...(absent.length > 0 && !plan.needsRights
      ? [`Make these folders first, in which ${plan.user} can write: ${[...new Set(absent)].join(', ')}`]
      : []),
    ...(former.length > 0
      ? [
          `Stop what the schedule has no more, and remove its files: systemctl disable --now ${former.join(' ')}`,
        ]
      : []),
  ]
}

function nextStep(kind: keyof typeof KINDS, files: readonly ScheduleFile[]): string {
  const starting = files.filter(({ text }) => /^\[Install\]$/m.test(text)).map(({ name }) => name)
  return {
    systemd: `Start them with: systemctl daemon-reload && systemctl enable --now ${starting.join(' ')}`,
    cron: 'Cron reads it by itself, when it is in /etc/cron.d.',
    kubernetes: `Apply it with: kubectl apply -f ${files[0]!.name}`,
  }[kind]
}

/** Written aside and renamed, since cron and systemd may read at any moment; others than root read them, too. */
async function writeAll(files: readonly ScheduleFile[], folder: string): Promise<string[]> {
  const written: string[] = []
  for (const { name, text } of files) {
    const path = join(folder, name)
    // Cron does not take a file whose name has a dot for a table.
    const temporary = `${path}.${process.pid}`
    try {
      await writeFile(temporary, text)
      await chmod(temporary, 0o644)
      await rename(temporary, path)
    } catch (error) {
      throw new PgrecallError('failed', `cannot write ${path}: ${reasonOf(error)}`, {
        hint: 'name a folder that is there and can be written to with --output',
        cause: error,
      })
    }
    written.push(path)
  }
  return written
}

import { spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAllDocuments, stringify } from 'yaml'
import { parseConfig } from '../../src/config/load.ts'
import { cronFile } from '../../src/schedule/cron.ts'
import { jobsOf, type SchedulePlan } from '../../src/schedule/jobs.ts'
import { kubernetesManifest } from '../../src/schedule/kubernetes.ts'
import { formerUnits, systemdUnits } from '../../src/schedule/systemd.ts'
import { pgrecall } from '../lab/product.ts'
import { Scratch } from '../lab/scratch.ts'

/** All that a shell, cron, systemd or YAML could take for something else. */
const NASTY = `it's 50% $HOME "q" \\n: {a}`

let scratch: Scratch
/** Prints its arguments, each in a line. */
let launcher: string
beforeAll(async () => {
  scratch = await Scratch.create('schedule')
  launcher = join(scratch.path, NASTY)
  writeFileSync(launcher, `#!/bin/sh\nprintf '%s\\n' "$@"\n`)
  chmodSync(launcher, 0o755)
})
afterAll(() => scratch[Symbol.asyncDispose]())

const CONFIG = {
  repositories: { local: { path: '/var/lib/pgrecall' }, offsite: { type: 's3', bucket: 'abc' } },
  clusters: {
    main: {
      dataDirectory: '/var/lib/postgresql/17/main',
      repositories: ['local', 'offsite'],
      retention: { full: 2 },
    },
  },
}

const scheduleOf = (schedule: object) => {
  const { main } = parseConfig(
    stringify({ ...CONFIG, clusters: { main: { ...CONFIG.clusters.main, schedule } } }),
    'c',
  ).clusters
  return main!.schedule
}

const EVERYTHING = {
  full: 'Sun 00:30',
  logical: 'Sat 03:00',
  check: '17:00',
  report: { at: '06:00', output: '/srv/www/report.html' },
  walReceive: true,
  mailTo: 'dba@example.net',
}

function planFor(schedule: object, changes: Partial<SchedulePlan> = {}): SchedulePlan {
  const parsed = scheduleOf(schedule)
  return {
    cluster: 'main',
    jobs: jobsOf(parsed, true),
    walReceive: parsed.walReceive ? ['wal-receive'] : undefined,
    launcher,
    configFile: `/etc/${NASTY}.yaml`,
    version: '1.2.3',
    user: 'postgres',
    timeZone: 'Europe/Berlin',
    isOtherZone: true,
    host: 'db1',
    schedule: parsed,
    writes: [{ name: 'repository-local', path: `/var/lib/${NASTY}` }],
    dataDirectory: '/var/lib/postgresql/17/main',
    needsTmp: false,
    needsRights: false,
    ...changes,
  }
}

test('without a schedule there is one: full on Sundays, otherwise incremental, verification and retention', () => {
  const jobs = jobsOf(scheduleOf({}), true)
  expect(jobs.map(({ name, next }) => [name, next?.name])).toEqual([
    ['full', 'retention'],
    ['incremental', 'retention'],
    ['verify', undefined],
    ['status', undefined],
  ])
  expect(jobs[2]!.args).toEqual(['verify', '--fraction', '5%'])
})

test('a look that hangs is ended, so that it does not keep away those after it; a backup takes as long as it takes', () => {
  const plan = planFor({ ...EVERYTHING, incremental: false, logical: false })
  const limited = plan.jobs.map(({ name }) => ['check', 'status', 'report'].includes(name))
  const cronLines = cronFile(plan)
    .text.split('\n')
    .filter((line) => line.includes(' --cluster main ') && !line.startsWith('* * * * * '))
  expect(cronLines.map((line) => line.includes(' timeout --kill-after=2m 15m '))).toEqual(limited)
  const services = new Map(systemdUnits(plan).map(({ name, text }) => [name, text]))
  const unit = (name: string) => services.get(`pgrecall-main-${name}.service`)!
  expect(plan.jobs.map(({ name }) => unit(name).includes('\nRuntimeMaxSec=15min\n'))).toEqual(limited)
  const cronJobs = parseAllDocuments(kubernetesManifest(plan).text).slice(0, plan.jobs.length)
  const deadlines = cronJobs.map((document) =>
    document.getIn(['spec', 'jobTemplate', 'spec', 'activeDeadlineSeconds']),
  )
  expect(deadlines).toEqual(limited.map((isLimited) => (isLimited ? 900 : undefined)))
})

test('what is false is left out, and retention without a rule', () => {
  const off = { incremental: false, verify: false, status: false }
  expect(jobsOf(scheduleOf(off), false)).toEqual([
    expect.objectContaining({ name: 'full', args: ['backup', '--type', 'full'], next: undefined }),
  ])
  expect(jobsOf(scheduleOf({ verify: '03:00' }), true)[2]).toEqual(
    expect.objectContaining({ name: 'verify', args: ['verify', '--fraction', '5%'] }),
  )
  const later = jobsOf(scheduleOf({ ...off, retention: '05:00' }), true)
  expect(later.map(({ name }) => name)).toEqual(['full', 'retention'])
})

describe('cron', () => {
  const FIELD = String.raw`(?:\*|\d+(?:-\d+)?(?:\/\d+)?(?:,\d+(?:-\d+)?(?:\/\d+)?)*)`
  const LINE = new RegExp(`^((?:${FIELD} ){4}${FIELD}) {2}(\\S+) {2}(.+)$`)
  const entries = (plan: SchedulePlan) =>
    cronFile(plan)
      .text.trimEnd()
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#') && !/^[A-Z_]+=\S+$/.test(line))
      .map((line) => {
        const [, time, user, command] = LINE.exec(line) ?? []
        if (!command) throw new Error(`no line of cron: ${line}`)
        return { time: time!, user, command }
      })
  /** As cron does: what stands behind a percent sign without a backslash would be the input. */
  const run = (command: string) => {
    expect(command).not.toMatch(/(?<!\\)%/)
    const env = { PATH: process.env.PATH, HOME: scratch.path }
    return spawnSync('/bin/sh', ['-c', command.replaceAll('\\%', '%')], { encoding: 'utf8', env })
  }

  test('every line does what it says, whatever names contain', () => {
    const plan = planFor(EVERYTHING)
    const found = entries(plan)
    expect(found).toHaveLength(plan.jobs.length + 1)
    const call = (...args: string[]) =>
      `${['--config', plan.configFile, '--cluster', 'main', ...args, '--quiet'].join('\n')}\n`
    expect(found.map(({ command }) => run(command))).toMatchObject(
      [
        call('backup', '--type', 'full') + call('retention'),
        call('backup', '--type', 'auto') + call('retention'),
        call('backup', '--method', 'logical') + call('retention'),
        call('verify', '--fraction', '5%'),
        call('check'),
        call('status'),
        call('report', '--output', '/srv/www/report.html'),
        call('wal-receive'),
      ].map((stdout) => ({ status: 0, stdout, stderr: '' })),
    )
    const text = cronFile(plan).text
    expect(text).toContain('\nMAILTO=dba@example.net\n')
    expect(text).toContain('\nCRON_TZ=Europe/Berlin\n')
    expect(cronFile({ ...plan, isOtherZone: false }).text).not.toContain('CRON_TZ')
  })

  test('a failure ends the line, and is said even by one who says nothing', async () => {
    const silent = await scratch.file('silent', '#!/bin/sh\nexit 7\n')
    chmodSync(silent, 0o755)
    const [full] = entries(planFor({}, { launcher: silent }))
    expect(run(full!.command)).toMatchObject({
      stdout: 'pgrecall, full backup of cluster main: exit code 7\n',
    })
  })

  test('minutes are spread over hosts, the same for all jobs of a host, and always the same', () => {
    const minutes = (host: string) =>
      entries(planFor({ full: '01:00', verify: { at: '02:00' }, status: false }, { host })).map(({ time }) =>
        Number(time.split(' ')[0]),
      )
    const all = Array.from({ length: 50 }, (_, number) => minutes(`db${number}`))
    expect(all.every(([first, ...rest]) => rest.every((minute) => minute === first))).toBe(true)
    expect(new Set(all.flat()).size).toBeGreaterThan(10)
    expect(Math.max(...all.flat())).toBeLessThanOrEqual(15)
    expect(minutes('db1')).toEqual(all[1])
    expect(entries(planFor({ jitter: '0', full: '01:00' }))[0]!.time).toBe('0 1 * * *')
  })
})

describe('systemd', () => {
  test('systemd-analyze finds nothing wrong, also with names that contain everything', async (context) => {
    const folder = await scratch.folder('units')
    for (const { name, text } of systemdUnits(planFor(EVERYTHING))) writeFileSync(join(folder, name), text)
    const units = (await readdir(folder)).map((name) => join(folder, name))
    const { stdout, stderr, error } = spawnSync('systemd-analyze', ['verify', '--man=no', ...units], {
      encoding: 'utf8',
    })
    if (error) return context.skip('systemd-analyze is not installed')
    // It may have to say something of the units of this machine; and before 254 it does not know one word.
    const said = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('pgrecall'))
    expect(said.filter((line) => !line.includes("Unknown key 'RestartMode'"))).toEqual([])
  })

  test('a failure is told, a busy cluster tried again, retention follows, and nothing else can be written', () => {
    const units = new Map(systemdUnits(planFor(EVERYTHING)).map(({ name, text }) => [name, text.split('\n')]))
    const full = units.get('pgrecall-main-full.service')
    expect(full).toEqual(
      expect.arrayContaining([
        'User=postgres',
        'OnFailure=pgrecall-main-alert@%N.service',
        'OnSuccess=pgrecall-main-retention.service',
        'RestartForceExitStatus=6',
        'ProtectSystem=strict',
        String.raw`ReadWritePaths="-/var/lib/it's 50%% $HOME \"q\" \\n: {a}"`,
      ]),
    )
    expect(full?.find((line) => line.startsWith('ExecStart='))).toContain(
      String.raw` --config "/etc/it's 50%% $$HOME \"q\" \\n: {a}.yaml" --cluster main `,
    )
    expect(units.get('pgrecall-main-full.timer')).toEqual(
      expect.arrayContaining([
        'OnCalendar=Sun *-*-* 00:30:00 Europe/Berlin',
        'RandomizedDelaySec=15min',
        'FixedRandomDelay=true',
        'Persistent=true',
      ]),
    )
    expect(units.get('pgrecall-main-status.timer')).not.toContain('Persistent=true')
    expect(units.get('pgrecall-main-verify.service')?.join('\n')).toMatch(/ verify --fraction 5%%$/m)
    expect(units.has('pgrecall-main-retention.timer')).toBe(false)
    expect(units.has('pgrecall-main-retention.service')).toBe(true)
    expect(units.get('pgrecall-main-receive.service')).toContain('WantedBy=multi-user.target')
    // A try again is no failure yet.
    expect(full).toContain('RestartMode=direct')
    const receiver = units.get('pgrecall-main-receive.service')
    expect(receiver).toContain('StartLimitIntervalSec=0')
    expect(receiver?.join('\n')).not.toContain('OnFailure=')
    expect(full).toContain('StartLimitBurst=60')
    const snapshot = systemdUnits(planFor({}, { needsRights: true }))
    expect(snapshot.some(({ text }) => text.includes('NoNewPrivileges'))).toBe(false)
  })
})

test('timers that the schedule has no more are told, and nobody else is', () => {
  const plan = planFor({ check: false, logical: false })
  const present = [
    'pgrecall-main-full.timer',
    'pgrecall-main-check.service',
    'pgrecall-main-check.timer',
    'pgrecall-main-receive.service',
    'pgrecall-main-shop-logical.timer',
    'other.timer',
  ]
  expect(formerUnits(plan, present)).toEqual(['pgrecall-main-check.timer', 'pgrecall-main-receive.service'])
  expect(formerUnits(planFor(EVERYTHING), present)).toEqual([])
})

test('however often a timer starts a unit, systemd does not take that for too often', () => {
  const often = { full: 'every 1h', incremental: false, logical: 'every 10min', status: 'every 1min' }
  const units = new Map(systemdUnits(planFor(often)).map(({ name, text }) => [name, text]))
  const limitOf = (name: string) =>
    Number(/^StartLimitBurst=(\d+)$/m.exec(units.get(`pgrecall-main-${name}.service`)!)?.[1])
  expect(limitOf('status')).toBeGreaterThan(6 * 60)
  expect(limitOf('logical')).toBe(60 + 36)
  // It follows both.
  expect(limitOf('retention')).toBe(60 + 6 + 36)
})

describe('Kubernetes', () => {
  const documents = (plan: SchedulePlan) =>
    parseAllDocuments(kubernetesManifest(plan).text).map((document) => {
      expect([...document.errors, ...document.warnings]).toEqual([])
      return document.toJS()
    })

  test('each job is a CronJob that runs alone, without rights, with what it needs', () => {
    const claims = { '/var/lib/postgresql/17/main': 'data-postgres-0' }
    const plan = planFor({ ...EVERYTHING, kubernetes: { image: 'registry.example.net/pgrecall:1', claims } })
    const all = documents(plan)
    const jobs = all.filter(({ kind }) => kind === 'CronJob')
    expect(jobs.map(({ metadata }) => metadata.name)).toEqual(
      plan.jobs.map(({ name }) => `pgrecall-main-${name}`),
    )
    for (const { apiVersion, spec } of jobs) {
      expect(apiVersion).toBe('batch/v1')
      expect(spec).toMatchObject({
        schedule: expect.stringMatching(/^[\d*/,-]+( [\d*/,-]+){4}$/),
        timeZone: 'Europe/Berlin',
        concurrencyPolicy: 'Forbid',
        jobTemplate: { spec: { backoffLimit: 6 } },
      })
    }
    const pods = all.map(({ spec }) => (spec.jobTemplate?.spec ?? spec).template.spec)
    for (const pod of pods) {
      expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 999 })
      expect(pod.securityContext.fsGroup).toBeUndefined()
      const volumes = pod.volumes.map(({ name }: { name: string }) => name)
      for (const container of [...(pod.initContainers ?? []), ...pod.containers]) {
        expect(container.image).toBe('registry.example.net/pgrecall:1')
        expect(container.securityContext.readOnlyRootFilesystem).toBe(true)
        expect(container.envFrom).toEqual([{ secretRef: { name: 'pgrecall-secrets', optional: true } }])
        expect(container.volumeMounts.map(({ name }: { name: string }) => name).toSorted()).toEqual(
          volumes.toSorted(),
        )
      }
      expect(pod.volumes).toContainEqual({
        name: 'data-main',
        persistentVolumeClaim: { claimName: 'data-postgres-0', readOnly: true },
      })
    }
    const [full] = pods
    expect(full.restartPolicy).toBe('OnFailure')
    expect(full.initContainers[0].args.slice(2)).toEqual(['--cluster', 'main', 'backup', '--type', 'full'])
    expect(full.containers[0].args.slice(2)).toEqual(['--cluster', 'main', 'retention'])
    expect(all.at(-1)).toMatchObject({
      kind: 'Deployment',
      spec: { replicas: 1, strategy: { type: 'Recreate' } },
    })
  })

  test('what shares a folder shares a volume, and nothing is put where a pod has something of its own', () => {
    const share = (path: string) =>
      planFor(
        {},
        { writes: [...planFor({}).writes, { name: 'report', path }, { name: 'log', path: `${path}/` }] },
      )
    const [full] = documents(share('/srv/www'))
    const { containers, volumes } = full.spec.jobTemplate.spec.template.spec
    const paths = containers[0].volumeMounts.map(({ mountPath }: { mountPath: string }) => mountPath)
    expect(paths.filter((path: string) => path.startsWith('/srv/www'))).toEqual(['/srv/www'])
    expect(volumes).toHaveLength(paths.length)
    expect(() => documents(share('/tmp'))).toThrow('a pod has a /tmp of its own')
    expect(() => documents(share('/etc/pgrecall'))).toThrow('of its own')
  })

  test('names of objects are short and valid, and differ where those of clusters do', () => {
    const names = ['Main_1', 'main-1', 'M'.repeat(63), `${'M'.repeat(62)}N`].flatMap((cluster) =>
      documents(planFor({}, { cluster })).map(({ metadata }) => metadata.name),
    )
    for (const name of names) expect(name).toMatch(/^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])$/)
    expect(new Set(names).size).toBe(names.length)
  })
})

test('the command writes the files for everybody to read, for the user who owns the data directory', async () => {
  const dataDirectory = await scratch.folder('data')
  const folder = await scratch.folder('out')
  const config = structuredClone(CONFIG)
  config.clusters.main.dataDirectory = dataDirectory
  const repository = join(scratch.path, 'not-there-yet')
  config.repositories.local.path = repository
  const file = await scratch.file('config.yaml', stringify(config))
  const args = ['--config', file, 'schedule', 'print']
  const written = await pgrecall([...args, '--systemd', '--output', folder])
  expect(written).toMatchObject({ exitCode: 0, stderr: '' })
  expect(written.stdout).toContain('systemctl enable --now pgrecall-main-full.timer')
  // systemd lets a service write to a folder, but not make it.
  const user = spawnSync('stat', ['-c', '%U', dataDirectory], { encoding: 'utf8' }).stdout.trim()
  expect(written.stdout).toContain(`\nMake these folders first, in which ${user} can write: ${repository}\n`)
  const unit = join(folder, 'pgrecall-main-full.service')
  expect((await stat(unit)).mode & 0o777).toBe(0o644)
  const text = await readFile(unit, 'utf8')
  expect(text).toContain(`\nUser=${user}\n`)
  expect(text).toContain(` --config ${file} --cluster main backup --type full\n`)
  expect(text).toContain(`\nReadWritePaths=-${repository}\n`)

  expect(await pgrecall(args)).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--systemd') })
  expect(await pgrecall([...args, '--systemd', '--cron'])).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining('not for systemd and cron at once'),
  })
  await mkdir(join(scratch.path, 'bare'))
  expect(await pgrecall(['schedule', 'print', '--cron'], { home: join(scratch.path, 'bare') })).toMatchObject(
    {
      exitCode: 3,
    },
  )
})

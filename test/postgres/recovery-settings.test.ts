import { execFileSync } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  quoteForRestoreCommand,
  type RecoveryOptions,
  recoverySettings,
  withoutRecoverySettings,
} from '../../src/postgres/recovery-settings.ts'
import { findPrograms } from '../lab/programs.ts'
import { Scratch } from '../lab/scratch.ts'
import { asLabUser } from '../lab/user.ts'

const options = (more: Partial<RecoveryOptions> = {}): RecoveryOptions => ({
  majorVersion: 17,
  restoreCommand: 'fetch %f %p',
  target: { kind: 'end' },
  exclusive: false,
  action: 'pause',
  timeline: 'latest',
  standby: false,
  endsBeforeHole: false,
  archiveMode: 'preserve',
  ...more,
})
const settings = (more: Partial<RecoveryOptions>) =>
  Object.fromEntries(
    recoverySettings(options(more)).lines.map((line) => line.split(' = ') as [string, string]),
  )

describe('the target', () => {
  const always = { restore_command: `'fetch %f %p'`, recovery_target_timeline: `'latest'` }
  test.each<[RecoveryOptions['target'], Record<string, string>]>([
    [{ kind: 'end' }, {}],
    [{ kind: 'immediate' }, { recovery_target: `'immediate'`, recovery_target_action: `'pause'` }],
    [
      { kind: 'time', time: '2026-11-20 17:29:00.5+00' },
      { recovery_target_time: `'2026-11-20 17:29:00.5+00'`, recovery_target_action: `'pause'` },
    ],
    [
      { kind: 'lsn', lsn: '16/B374D848' },
      { recovery_target_lsn: `'16/B374D848'`, recovery_target_action: `'pause'` },
    ],
    [
      { kind: 'xid', xid: '750' },
      { recovery_target_xid: `'750'`, recovery_target_action: `'pause'` },
    ],
    [
      { kind: 'name', name: "it's" },
      { recovery_target_name: `'it''s'`, recovery_target_action: `'pause'` },
    ],
  ])('%o', (target, expected) => {
    const { recovery_target_inclusive: _, ...own } = settings({ target })
    const said = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== "''"))
    expect(said).toEqual({ ...always, ...expected })
  })

  test('takes back every other one that postgresql.conf may hold, before its own: the server allows one', () => {
    const { lines } = recoverySettings(options({ target: { kind: 'lsn', lsn: '0/1' } }))
    const targets = lines.filter((line) => /^recovery_target(?:_time|_lsn|_xid|_name)? =/.test(line))
    expect(targets).toEqual([
      "recovery_target = ''",
      "recovery_target_time = ''",
      "recovery_target_xid = ''",
      "recovery_target_name = ''",
      "recovery_target_lsn = '0/1'",
    ])
    expect(settings({ target: { kind: 'end' } }).recovery_target_time).toBe("''")
    expect(settings({ majorVersion: 11 })).not.toHaveProperty('recovery_target_time')
  })

  test('whether the target counts in is said where PostgreSQL can leave it out, and nowhere else', () => {
    const kinds: RecoveryOptions['target'][] = [
      { kind: 'end' },
      { kind: 'immediate' },
      { kind: 'name', name: 'x' },
      { kind: 'time', time: 'x' },
      { kind: 'lsn', lsn: 'x' },
      { kind: 'xid', xid: 'x' },
    ]
    const said = kinds.filter(
      (target) => 'recovery_target_inclusive' in settings({ target, exclusive: true }),
    )
    expect(said.map(({ kind }) => kind)).toEqual(['time', 'lsn', 'xid'])
    expect(settings({ target: kinds[3]!, exclusive: true }).recovery_target_inclusive).toBe(`'off'`)
    expect(settings({ target: kinds[3]! }).recovery_target_inclusive).toBe(`'on'`)
  })
})

test('before a hole the server reads nothing ahead, from 15 on, which can', () => {
  expect(settings({ endsBeforeHole: true }).recovery_prefetch).toBe(`'off'`)
  expect(settings({})).not.toHaveProperty('recovery_prefetch')
  expect(settings({ majorVersion: 14, endsBeforeHole: true })).not.toHaveProperty('recovery_prefetch')
})

describe('where the settings stand', () => {
  test.each([12, 17])('from 12 on in postgresql.auto.conf, with a signal file (%d)', (majorVersion) => {
    expect(recoverySettings(options({ majorVersion }))).toMatchObject({
      file: 'postgresql.auto.conf',
      signalFile: 'recovery.signal',
    })
    expect(recoverySettings(options({ majorVersion, standby: true }))).toMatchObject({
      signalFile: 'standby.signal',
    })
    expect(settings({ majorVersion, standby: true })).not.toHaveProperty('standby_mode')
    expect(settings({ majorVersion, timeline: 'current' }).recovery_target_timeline).toBe(`'current'`)
  })

  test.each([9, 11])('before 12 in recovery.conf (%d)', (majorVersion) => {
    expect(recoverySettings(options({ majorVersion }))).toMatchObject({
      file: 'recovery.conf',
      signalFile: undefined,
    })
    expect(settings({ majorVersion, standby: true }).standby_mode).toBe(`'on'`)
    expect(settings({ majorVersion })).not.toHaveProperty('standby_mode')
    expect(settings({ majorVersion, timeline: 'current' })).not.toHaveProperty('recovery_target_timeline')
    expect(settings({ majorVersion, timeline: 'latest' }).recovery_target_timeline).toBe(`'latest'`)
    expect(settings({ majorVersion, timeline: 3 }).recovery_target_timeline).toBe(`'3'`)
  })
})

test('the settings of an earlier recovery go, and everything else stays', () => {
  const kept = ["shared_buffers = '1GB'", '# restore_command is below', "my.restore_command = 'x'", '']
  const gone = [
    "restore_command = 'x'",
    "  RESTORE_COMMAND='x'",
    "recovery_target = 'immediate'",
    "recovery_target_time = '2026-01-01'",
    "recovery_target_action = 'pause'",
    "recovery_target_timeline = 'latest'",
    "recovery_prefetch = 'off'",
    "standby_mode = 'on'",
    "recovery_end_command = 'x'",
    "archive_cleanup_command = 'x'",
    "primary_conninfo = 'host=the-old-primary'",
    "primary_slot_name = 'x'",
  ]
  const mixed = [kept[0], ...gone.slice(0, 4), kept[1], kept[2], ...gone.slice(4), kept[3]].join('\n')
  expect(withoutRecoverySettings(mixed)).toBe(kept.join('\n'))
})

const PATHS = [
  '/usr/bin/pgrecall',
  '/srv/my tools/pgrecall',
  "/srv/it's mine/pgrecall",
  '/srv/100%/pgrecall',
  '/srv/%p/%f',
  '/srv/"quoted"/$HOME/`id`/*',
  '/srv/Größe',
  '/srv/back\\slash',
  "/srv/'\\''",
]

describe('a path inside the restore_command', () => {
  test.each(PATHS)('comes to the shell as it is: %s', (path) => {
    // PostgreSQL makes one percent sign of two, and hands the rest to sh.
    const command = `printf %s ${quoteForRestoreCommand(path).replaceAll('%%', '%')}`
    expect(execFileSync('sh', ['-c', command], { encoding: 'utf8' })).toBe(path)
    expect(quoteForRestoreCommand(path).replaceAll('%%', '')).not.toContain('%')
  })

  const programs = findPrograms()
  // Where CI is set, a missing server is a failure.
  describe.runIf(programs || process.env.CI)('is understood by the server as it was meant', () => {
    let scratch: Scratch
    beforeAll(async () => {
      scratch = await Scratch.create('settings')
    })
    afterAll(() => scratch[Symbol.asyncDispose]())

    test.each(PATHS)('%s', async (path) => askServer(path))

    async function askServer(path: string): Promise<void> {
      const restoreCommand = `${quoteForRestoreCommand(path)} wal-fetch %f "%p"`
      const { lines } = recoverySettings(options({ restoreCommand }))
      const file = await scratch.file('postgresql.conf', `${lines.join('\n')}\n`)
      const args = ['-C', 'restore_command', '-D', scratch.path, '-c', `config_file=${file}`]
      const output = execFileSync(programs!.path('postgres'), args, {
        ...asLabUser,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      expect(output.replace(/\n$/, '')).toBe(restoreCommand)
    }
  })
})

import { describe, expect, test } from 'vitest'
import { type ArchivingFacts, judgeArchiving } from '../../src/checks/archiving.ts'
import { judgeDumpRights, judgeUnlogged } from '../../src/checks/databases.ts'
import { type Finding, lookInto, pass, together, warn } from '../../src/checks/finding.ts'
import { judgeNode, judgeProgram } from '../../src/checks/programs.ts'
import { judgeProof } from '../../src/checks/proof.ts'
import { purposeOf } from '../../src/checks/purpose.ts'
import { mayArrive } from '../../src/checks/segment.ts'
import { judgeSettings, type SettingFacts } from '../../src/checks/settings.ts'
import { judgeSlots } from '../../src/checks/slots.ts'
import { archivedRate, judgeRepositorySpace, judgeWalDisk } from '../../src/checks/space.ts'
import { judgePrepared } from '../../src/checks/transactions.ts'
import { judgeClock } from '../../src/storage/probe.ts'

const said = (findings: readonly Finding[]) => findings.map(({ verdict, text }) => `${verdict} ${text}`)
const verdicts = (findings: readonly Finding[]) =>
  findings.map(({ verdict, subject }) => `${verdict} ${subject}`)
const MIB = 1024 * 1024
const DAY = 24 * 3600

test('what is fine of a subject is one line, what is not has lines of its own', () => {
  const findings = [pass('a', 'one'), warn('b', 'two', 'mend'), pass('c', 'three')]
  expect(together('all', findings)).toEqual([pass('all', 'one; three'), findings[1]])
  expect(together('all', [findings[1]!])).toEqual([findings[1]])
})

test('what cannot be asked is a warning, and a stop is a stop', async () => {
  const fails = () => Promise.reject(new Error('permission denied'))
  const { signal } = new AbortController()
  expect(said(await lookInto('x', signal, fails))).toEqual(['warn could not be looked at: permission denied'])
  await expect(lookInto('x', AbortSignal.abort(new Error('stopped')), fails)).rejects.toThrow('stopped')
})

describe('archiving', () => {
  const WELL: ArchivingFacts = {
    inRecovery: false,
    archiveMode: 'on',
    archiveLibrary: '',
    archiveTimeout: 60,
    isReceived: false,
    failures: 0,
    failedAgo: undefined,
    failedFile: undefined,
    archivedAgo: 10,
    waiting: { segments: 0, oldestSeconds: 0 },
  }
  const FILE = '0000000100000000000000AA'
  const judge = (facts: Partial<ArchivingFacts>, isNeeded = true) =>
    verdicts(judgeArchiving({ ...WELL, ...facts }, isNeeded)).filter((line) => !line.startsWith('pass'))

  test.each<[string, Partial<ArchivingFacts>, string[]]>([
    ['works', {}, []],
    ['is off', { archiveMode: 'off' }, ['fail archive_mode']],
    ['is done by wal-receive', { archiveMode: 'off', isReceived: true }, []],
    ["is a library's", { archiveLibrary: 'basic_archive' }, ['warn archive_library']],
    ['has no timeout', { archiveTimeout: 0 }, ['warn archive_timeout']],
    ['has no timeout, and what is written is received', { archiveTimeout: 0, isReceived: true }, []],
    ['fails now', { failedAgo: 5, failedFile: FILE }, ['fail archiver']],
    ['never worked', { failedAgo: 5, failedFile: FILE, archivedAgo: undefined }, ['fail archiver']],
    ['failed today', { failedAgo: 3600, failedFile: FILE, failures: 3 }, ['warn archiver']],
    ['failed long ago', { failedAgo: 2 * DAY, failedFile: FILE, failures: 3 }, []],
    ['is slow', { waiting: { segments: 9, oldestSeconds: 400 } }, ['warn archiver']],
    ['is far behind', { waiting: { segments: 99, oldestSeconds: 4000 } }, ['fail archiver']],
    ["is a standby's", { inRecovery: true, archiveMode: 'on', archiveTimeout: 0 }, []],
    ['is off on a standby', { inRecovery: true, archiveMode: 'off' }, ['warn archive_mode']],
  ])('%s', (_what, facts, expected) => {
    expect(judge(facts)).toEqual(expected)
  })

  test('is off, and only dumps or cold backups are taken', () => {
    expect(judge({ archiveMode: 'off' }, false)).toEqual(['warn archive_mode'])
  })
})

test('a segment is not waited for where it cannot come, or cannot be ended', () => {
  const finding = (verdict: Finding['verdict'], subject: string): Finding => ({ verdict, subject, text: '' })
  expect(mayArrive([finding('fail', 'backup'), finding('warn', 'archive_command')])).toBe(true)
  for (const told of [
    finding('fail', 'archive_command'),
    finding('fail', 'archive_mode'),
    finding('warn', 'archive_mode'),
    finding('warn', 'archive'),
  ])
    expect(mayArrive([told])).toBe(false)
})

describe('settings', () => {
  const facts = (changes: Record<string, string>, rest: Partial<SettingFacts> = {}): SettingFacts => ({
    version: 170_000,
    inRecovery: false,
    settings: new Map(
      Object.entries({
        wal_level: 'replica',
        fsync: 'on',
        data_checksums: 'on',
        summarize_wal: 'on',
        ...changes,
      }),
    ),
    fullPageWrites: true,
    targets: [],
    ...rest,
  })
  const judge = (of: SettingFacts, archived = true) =>
    verdicts(judgeSettings(of, { archived, withoutSummaries: 'all is read' })).filter(
      (line) => !line.startsWith('pass'),
    )

  test('are as they should be, or not', () => {
    expect(judge(facts({}))).toEqual([])
    expect(judge(facts({ wal_level: 'minimal' }))).toEqual(['fail wal_level'])
    expect(judge(facts({ wal_level: 'minimal' }), false)).toEqual([])
    expect(judge(facts({ summarize_wal: 'off' }))).toEqual(['warn summarize_wal'])
    expect(judge(facts({ fsync: 'off', data_checksums: 'off' }))).toEqual([
      'warn fsync',
      'warn data checksums',
    ])
  })

  test('of a standby: its primary writes no whole pages, and a target that ends the replay', () => {
    expect(judge(facts({}, { fullPageWrites: false }))).toEqual(['warn full_page_writes'])
    const standby = { inRecovery: true, fullPageWrites: false }
    const targets = [{ name: 'recovery_target_lsn', file: '/etc/postgresql/postgresql.conf' }]
    expect(judge(facts({}, { ...standby, targets }))).toEqual([
      'fail full_page_writes',
      'warn recovery target',
    ])
  })

  test('are mended where they stand', () => {
    const hintOf = (of: SettingFacts) =>
      judgeSettings(of, { archived: true, withoutSummaries: undefined }).find(({ hint }) => hint)?.hint
    const target = (file: string | undefined) =>
      facts({}, { targets: [{ name: 'recovery_target_time', file }] })
    expect(hintOf(target('/data/postgresql.auto.conf'))).toBe('ALTER SYSTEM RESET recovery_target_time;')
    expect(hintOf(target('/etc/p.conf'))).toBe('remove recovery_target_time from /etc/p.conf')
    const off = { data_checksums: 'off', data_directory: '/data' }
    expect(hintOf(facts(off))).toBe('while the server is shut down: pg_checksums --enable -D /data')
    expect(hintOf(facts(off, { version: 110_000 }))).toBe(
      'a new cluster can have them: initdb --data-checksums',
    )
  })
})

test('slots: who receives is fine; who does not is dropped by a command; what is lost is told', () => {
  const slot = { name: 'standby', active: false, heldBytes: 5 * MIB, isLost: false }
  const judge = (...slots: Partial<typeof slot>[]) =>
    judgeSlots(
      slots.map((changes) => ({ ...slot, ...changes })),
      'pgrecall',
      undefined,
    )
  expect(verdicts(judge({ active: true }))).toEqual(['pass slots'])
  expect(judge({})).toEqual([
    warn(
      'slots',
      'nobody receives through slot "standby", for which pg_wal keeps 5.0 MiB and all that comes, until its disk is full',
      `start who uses it; or give it up: SELECT pg_drop_replication_slot('standby');`,
    ),
  ])
  expect(judge({ name: 'pgrecall' })[0]!.hint).toContain('pgrecall wal-receive --drop-slot')
  expect(verdicts(judge({ isLost: true }, { isLost: true, name: 'pgrecall' }))).toEqual([
    'warn slots',
    'fail slots',
  ])
})

describe('space', () => {
  test.each([
    [undefined, 1, 1, []],
    [100, 10, 50, ['pass']],
    [20, 10, 50, ['warn']],
    [5, 10, 50, ['fail']],
  ] as const)(
    'in a repository with %s MiB, a last backup of %s and a full one of %s',
    (free, newest, full, expected) => {
      const facts = {
        repository: 'local',
        freeBytes: free && free * MIB,
        newestBytes: newest * MIB,
        newestFullBytes: full * MIB,
        dataBytes: 1,
      }
      expect(judgeRepositorySpace(facts).map(({ verdict }) => verdict)).toEqual(expected)
    },
  )

  test.each([
    [60, 'pass'],
    [40, 'warn'],
    [5, 'fail'],
  ] as const)('for a first backup of 100 MiB, with %s MiB', (free, expected) => {
    const none = { repository: 'local', newestBytes: undefined, newestFullBytes: undefined }
    const [finding] = judgeRepositorySpace({ ...none, freeBytes: free * MIB, dataBytes: 100 * MIB })
    expect(finding!.verdict).toBe(expected)
  })

  const DISK = {
    freeBytes: 10_000 * MIB,
    walBytes: 160 * MIB,
    segmentBytes: 16 * MIB,
    bytesPerSecond: 1024,
    maxWalBytes: 1024 * MIB,
    slotBytes: undefined,
    queueBytes: undefined,
  }
  test.each([
    [{}, ['pass']],
    [{ freeBytes: 100 * MIB }, ['fail']],
    [{ maxWalBytes: 20_000 * MIB }, ['warn']],
    [{ slotBytes: 20_000 * MIB }, ['warn']],
    [{ queueBytes: 20_000 * MIB }, ['warn']],
    [{ bytesPerSecond: MIB }, ['warn']],
    [{ bytesPerSecond: 10 * MIB }, ['fail']],
    [{ bytesPerSecond: undefined }, ['pass']],
  ])('for pg_wal: %o', (changes, expected) => {
    expect(judgeWalDisk({ ...DISK, ...changes }).map(({ verdict }) => verdict)).toEqual(expected)
  })

  test('the rate of WAL is that of the newest run, once it is long enough', () => {
    const run = (newestStoredAt: string) => ({
      wal: [
        {
          timeline: 1,
          hasHistory: false,
          ranges: [
            {
              first: '',
              last: '',
              segments: 225,
              storedBytes: 1,
              firstStoredAt: '2026-11-20T00:00:00Z',
              newestStoredAt,
            },
          ],
        },
      ],
      walSegmentBytes: 16 * MIB,
    })
    expect(archivedRate([run('2026-11-20T02:00:00Z')])).toBe(MIB / 2)
    expect(archivedRate([run('2026-11-20T00:10:00Z'), { wal: [], walSegmentBytes: 1 }])).toBeUndefined()
  })
})

describe('proof', () => {
  const now = new Date('2026-11-20T00:00:00Z')
  const stored = { backups: [{}], logical: [], damaged: [] } as unknown as Parameters<typeof judgeProof>[1]
  const restore = (finishedAt: string, outcome: 'proven' | 'failed' | 'unproven' = 'proven') => ({
    backup: '20261101T000000Z-full',
    finishedAt,
    outcome,
  })
  const judge = (verifications: Parameters<typeof judgeProof>[2], of = stored) =>
    said(judgeProof('local', of, verifications, now))

  const READ = 'pass what was read back longest ago was 24 h ago'
  const known = { damaged: [], oldestAt: '2026-11-19T00:00:00Z' }

  test('is what was read back and restored, and not too long ago', () => {
    expect(judge(undefined)).toEqual([
      'warn what is stored was never read back',
      'warn no restore was verified yet',
    ])
    const recent = restore('2026-11-18T00:00:00Z')
    expect(judge({ ...known, lastRestore: recent, lastProvenRestore: recent })).toEqual([
      READ,
      'pass 20261101T000000Z-full was restored and found right 2 days ago',
    ])
    const old = restore('2026-10-01T00:00:00Z')
    expect(
      judge({ damaged: [], oldestAt: old.finishedAt, lastRestore: old, lastProvenRestore: old }),
    ).toEqual([
      'warn what was read back longest ago was 50 days ago',
      expect.stringMatching(/^warn .* 50 days ago, and nothing in the last 30 days$/),
    ])
    const failed = restore('2026-11-19T12:00:00Z', 'failed')
    expect(judge({ ...known, lastRestore: failed, lastProvenRestore: recent })).toEqual([
      READ,
      'fail the last try to restore, of 20261101T000000Z-full, failed 12 h ago',
    ])
    // A host that lacked what the restore needs says nothing of the backup.
    const unproven = restore('2026-11-19T12:00:00Z', 'unproven')
    expect(judge({ ...known, lastRestore: unproven, lastProvenRestore: recent })[1]).toMatch(/^pass/)
  })

  test('is spoiled by damage, and is nothing without a backup', () => {
    const damaged = [{ key: 'main/backups/x/base.0001.tar.zst', reason: 'other bytes', foundAt: '' }]
    expect(judge({ damaged })[0]).toBe(
      'fail 1 stored object was found damaged, such as main/backups/x/base.0001.tar.zst: other bytes',
    )
    expect(judge(undefined, { ...stored, backups: [] })).toEqual(['warn there is no backup yet'])
    expect(judge(undefined, { ...stored, damaged: [{ id: 'x', reason: 'torn' }] })[0]).toMatch(
      /^fail backup x cannot/,
    )
  })
})

test('unlogged tables are named, with how many there are', () => {
  const shop = {
    database: 'shop',
    unlogged: [{ name: 'public.a', bytes: 1024 }],
    unloggedCount: 3,
    unloggedBytes: 4096,
    undumpable: undefined,
  }
  expect(said(judgeUnlogged([shop], ['shut']))).toEqual([
    'warn 3 unlogged tables in "shop" (about 4.0 KiB) come back empty: public.a and 2 more',
    'warn database "shut" could not be looked into',
  ])
  expect(said(judgeUnlogged([{ ...shop, unlogged: [], unloggedCount: 0 }], []))).toEqual([
    'pass no table is unlogged',
  ])
})

test('a role that may dump all, and one that lacks a right by version', () => {
  const facts = { database: 'shop', unlogged: [], unloggedCount: 0, unloggedBytes: 0 }
  const may = { ...facts, undumpable: undefined }
  const mayNot = { ...facts, undumpable: { name: 'public.a', schema: 'public', count: 2 } }
  const judge = (version: number) => judgeDumpRights([mayNot], [], { role: '"poor"', version })[0]!
  expect(said(judgeDumpRights([may], [], { role: '"poor"', version: 150_000 }))).toEqual([
    'pass the role may dump all databases',
  ])
  expect(judge(150_000).hint).toContain('GRANT pg_read_all_data TO "poor"')
  expect(judge(130_000).hint).toContain('GRANT SELECT ON ALL TABLES IN SCHEMA public TO "poor";')
})

test('prepared transactions are forgotten after a day', () => {
  const judge = (ageSeconds: number) => said(judgePrepared([{ gid: "it's", database: 'shop', ageSeconds }]))
  expect(judge(3600)).toEqual(['pass no prepared transaction was forgotten'])
  expect(judge(3 * DAY)).toEqual([
    expect.stringMatching(/^warn transaction 'it's' in "shop" has been prepared for 3 days/),
  ])
})

test('programs: Node, and what the server needs', () => {
  expect(['22.14.0', '22.15.0', '24.0.0', '20.20.1'].map((version) => judgeNode(version).verdict)).toEqual([
    'fail',
    'pass',
    'pass',
    'fail',
  ])
  expect(judgeProgram('pg_dump', undefined, 17, 'logical backups')).toMatchObject({
    verdict: 'fail',
    hint: expect.stringContaining('postgresql-client-17'),
  })
})

test.each([
  [2000, 'pass', /behind the store's$/],
  [-60_000, 'warn', /ahead of the store's$/],
  [16 * 60_000, 'fail', /960 s behind the store's$/],
] as const)('a clock that is off by %s ms', (ahead, verdict, text) => {
  expect(judgeClock(ahead, "the store's", 'locks go by it')).toMatchObject({
    verdict,
    text: expect.stringMatching(text),
  })
})

test('what a cluster is backed up for, by its configuration and what is stored', () => {
  const of = (method: string, retention: object, backups: number, logical: number) =>
    purposeOf({ backup: { method }, retention } as Parameters<typeof purposeOf>[0], [
      { backups: Array(backups).fill({}), logical: Array(logical).fill({}) },
    ])
  expect(of('files', {}, 0, 0)).toEqual({ physical: true, logical: false, archived: true })
  expect(of('files', { logical: 3 }, 0, 5)).toEqual({ physical: false, logical: true, archived: false })
  expect(of('files', { logical: 3, full: 2 }, 0, 5)).toEqual({
    physical: true,
    logical: true,
    archived: true,
  })
  expect(of('files', {}, 1, 5)).toEqual({ physical: true, logical: true, archived: true })
  expect(of('cold', {}, 1, 0)).toEqual({ physical: true, logical: false, archived: false })
})

import { expect, test } from 'vitest'
import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import type { Catalog } from '../../src/catalog/catalog.ts'
import { chainOf } from '../../src/catalog/chain.ts'
import { KnownDamage } from '../../src/catalog/known-damage.ts'
import { lacksHistory, segmentNumberOf } from '../../src/catalog/wal-ranges.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import type { Situation } from '../../src/retention/holds.ts'
import { planRetention, type RetentionPlan } from '../../src/retention/plan.ts'
import type { RetentionRules } from '../../src/retention/rules.ts'
import { SEGMENT } from '../catalog/stored.ts'
import { type Archive, randomArchive, walOf } from './random-archive.ts'
import { wantersOf, ZONES } from './rules-as-written.ts'
import { newestFirst, newestWay, type Ways, waysIn } from './ways.ts'

const HISTORIES = 10_000
const BLOCKS = 10
const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

test.each(Array.from({ length: BLOCKS }, (_, block) => block))(
  'of ten thousand random histories the promised window stays recoverable, nothing kept loses what it needs, and nothing else stays: part %d',
  (block) => {
    for (let index = 0; index < HISTORIES / BLOCKS; index++) {
      const seed = 1 + block + index * BLOCKS
      const complaints = complaintsOf(seed)
      if (complaints.length > 0) expect(complaints, `seed ${seed}`).toEqual([])
    }
  },
)

/** A history with a question about it, its answer, and what was and will be stored. */
interface Case {
  archive: Archive
  rules: RetentionRules
  situation: Situation
  plan: RetentionPlan
  staying: BackupSummary[]
  /** What is stored when the plan is carried out. */
  after: Catalog
  /** To where one could go back before, can after it, and could with the backups that stay and all WAL. */
  ways: Record<'before' | 'after' | 'withAllWal', Ways>
}

function complaintsOf(seed: number): string[] {
  const asked = caseOf(seed)
  return [
    ...sameAgain(asked),
    ...lostLinks(asked),
    ...lostWal(asked),
    ...lostMoments(asked),
    ...lostEnd(asked),
    ...lostMinimum(asked),
    ...wrongVerdicts(asked),
    ...wrongRecovery(asked),
  ]
}

function caseOf(seed: number): Case {
  const archive = randomArchive(seed)
  const { catalog, timelines } = archive
  const rules = randomRules(archive)
  const situation = randomSituation(archive)
  const plan = planRetention(catalog, rules, situation)
  const staying = catalog.backups.filter((_, index) => plan.backups[index]!.stays)
  const gone = new Set(
    plan.wal.flatMap(({ timeline, first, last }) => {
      const [from, to] = [numberOf(first), numberOf(last)]
      return Array.from({ length: to - from + 1 }, (_, index) => `${timeline}/${from + index}`)
    }),
  )
  const wal = timelines
    .filter(({ timeline }) => catalog.wal.some((entry) => entry.timeline === timeline))
    .map((timeline) => {
      const isLost = !catalog.wal.find((entry) => entry.timeline === timeline.timeline)!.hasHistory
      const segments = timeline.segments.filter(({ number }) => !gone.has(`${timeline.timeline}/${number}`))
      return walOf({ ...timeline, segments }, isLost)
    })
  const after = { ...catalog, backups: staying, wal }
  const ways = {
    before: waysIn(catalog, timelines, situation.damage),
    after: waysIn(after, timelines, situation.damage),
    withAllWal: waysIn({ ...catalog, backups: staying }, timelines, situation.damage),
  }
  return { archive, rules, situation, plan, staying, after, ways }
}

function randomRules({ below }: Archive): RetentionRules {
  const sometimes = <T>(outOf: number, value: () => T) => (below(outOf) === 0 ? value() : undefined)
  const full = sometimes(2, () => 1 + below(4))
  return {
    full,
    diff: full && sometimes(3, () => 1 + below(2)),
    incr: full && sometimes(3, () => 1 + below(3)),
    window: sometimes(2, () => HOUR + below(20 * DAY)),
    daily: sometimes(4, () => 1 + below(7)),
    weekly: sometimes(4, () => 1 + below(4)),
    monthly: sometimes(4, () => 1 + below(4)),
    yearly: sometimes(4, () => 1 + below(2)),
    timeZone: ZONES[below(ZONES.length)]!.timeZone,
    wal: sometimes(2, () => HOUR + below(20 * DAY)),
    minimum: sometimes(3, () => 1 + below(3)),
  }
}

function randomSituation({ catalog, end, below }: Archive): Situation {
  const { backups } = catalog
  const wrong = [0, Date.UTC(2036, 0, 1), end - below(60) * DAY, end + below(60) * DAY]
  const now = new Date(below(3) === 0 ? wrong[below(wrong.length)]! : end + 2 * MINUTE + below(10 * DAY))
  const some = (outOf: number) => backups.filter(() => below(outOf) === 0)
  return {
    now,
    readers: some(14).map(({ id }) => ({ backup: id, purpose: 'restore' })),
    pinned: some(12).map(({ id }) => ({
      backup: id,
      reason: 'audit',
      until: [undefined, new Date(now.getTime() + DAY), new Date(now.getTime() - DAY)][below(3)],
    })),
    locks: new Map(some(16).map(({ id }) => [id, new Date('2099-01-01T00:00:00Z')])),
    damage: new KnownDamage(catalog, { damaged: below(4) > 0 ? [] : some(5).map(anyDamage) }),
  }
}

const anyDamage = ({ id }: BackupSummary, index: number) => ({
  key: `main/backups/${id}/base.0001.${index % 3 === 0 ? 'index.jsonl' : 'tar'}.zst`,
  reason: 'its bytes are not those that were stored',
  foundAt: '2026-11-20T12:00:00Z',
})

/** The same question has the same answer, and asking changes nothing. */
function sameAgain({ archive: { catalog }, rules, situation, plan }: Case): string[] {
  const before = textOf(catalog)
  const again = planRetention(catalog, rules, situation)
  const complaints = textOf(again) === textOf(plan) ? [] : ['another plan the second time']
  return textOf(catalog) === before ? complaints : [...complaints, 'the catalog was changed']
}

const textOf = (value: unknown) =>
  JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part))

/** What a kept backup builds upon is kept. */
function lostLinks({ archive: { catalog }, staying }: Case): string[] {
  return staying
    .filter((backup) => chainOf(staying, backup).missing !== chainOf(catalog.backups, backup).missing)
    .map(({ id }) => `${id} lost what it builds upon`)
}

/** Each kept backup still has the WAL that makes it consistent, and nothing is missing that was there; status says the same. */
function lostWal({ archive: { catalog }, staying, after, ways }: Case): string[] {
  const [had, has] = [storedIn(catalog), storedIn(after)]
  const lost = staying.flatMap((backup) => {
    const { timeline, start, stop, standalone, id } = backup
    if (standalone) return []
    const [first, last] = [numberOf(start.walFile), numberOf(stop.walFile)]
    return Array.from({ length: last - first + 1 }, (_, index) => `${timeline}/${first + index}`)
      .filter((segment) => had.has(segment) && !has.has(segment))
      .map((segment) => `${id} lost ${segment}`)
  })
  // Of a timeline whose history is lost, `status` knows a way only as long as a later one has WAL.
  const lostHistories = new Set(catalog.wal.filter(lacksHistory).map(({ timeline }) => timeline))
  const broken = staying
    .filter(({ timeline }) => !lostHistories.has(timeline))
    .filter(({ id }) => ways.after.unusable.has(id) && !ways.before.unusable.has(id))
    .map(({ id }) => `${id} cannot be recovered any more`)
  return [...lost, ...broken]
}

function storedIn({ wal }: Catalog): Set<string> {
  return new Set(
    wal.flatMap(({ timeline, ranges }) =>
      ranges.flatMap(({ first, segments }) =>
        Array.from({ length: segments }, (_, index) => `${timeline}/${numberOf(first) + index}`),
      ),
    ),
  )
}

/** Moments of the window, and those for which the kept backups keep their WAL. */
function lostMoments({ archive, rules, situation, ways }: Case): string[] {
  if (!archive.clocksAreRight) return []
  const now = situation.now.getTime()
  const has = momentsOf(ways.after)
  const lostSince = (begin: number, had: Ways, what: string) =>
    [...momentsOf(had)]
      .filter(([moment, at]) => at >= begin && !has.has(moment))
      .map(([moment]) => `${what}: ${moment} cannot be recovered any more`)
  const { window, wal } = rules
  const walBegin = wal === undefined ? Number.NEGATIVE_INFINITY : now - Math.max(wal, window ?? 0)
  return [
    ...(window === undefined ? [] : lostSince(now - window, ways.before, 'window')),
    ...lostSince(walBegin, ways.withAllWal, 'wal'),
  ]
}

/** The ends of segments that can be recovered, with when that was. */
function momentsOf({ ways }: Ways): Map<string, number> {
  return new Map(
    ways.flatMap(({ timeline, segments }) =>
      segments.map(({ number, at }): [string, number] => [`${timeline}/${number}`, at]),
    ),
  )
}

/** The newest data that the kept backups lead to stays within reach, however old it is and whatever the clocks say. */
function lostEnd({ rules, ways }: Case): string[] {
  const promised = [ways.withAllWal, ...(rules.window === undefined ? [] : [ways.before])]
  const has = momentsOf(ways.after)
  return promised
    .flatMap((had) => newestWay(had.ways) ?? [])
    .map(({ timeline, segments }) => `${timeline}/${segments.at(-1)!.number}`)
    .filter((moment) => !has.has(moment))
    .map((moment) => `the newest data, ${moment}, is lost`)
}

/** The newest full backups that can be recovered stay, by the order of the WAL, which no clock can spoil. */
function lostMinimum({ archive: { catalog }, rules: { minimum = 1 }, staying, ways }: Case): string[] {
  return newestFirst(catalog.backups)
    .filter(({ id, type }) => type === 'full' && !ways.before.unusable.has(id))
    .slice(0, minimum)
    .filter((backup) => !staying.includes(backup))
    .map(({ id }) => `${id} is one of the newest ${minimum} full ones, and went`)
}

/** Each wish is one that its rule has, and no backup goes that any rule wants. */
function wrongVerdicts(asked: Case): string[] {
  const { archive, plan, staying } = asked
  const wants = wantersOf({ ...asked, ways: asked.ways.before.ways })
  const neededOnes = new Set(
    staying.flatMap((backup) => chainOf(archive.catalog.backups, backup).links.slice(0, -1)),
  )
  return archive.catalog.backups.flatMap((backup, index) => {
    const { wishes, stays, reason } = plan.backups[index]!
    const told = new Set(wishes.map(({ rule }) => rule))
    const wanted = (Object.keys(wants) as (keyof typeof wants)[]).filter((rule) => wants[rule](backup))
    if (!stays) return wanted.map((rule) => `${backup.id} went, and ${rule} wants it`)
    if (told.has('chain')) return neededOnes.has(backup) ? [] : [`${backup.id} is needed by nobody`]
    if (wishes.length === 0 || reason === '') return [`${backup.id} stays for no reason`]
    const invented = [...told].filter((rule) => !(wanted as string[]).includes(rule))
    const unsaid = wanted.filter((rule) => !SILENT.has(rule) && !told.has(rule))
    return [
      ...invented.map((rule) => `${backup.id} stays for ${rule}, which does not want it`),
      ...unsaid.map((rule) => `${backup.id} is wanted by ${rule}, which is not said`),
    ]
  })
}

/** They are named only where nobody else wants a backup. */
const SILENT = new Set<string>(['minimum', 'reader', 'lock', 'unreadable'])

/** What the plan says of recoveries is what `status` says before and after. */
function wrongRecovery({ plan, ways }: Case): string[] {
  return (['before', 'after'] as const).flatMap((part) => {
    const told = new Set(
      plan.recovery.flatMap(({ timeline, [part]: windows }) =>
        windows.map(({ from, end }) => `timeline ${timeline} from ${from} to ${end}`),
      ),
    )
    return ways[part].ways
      .map(({ timeline, backups: [first], end }) => ({
        timeline,
        from: first!.stop.time,
        end: formatLsn(end),
      }))
      .map(({ timeline, from, end }) => `timeline ${timeline} from ${from} to ${end}`)
      .filter((text) => !told.has(text))
      .map((text) => `nothing is said of the way ${part}: ${text}`)
  })
}

const numberOf = (name: string) => Number(segmentNumberOf(name, SEGMENT))

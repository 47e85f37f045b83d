import type { BackupSummary } from '../catalog/backup-record.ts'
import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import { walWithBackups } from '../catalog/catalog-file.ts'
import { brokenText, Chains } from '../catalog/chains.ts'
import type { KeptPin } from '../catalog/kept-pin.ts'
import type { Repository } from '../catalog/repository.ts'
import { type DroppedWal, droppedAtEnd, type TimelineWal, walGaps } from '../catalog/wal-ranges.ts'
import { renderTable } from '../cli/table.ts'
import { showsUnicode } from '../cli/terminal.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { exitCodeOf, PgrecallError, reasonOf } from '../errors.ts'
import { Clock } from '../report/clock.ts'
import { historyOf } from '../report/history.ts'
import { spansOfCatalog } from '../report/recoverable.ts'
import { timelineText } from '../report/timeline-text.ts'
import type { CommandContext, Run } from './context.ts'
import { logicalTable } from './logical-text.ts'
import { pinFacts, pinsInForce, pinText } from './pin-text.ts'
import { receivingText, seconds, secondsFrom } from './wal-text.ts'

/** All clusters of the configuration, unless one is named. */
export const run: Run = async ({ options }, context) => {
  const draw = options.timeline ? timelineOf : catalogText
  const named = options.cluster as string | undefined
  const clusters = named === undefined ? context.clusters() : [context.cluster().name]
  const asked = options.repository as string | undefined
  const questions = clusters.flatMap((cluster) =>
    context
      .repositoriesOf(cluster, asked === undefined ? undefined : [asked])
      .map((repository) => ({ cluster, repository })),
  )
  const looks = await Promise.all(questions.map((question) => look(question, context)))
  const failures = looks.flatMap((each) => ('error' in each ? [each.error] : []))
  // With nothing to show, it is the error itself that is told.
  if (failures.length === looks.length) throw failures[0]
  return {
    text: looks
      .map((each) => {
        const { name: repository, storage } = each.repository
        const text = 'error' in each ? errorText(each.error) : draw(each, context)
        return `Cluster "${each.cluster}" in repository "${repository}" (${storage.location})\n\n${text}`
      })
      .join('\n\n'),
    json: looks.map(jsonOf),
    ...(failures.length > 0 && { exitCode: exitCodeOf(failures[0]) }),
  }
}

interface Question {
  cluster: string
  repository: Repository
}

/** `broken`: backups that cannot be restored, with the link that is not there. */
type Look = Question &
  ({ catalog: Catalog; broken: { id: string; missing: string }[]; pins: KeptPin[] } | { error: unknown })

/** One repository that is away does not hide the others. */
async function look(question: Question, { now, signal }: CommandContext): Promise<Look> {
  const { storage } = question.repository
  try {
    const catalog = await loadCatalog(storage, question.cluster, { believing: true })
    const pins = await pinsInForce(storage, question.cluster, now())
    return { ...question, catalog, broken: brokenChains(catalog), pins }
  } catch (error) {
    signal.throwIfAborted()
    return { ...question, error }
  }
}

function errorText(error: unknown): string {
  const hint = error instanceof PgrecallError && error.hint ? `\n${error.hint}` : ''
  return `It cannot be read: ${reasonOf(error)}${hint}`
}

function jsonOf(each: Look) {
  const repository = each.repository.name
  if ('error' in each) return { cluster: each.cluster, repository, error: reasonOf(each.error) }
  const { looks: _bookkeeping, ...catalog } = each.catalog
  const gaps = walGaps(catalog.wal, catalog.walSegmentBytes)
  const pins = each.pins.map(pinFacts)
  return { repository, ...catalog, pins, brokenChains: each.broken, wal: walWithBackups(catalog), gaps }
}

function brokenChains({ backups }: Catalog) {
  const chains = new Chains(backups)
  return backups.flatMap((backup) => {
    const missing = chains.missingOf(backup)
    return missing === undefined ? [] : [{ id: backup.id, missing }]
  })
}

function catalogText(
  { catalog, broken, pins }: Extract<Look, { catalog: Catalog }>,
  { view }: CommandContext,
): string {
  const { backups, logical } = catalog
  const sections = [
    ...(backups.length > 0 || logical.length === 0
      ? [backupTable(catalog, new Set(broken.map(({ id }) => id)), view)]
      : []),
    ...(logical.length > 0 ? [logicalTable(logical, view)] : []),
    ...(pins.length > 0 ? [pins.map((pin) => `Pinned: ${pin.backup} ${pinText(pin)}`).join('\n')] : []),
    walTable(catalog, view),
    ...catalog.wal.flatMap(thinnedText),
  ]
  const gaps = walGaps(catalog.wal, catalog.walSegmentBytes)
  if (gaps.length > 0) {
    const lines = gaps.map((gap) => `  timeline ${gap.timeline}: ${stretchText(gap)}${whyText(gap.dropped)}`)
    sections.push(`The archive has holes; no recovery goes across them:\n${lines.join('\n')}`)
  }
  for (const given of catalog.wal.flatMap(droppedAtEnd))
    sections.push(`The archive does not go on: ${stretchText(given)}${whyText([given])}`)
  for (const { id, missing } of broken)
    sections.push(`Backup ${id} cannot be restored: it ${brokenText(missing)}`)
  for (const { id, reason } of catalog.damaged) sections.push(`Backup ${id} cannot be read: ${reason}`)
  return sections.join('\n\n')
}

/** What can be recovered, as a picture. */
function timelineOf(
  { cluster, catalog }: Extract<Look, { catalog: Catalog }>,
  context: CommandContext,
): string {
  const zone = context.config().config.clusters[cluster]?.timeZone
  const { spans, unusable } = spansOfCatalog(catalog)
  const history = historyOf(catalog, spans, unusable, context.now().getTime())
  const clock = new Clock(zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone)
  return timelineText(history, clock, { ...context.view, unicode: showsUnicode(context.env) })
}

/** WAL that was let go on purpose. */
function thinnedText({ timeline, ranges: [first], thinnedBefore }: TimelineWal): string[] {
  if (thinnedBefore === undefined || first === undefined || first.first >= thinnedBefore) return []
  return [
    `Of timeline ${timeline} before ${thinnedBefore}, retention keeps only the WAL that makes backups consistent, by the rule "wal".`,
  ]
}

const stretchText = ({ first, last, segments }: Pick<DroppedWal, 'first' | 'last' | 'segments'>) =>
  `${first}${segments === 1 ? '' : ` to ${last}`} (${formatCount(segments, 'segment')})`

/** A gap without a note is one that somebody made, or that waits for a segment that is late. */
function whyText(dropped: readonly DroppedWal[] = []): string {
  return dropped.map(({ since, reason }) => `, given up at ${seconds(since)}: ${reason}`).join('')
}

/** In place of a moment: what is missing is said below the table. */
const BROKEN = 'chain is broken'
const BUILDS_ON = 'Builds on'

function backupTable(catalog: Catalog, broken: ReadonlySet<string>, view: CommandContext['view']): string {
  if (catalog.backups.length === 0) return 'No backups yet; "pgrecall backup" takes one.'
  const hasLabel = catalog.backups.some((backup) => backup.label !== '')
  const hasDamage = catalog.backups.some((backup) => backup.damagedPages)
  const hasParents = catalog.backups.some((backup) => backup.parent)
  const placed = placedInChains(catalog.backups)
  const table = renderTable(
    [
      { title: 'Backup', style: 'bold', whole: true },
      { title: 'Method', whole: true, leaveOut: 1 },
      {
        title: 'Restorable from',
        whole: true,
        style: (cell) => (cell === BROKEN ? 'red' : undefined),
      },
      { title: 'Timeline', align: 'right' },
      ...(hasParents ? [{ title: BUILDS_ON, whole: true, leaveOut: 0 }] : []),
      { title: 'Cluster', align: 'right', leaveOut: 3 },
      { title: 'Stored', align: 'right', leaveOut: 4 },
      { title: 'WAL', whole: true, leaveOut: 2 },
      ...(hasDamage ? [{ title: 'Damaged pages', align: 'right' as const }] : []),
      ...(hasLabel ? [{ title: 'Label' }] : []),
    ],
    placed.map(({ backup, isBelow }) => [
      // What builds upon others is seen where there is no room for the column that tells upon which.
      `${isBelow ? '  ' : ''}${backup.id}`,
      backup.method,
      broken.has(backup.id) ? BROKEN : secondsFrom(backup.stop.time),
      String(backup.timeline),
      ...(hasParents ? [backup.parent?.id ?? '-'] : []),
      formatBytes(backup.clusterBytes ?? backup.dataBytes),
      formatBytes(backup.storedBytes),
      backup.standalone ? 'included' : 'archive',
      ...(hasDamage ? [backup.damagedPages ? String(backup.damagedPages) : '-'] : []),
      ...(hasLabel ? [backup.label] : []),
    ]),
    view,
  )
  if (!hasParents || table.split('\n', 1)[0]!.includes(BUILDS_ON)) return table
  const apart = placed.flatMap(({ backup: { id, parent }, isBelow }) =>
    !parent || isBelow || broken.has(id) ? [] : [`${id} builds on ${parent.id}.`],
  )
  return [table, ...apart].join('\n')
}

/** Whether a backup stands right below its chain: one that was taken on its own in between begins another. */
function placedInChains(backups: readonly BackupSummary[]) {
  const roots = new Map<string, string>()
  let above: string | undefined
  return backups.map((backup) => {
    const { id, parent } = backup
    const root = parent ? (roots.get(parent.id) ?? parent.id) : id
    const isBelow = parent !== undefined && root === above
    roots.set(id, root)
    above = root
    return { backup, isBelow }
  })
}

function walTable(catalog: Catalog, view: CommandContext['view']): string {
  const received = catalog.wal.flatMap(({ receiving }) => (receiving ? [receivingText(receiving)] : []))
  const rows = catalog.wal.flatMap(({ timeline, ranges }) =>
    ranges.map((range) => [
      String(timeline),
      range.first,
      range.last,
      String(range.segments),
      formatBytes(range.storedBytes),
      seconds(range.newestStoredAt),
    ]),
  )
  if (rows.length === 0) return received.join('\n') || 'No WAL in the archive.'
  const table = renderTable(
    [
      { title: 'Timeline', align: 'right' },
      { title: 'First WAL', whole: true },
      { title: 'Last WAL', whole: true },
      { title: 'Segments', align: 'right' },
      { title: 'Stored', align: 'right' },
      { title: 'Newest stored at', whole: true, leaveOut: 1 },
    ],
    rows,
    view,
  )
  return [table, ...received].join('\n')
}

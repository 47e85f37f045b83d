import type { Catalog } from '../catalog/catalog.ts'
import type { Verifications } from '../catalog/verification-file.ts'
import { formatAge, formatCount } from '../cli/units.ts'
import { type Finding, fail, pass, warn } from './finding.ts'

const MOST_DAYS = 30
const DAY_MS = 24 * 3600 * 1000

type Stored = Pick<Catalog, 'backups' | 'logical' | 'damaged'>
type Known = Pick<Verifications, 'damaged' | 'oldestAt' | 'lastRestore' | 'lastProvenRestore'>

/** What of one repository was proven: that what is stored is sound, and that something restores. */
export function judgeProof(
  repository: string,
  stored: Stored,
  verifications: Known | undefined,
  now: Date,
): Finding[] {
  const subject = `proof in "${repository}"`
  const { backups, logical, damaged } = stored
  if (backups.length + logical.length === 0)
    return [warn(subject, 'there is no backup yet', 'pgrecall backup')]
  return [
    ...judgeDamage(subject, repository, damaged, verifications?.damaged ?? []),
    judgeReading(subject, repository, verifications?.oldestAt, now),
    judgeRestore(subject, repository, logical.length > 0, verifications, now),
  ]
}

/** When what was not read back for longest was read back. */
function judgeReading(subject: string, repository: string, oldestAt: string | undefined, now: Date): Finding {
  const hint = `pgrecall verify --repository ${repository}`
  if (oldestAt === undefined) return warn(subject, 'what is stored was never read back', hint)
  const age = now.getTime() - Date.parse(oldestAt)
  const text = `what was read back longest ago was ${formatAge(age)} ago`
  return age > MOST_DAYS * DAY_MS ? warn(subject, text, hint) : pass(subject, text)
}

function judgeDamage(
  subject: string,
  repository: string,
  records: Catalog['damaged'],
  objects: Verifications['damaged'],
): Finding[] {
  return [
    ...records.map(({ id, reason }) =>
      fail(
        subject,
        `backup ${id} cannot be believed: ${reason}`,
        `pgrecall verify --repository ${repository}`,
      ),
    ),
    ...(objects.length === 0
      ? []
      : [
          fail(
            subject,
            `${formatCount(objects.length, 'stored object')} ${objects.length === 1 ? 'was' : 'were'} found damaged, such as ${objects[0]!.key}: ${objects[0]!.reason}`,
            `pgrecall verify --repair --repository ${repository}`,
          ),
        ]),
  ]
}

/** A restore that was looked at: of dumps `verify --restore` does it, of the whole cluster a person. */
function judgeRestore(
  subject: string,
  repository: string,
  hasDumps: boolean,
  verifications: Known | undefined,
  now: Date,
): Finding {
  const hint = hasDumps
    ? `pgrecall verify --restore --repository ${repository}`
    : 'see one for yourself: pgrecall restore --data-directory /some/where --archive-mode off, and start a server on it'
  const { lastRestore: last, lastProvenRestore: proven } = verifications ?? {}
  const ageOf = (at: string) => now.getTime() - Date.parse(at)
  if (last?.outcome === 'failed')
    return fail(
      subject,
      `the last try to restore, of ${last.backup}, failed ${formatAge(ageOf(last.finishedAt))} ago`,
      hint,
    )
  if (!proven) return warn(subject, 'no restore was verified yet', hint)
  const text = `${proven.backup} was restored and found right ${formatAge(ageOf(proven.finishedAt))} ago`
  return ageOf(proven.finishedAt) > MOST_DAYS * DAY_MS
    ? warn(subject, `${text}, and nothing in the last ${MOST_DAYS} days`, hint)
    : pass(subject, text)
}

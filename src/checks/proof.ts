import type { Catalog } from '../catalog/catalog.ts'
import type { Verifications } from '../catalog/verification-file.ts'
import { formatAge, formatCount } from '../cli/units.ts'
import { type Finding, fail, pass, warn } from './finding.ts'

const MOST_DAYS = 30
const DAY_MS = 24 * 3600 * 1000

/** What of one repository was proven: that something restores, and that what was read is sound. */
export function judgeProof(
  repository: string,
  { backups, logical, damaged }: Pick<Catalog, 'backups' | 'logical' | 'damaged'>,
  verifications: Pick<Verifications, 'damaged' | 'lastRestore' | 'lastProvenRestore'> | undefined,
  now: Date,
): Finding[] {
  const subject = `proof in "${repository}"`
  if (backups.length + logical.length === 0)
    return [warn(subject, 'there is no backup yet', 'pgrecall backup')]
  return [
    ...judgeDamage(subject, repository, damaged, verifications?.damaged ?? []),
    judgeRestore(subject, repository, verifications, now),
  ]
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

function judgeRestore(
  subject: string,
  repository: string,
  verifications: Pick<Verifications, 'lastRestore' | 'lastProvenRestore'> | undefined,
  now: Date,
): Finding {
  const hint = `pgrecall verify --restore --repository ${repository}`
  const { lastRestore: last, lastProvenRestore: proven } = verifications ?? {}
  const ageOf = (at: string) => now.getTime() - Date.parse(at)
  if (last?.outcome === 'failed')
    return fail(
      subject,
      `the last try to restore, of ${last.backup}, failed ${formatAge(ageOf(last.finishedAt))} ago`,
      hint,
    )
  if (!proven) return warn(subject, 'no backup was ever restored to see whether that works', hint)
  const text = `${proven.backup} was restored and found right ${formatAge(ageOf(proven.finishedAt))} ago`
  return ageOf(proven.finishedAt) > MOST_DAYS * DAY_MS
    ? warn(subject, `${text}, and nothing in the last ${MOST_DAYS} days`, hint)
    : pass(subject, text)
}

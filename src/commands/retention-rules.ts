import { parseDuration } from '../config/duration.ts'
import type { ClusterConfig } from '../config/schema.ts'
import { PgrecallError } from '../errors.ts'
import { CALENDAR_RULES, contradictionIn, hasBackupRule, type RetentionRules } from '../retention/rules.ts'

const COUNTS = ['full', 'diff', 'incr', ...CALENDAR_RULES, 'minimum', 'logical'] as const
const SPANS = ['window', 'wal'] as const

/**
 * The rules of a run: those of the configuration, each replaced by its option where that is given.
 * @param cluster its name, for messages
 * @throws PgrecallError `usage` for an option that cannot be, or does not go with the others; `config` where nothing may go
 */
export function rulesOf(
  cluster: string,
  { retention, timeZone }: Pick<ClusterConfig, 'retention' | 'timeZone'>,
  options: Record<string, unknown>,
): RetentionRules {
  const counts = COUNTS.flatMap((rule) => (options[rule] === undefined ? [] : [[rule, options[rule]]]))
  const spans = SPANS.flatMap((rule) =>
    options[rule] === undefined ? [] : [[rule, spanIn(rule, String(options[rule]))]],
  )
  const rules: RetentionRules = {
    ...retention,
    ...Object.fromEntries([...counts, ...spans]),
    timeZone: timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
  }
  const contradiction = contradictionIn(rules)
  if (contradiction !== undefined) {
    throw new PgrecallError('usage', `these rules do not go together: ${contradiction}`, {
      hint: 'an option replaces one rule of the configuration, and the others stay as they are there',
    })
  }
  if (hasBackupRule(rules) || (rules.wal ?? rules.logical) !== undefined) return rules
  const alone = rules.minimum === undefined ? '' : '; "minimum" alone lets nothing go'
  throw new PgrecallError('config', `cluster "${cluster}" has no retention rule, so everything stays`, {
    hint: `set full, window, daily, weekly, monthly, yearly, wal or logical below clusters.<name>.retention in the configuration, or give such an option: --full 2, --window 7d${alone}`,
  })
}

function spanIn(rule: (typeof SPANS)[number], text: string): number {
  const ms = parseDuration(text)
  if (ms !== undefined && ms > 0) return ms
  throw new PgrecallError('usage', `--${rule} "${text}" is not a time`, {
    hint: 'write it as 7d, 36h or 90min',
  })
}

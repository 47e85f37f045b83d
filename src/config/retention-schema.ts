import { z } from 'zod'
import { parseDuration } from './duration.ts'

/** A span of time with PostgreSQL's units, in milliseconds. */
const timeSpan = z.union([z.string(), z.number()]).transform((value, context) => {
  const ms = parseDuration(String(value))
  if (ms !== undefined && ms > 0) return ms
  context.addIssue({ code: 'custom', message: 'must be a time such as "7d", "36h" or "90min"' })
  return z.NEVER
})

const count = z.int().min(1, 'must keep at least one backup').optional()

/** The rules of a cluster; the same as RetentionRules. */
export const RetentionSchema = z
  .strictObject({
    full: count,
    diff: count,
    incr: count,
    window: timeSpan.optional(),
    daily: count,
    weekly: count,
    monthly: count,
    yearly: count,
    wal: timeSpan.optional(),
    minimum: count,
    /** How many logical backups stay; all when left out. */
    logical: z.int().min(1, 'must keep at least one logical backup').optional(),
  })
  .superRefine((rules, context) => {
    for (const key of ['diff', 'incr'] as const) {
      if (rules[key] === undefined || rules.full !== undefined) continue
      const message = 'counts within what "full" keeps, and so needs "full"'
      context.addIssue({ code: 'custom', path: [key], message })
    }
    if (rules.wal !== undefined && rules.window !== undefined && rules.wal < rules.window) {
      const message = 'must not be shorter than "window", which needs the WAL of all its time'
      context.addIssue({ code: 'custom', path: ['wal'], message })
    }
  })

import { z } from 'zod'
import { parseByteSize } from './byte-size.ts'
import { parseDuration } from './duration.ts'

const timeSpan = z.union([z.string(), z.number()]).transform((value, context) => {
  const ms = parseDuration(String(value))
  if (ms !== undefined) return ms / 1000
  context.addIssue({ code: 'custom', message: 'must be a time such as "8d", "36h" or "15min"' })
  return z.NEVER
})

const size = z.union([z.string(), z.number()]).transform((value, context) => {
  const bytes = parseByteSize(String(value))
  if (bytes !== undefined) return bytes
  context.addIssue({ code: 'custom', message: 'must be a size such as "100GB"' })
  return z.NEVER
})

type Limit = typeof timeSpan | typeof size

/** @param isWorse whether a failure lies beyond what is warned of */
const threshold = (limit: Limit, isWorse: (fail: number, warn: number) => boolean, text: string) =>
  z
    .strictObject({ warn: limit.optional(), fail: limit.optional() })
    .refine(
      ({ warn, fail }) => warn === undefined || fail === undefined || warn === fail || isWorse(fail, warn),
      text,
    )
    .optional()

/** An age: the more, the worse. */
const atMost = threshold(timeSpan, (fail, warn) => fail > warn, 'must not fail before it warns')
const TOO_LATE = 'must not warn of less than what it fails of'
/** Time that is left, or room: the less, the worse. */
const timeLeft = threshold(timeSpan, (fail, warn) => fail < warn, TOO_LATE)
const roomLeft = threshold(size, (fail, warn) => fail < warn, TOO_LATE)

/** From when on `status` warns and fails; spans in seconds. The same as Thresholds. */
export const StatusSchema = z.strictObject({
  backupAge: atMost,
  fullBackupAge: atMost,
  logicalBackupAge: atMost,
  archiveLate: atMost,
  rpo: atMost,
  walDiskFull: timeLeft,
  repositoryFull: timeLeft,
  freeBytes: roomLeft,
  verificationAge: atMost,
  provenRestoreAge: atMost,
})

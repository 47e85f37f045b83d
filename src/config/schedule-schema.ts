import { z } from 'zod'
import { parseWhen, type When } from '../schedule/when.ts'
import { parseDuration } from './duration.ts'

const absolutePath = z.string().refine((path) => path.startsWith('/'), 'must be an absolute path')

const A_TIME =
  'must be a time such as "01:30", "Sun 01:30", "Mon-Sat 01:30", "day 1,15 01:30", "every 10min" or "every 6h"'

/** A time, or one of the words that may stand there instead. */
const whenOr = <const Words extends (string | false)[]>(...words: Words) =>
  z.unknown().transform((value, context): When | Words[number] => {
    const word: Words[number] | undefined = words.find((one) => one === value)
    if (word !== undefined) return word
    const parsed = typeof value === 'string' ? parseWhen(value) : undefined
    if (parsed) return parsed
    const others = words.map((one) => (one === false ? 'false for never' : `"${one}"`))
    context.addIssue({ code: 'custom', message: [A_TIME, ...others].join(', or ') })
    return z.NEVER
  })
const when = whenOr()
const whenOrNever = whenOr(false)

/** Of what is stored, how much a night reads. */
const FRACTION = '5%'

const VerifySchema = z
  .union([
    z.strictObject({
      at: when.prefault('04:30'),
      fraction: z
        .string()
        .regex(/^(?:100|[1-9]\d?|\d\.\d+)%$/, 'must be a part such as "5%"')
        .default(FRACTION),
    }),
    whenOrNever,
  ])
  .transform((verify) =>
    verify === false || 'fraction' in verify ? verify : { at: verify, fraction: FRACTION },
  )

/** The name of an object of Kubernetes. */
const objectName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, 'must be lower-case letters, digits, "-" and "."')

const KubernetesSchema = z.strictObject({
  image: z.string().min(1).optional(),
  namespace: objectName.optional(),
  /** With the key config.yaml. */
  configMap: objectName.optional(),
  /** Its keys are variables of the environment. */
  secret: objectName.optional(),
  /** Whose files the volumes hold. */
  user: z.int().min(1).default(999),
  /** The PersistentVolumeClaim of each folder that the configuration names. */
  claims: z.record(absolutePath, objectName).default({}),
})

const jitter = z.string().transform((text, context) => {
  const ms = /^\s*0\s*$/.test(text) ? 0 : parseDuration(text)
  if (ms !== undefined && ms <= 12 * 60 * 60_000) return ms
  context.addIssue({ code: 'custom', message: 'must be a time such as "15min", at most 12h' })
  return z.NEVER
})

/** What is done when, for "pgrecall schedule print"; the same as Schedule. */
export const ScheduleSchema = z.strictObject({
  full: whenOrNever.prefault('Sun 00:30'),
  incremental: whenOrNever.optional(),
  logical: whenOrNever.prefault(false),
  verify: VerifySchema.prefault({}),
  retention: whenOr('after backup', false).prefault('after backup'),
  status: whenOrNever.prefault('every 30min'),
  check: whenOrNever.prefault(false),
  report: z
    .union([
      z.strictObject({ at: when, output: absolutePath }),
      z.custom<false>((value) => value === false, 'must be false, or have "at" and "output"'),
    ])
    .default(false),
  walReceive: z
    .custom<boolean | 'synchronous'>(
      (value) => typeof value === 'boolean' || value === 'synchronous',
      'must be true, false or "synchronous"',
    )
    .default(false),
  jitter: jitter.prefault('15min'),
  /** Who runs the jobs on a host; the owner of the data directory when left out. */
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]*$/, 'must be the name of a user')
    .optional(),
  mailTo: z
    .string()
    .regex(/^[A-Za-z0-9._+@-]+$/, 'must be the address of a person')
    .optional(),
  kubernetes: KubernetesSchema.prefault({}),
})

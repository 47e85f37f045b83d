import { z } from 'zod'
import { LOOKS, OPERATIONS } from '../notices/operations.ts'

const absolutePath = z.string().refine((path) => path.startsWith('/'), 'must be an absolute path')

const OCCASIONS = ['before', 'after', 'success', 'warning', 'failure'] as const
const occasion = z.enum(OCCASIONS)

/** What hooks and notices have in common. */
const shared = {
  /** Looks are told only where they are named. */
  operations: z
    .array(z.enum([...OPERATIONS, ...LOOKS]))
    .min(1, 'must name an operation')
    .default([...OPERATIONS]),
  /** In seconds. */
  timeout: z.number().min(1).max(3600).default(30),
}

/** Commands around operations; each the same as Hook. */
export const HooksSchema = z
  .array(
    z
      .strictObject({
        run: z
          .array(z.string().min(1))
          .min(1, 'must have at least the program')
          .refine(([program]) => program?.startsWith('/'), 'must begin with the absolute path of a program'),
        on: z.array(occasion).min(1, 'must name an occasion').default(['after']),
        ...shared,
      })
      .transform(({ timeout, ...hook }) => ({ ...hook, timeoutMs: timeout * 1000 })),
  )
  .default([])

/** Web addresses that are told of operations; each the same as Notice. */
export const NoticesSchema = z
  .array(
    z
      .strictObject({
        url: z
          .url({ protocol: /^https?$/, error: 'must be a URL that begins with https:// or http://' })
          .optional(),
        urlFile: absolutePath.optional(),
        urlVariable: z
          .string()
          .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of a variable')
          .optional(),
        on: z.array(occasion).min(1, 'must name an occasion').default(['warning', 'failure']),
        ...shared,
      })
      .refine(
        ({ url, urlFile, urlVariable }) =>
          [url, urlFile, urlVariable].filter((place) => place !== undefined).length === 1,
        'must have one of "url", "urlFile" and "urlVariable"',
      )
      .transform(({ timeout, ...notice }) => ({ ...notice, timeoutMs: timeout * 1000 })),
  )
  .default([])

/** What the whole configuration and each cluster may have. */
export const announcing = { hooks: HooksSchema, notices: NoticesSchema }

/** Every key of a hook and of a notice, for "did you mean". */
export const HOOK_KEYS = ['run', 'on', ...Object.keys(shared)]
export const NOTICE_KEYS = ['url', 'urlFile', 'urlVariable', 'on', ...Object.keys(shared)]

import { z } from 'zod'
import { parseCodec } from '../archive/codec.ts'
import { CLUSTER_NAME } from '../catalog/layout.ts'
import { parseByteSize } from './byte-size.ts'
import { RetentionSchema } from './retention-schema.ts'
import { StatusSchema } from './status-schema.ts'

/** The configuration file's shape. `config.example.yaml` shows every key with its meaning. */
const absolutePath = z.string().refine((path) => path.startsWith('/'), 'must be an absolute path')
const name = z.string().regex(CLUSTER_NAME, 'must be letters, digits, "-" and "_", at most 63')
const jobs = z.int().min(1).max(64)
const codec = z.string().superRefine((text, context) => {
  const parsed = parseCodec(text)
  if (typeof parsed === 'string') context.addIssue({ code: 'custom', message: parsed })
})

/** A size with PostgreSQL's units, or a plain number of bytes. */
const byteSize = (least: number, leastText: string) =>
  z.union([z.string(), z.number()]).transform((value, context) => {
    const bytes = parseByteSize(String(value))
    if (bytes !== undefined && bytes >= least) return bytes
    context.addIssue({ code: 'custom', message: `must be a size such as "64MB", at least ${leastText}` })
    return z.NEVER
  })

const timeZone = z.string().refine((zone) => {
  try {
    return Boolean(new Intl.DateTimeFormat('en', { timeZone: zone }))
  } catch {
    return false
  }
}, 'must be a time zone such as Europe/Berlin')

/** One of something, or a list of them. */
const oneOrMore = <T extends z.ZodType>(schema: T) =>
  z.union([schema, z.array(schema)]).transform((value) => (Array.isArray(value) ? value : [value]))

const EncryptionSchema = z
  .strictObject({
    /** Public keys, age1...: every object can be read with the identity of any of them. */
    recipients: oneOrMore(z.string().regex(/^age1/, 'must be a public key of age, age1...')).prefault([]),
    /** Files with one public key a line, beside the ones above. */
    recipientsFile: oneOrMore(absolutePath).prefault([]),
    /** Files with secret keys, AGE-SECRET-KEY-..., only where something is read. They may be encrypted with a passphrase. */
    identityFile: oneOrMore(absolutePath).prefault([]),
    /** A file that holds the passphrase of identity files, on its first line. */
    passphraseFile: absolutePath.optional(),
  })
  .refine(
    ({ recipients, recipientsFile }) => recipients.length + recipientsFile.length > 0,
    'must name a public key under "recipients" or a file of them under "recipientsFile"',
  )

const LocalRepositorySchema = z.strictObject({
  type: z.literal('local').default('local'),
  path: absolutePath,
  encryption: EncryptionSchema.optional(),
})

/** What S3 allows for every part but the last. */
const SMALLEST_PART = 5 * 1024 * 1024

const S3RepositorySchema = z.strictObject({
  type: z.literal('s3'),
  bucket: z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be the name of a bucket'),
  /** In front of every key. */
  prefix: z
    .string()
    .regex(
      /^(?:[A-Za-z0-9_+=@-][A-Za-z0-9._+=@-]*\/?)*$/,
      'must be folders such as "postgres/", without "." or ".." as one of them',
    )
    .default('')
    .transform((text) => (text === '' || text.endsWith('/') ? text : `${text}/`)),
  region: z.string().min(1).optional(),
  endpoint: z
    .url({ protocol: /^https?$/, error: 'must be a URL such as https://objects.example.net' })
    .optional(),
  forcePathStyle: z.boolean().optional(),
  profile: z.string().min(1).optional(),
  credentialsFile: absolutePath.optional(),
  caFile: absolutePath.optional(),
  storageClass: z
    .string()
    .regex(/^[A-Z0-9_]+$/, 'must be a storage class such as STANDARD_IA')
    .optional(),
  tags: z.record(z.string().min(1).max(128), z.string().max(256)).optional(),
  serverSideEncryption: z.enum(['AES256', 'aws:kms']).optional(),
  kmsKeyId: z.string().min(1).optional(),
  conditionalWrites: z.boolean().default(true),
  objectLock: z
    .strictObject({ mode: z.enum(['GOVERNANCE', 'COMPLIANCE']), days: z.int().min(1).max(36500) })
    .optional(),
  partSize: byteSize(SMALLEST_PART, '5MB').default(8 * 1024 * 1024),
  parallelParts: z.int().min(1).max(64).default(4),
  encryption: EncryptionSchema.optional(),
})

/** A repository that does not say what it is, is what its keys say. */
const RepositorySchema = z.preprocess(
  (value) =>
    typeof value === 'object' && value !== null && !('type' in value)
      ? { type: 'bucket' in value ? 's3' : 'local', ...value }
      : value,
  z.discriminatedUnion('type', [LocalRepositorySchema, S3RepositorySchema], {
    error: 'must be "local" or "s3"',
  }),
)

const ConnectionSchema = z.union([
  z.string().regex(/^postgres(?:ql)?:\/\//, 'must be a URI such as postgresql://user@host:5432/postgres'),
  z.strictObject({
    host: z.string().optional(),
    port: z.int().min(1).max(65535).optional(),
    user: z.string().optional(),
    database: z.string().optional(),
    /** A file that holds the password and nothing else, so that the configuration itself holds no secret. */
    passwordFile: absolutePath.optional(),
    password: z.string().optional(),
  }),
])

const asRoot = z.array(z.string().min(1)).default([])
const argv = z.array(z.string().min(1)).min(1, 'must have at least the program')

/** How snapshots are made; the same as SnapshotOptions. */
const SnapshotSchema = z.discriminatedUnion('provider', [
  z.strictObject({ provider: z.literal('btrfs'), asRoot, snapshotFolder: absolutePath.optional() }),
  z.strictObject({ provider: z.literal('zfs'), asRoot }),
  z.strictObject({
    provider: z.literal('lvm'),
    asRoot,
    size: z
      .string()
      .regex(
        /^\d+(\.\d+)?[bskmgtpe]?$|^\d+%(ORIGIN|FREE|VG|PVS)$/i,
        'must be a size as lvcreate takes it, such as "10G" or "20%ORIGIN"',
      )
      .default('20%ORIGIN'),
    mountFolder: absolutePath.optional(),
  }),
  z.strictObject({ provider: z.literal('reflink'), snapshotFolder: absolutePath.optional() }),
  z
    .strictObject({
      provider: z.literal('commands'),
      create: argv,
      mount: argv.optional(),
      unmount: argv.optional(),
      remove: argv,
      list: argv.optional(),
      path: z.string().min(1),
      mountFolder: absolutePath.optional(),
    })
    .refine(
      ({ mount, unmount }) => !mount === !unmount,
      'must have both of "mount" and "unmount", or neither',
    )
    .refine(
      (options) => options.mount !== undefined || !JSON.stringify(options).includes('{mountpoint}'),
      'uses {mountpoint}, and so needs "mount" and "unmount"',
    ),
])

/** How a cluster's files are taken. */
export const BACKUP_METHODS = ['files', 'stream', 'snapshot', 'cold'] as const

/** As `--type` has them. */
export const BACKUP_TYPES = ['full', 'diff', 'incr'] as const

const BackupSchema = z.strictObject({
  method: z.enum(BACKUP_METHODS).default('files'),
  /** `auto`: incremental where there is a backup to build upon, otherwise full. */
  type: z.enum(['auto', ...BACKUP_TYPES]).default('auto'),
  /** A chain with so many links, the full backup included, is not made longer. */
  maxChain: z.int().min(1).default(15),
  jobs: jobs.default(2),
  compression: codec.default('zstd:1'),
  checkpoint: z.enum(['fast', 'spread']).default('fast'),
  /** How long a backup waits for its WAL to arrive in the repository, in seconds. */
  archiveTimeout: z.int().min(1).default(60),
  /** Plain bytes a second that all workers read together. */
  maxRate: byteSize(32 * 1024, '32kB').optional(),
  /** Plain bytes after which a shard is closed; chosen by the size of the cluster when left out. */
  shardSize: byteSize(1024 * 1024, '1MB').optional(),
  checksumFailures: z.enum(['warn', 'fail']).default('warn'),
  /** For the method "snapshot". */
  snapshot: SnapshotSchema.optional(),
})

const WalSchema = z.strictObject({
  /** How many files one call of wal-push archives at most, beside the one it is asked for, and with how many threads. */
  batch: z.int().min(0).max(1024).default(128),
  jobs: jobs.default(2),
  /** Plain bytes of WAL that are kept ready for a recovery; 0 fetches each segment when it is asked for. */
  prefetch: byteSize(0, '0').default(256 * 1024 * 1024),
  /** From so much WAL on that waits to be archived, what cannot be stored is given up, and is a gap from then on. */
  queueMax: byteSize(64 * 1024 * 1024, '64MB').optional(),
  receive: z
    .strictObject({
      /** Where segments are received; next to the user's data when left out. */
      directory: absolutePath.optional(),
      slot: z
        .string()
        .regex(/^[a-z0-9_]{1,63}$/, 'must be lower-case letters, digits and "_"')
        .default('pgrecall'),
      /** How often the unfinished segment is stored, in seconds. */
      interval: z.number().min(1).max(3600).default(5),
    })
    .prefault({}),
})

const ClusterSchema = z.strictObject({
  dataDirectory: absolutePath.optional(),
  /** Where the days of a calendar begin; the host's own when left out. */
  timeZone: timeZone.optional(),
  connection: ConnectionSchema.default({}),
  repositories: z
    .array(
      z.union([
        name.transform((repository) => ({ name: repository, required: true })),
        /** An optional repository: what it could not take is a warning, and `copy` brings it later. */
        z.strictObject({ name, required: z.boolean().default(true) }),
      ]),
    )
    .min(1, 'must name at least one repository'),
  backup: BackupSchema.prefault({}),
  wal: WalSchema.prefault({}),
  restore: z.strictObject({ jobs: jobs.default(2) }).prefault({}),
  retention: RetentionSchema.prefault({}),
  status: StatusSchema.prefault({}),
})

export const ConfigSchema = z
  .strictObject({
    repositories: z.record(name, RepositorySchema),
    clusters: z.record(name, ClusterSchema),
    log: z
      .strictObject({
        level: z.enum(['error', 'warn', 'info', 'debug', 'trace']).default('info'),
        file: absolutePath.optional(),
      })
      .prefault({}),
  })
  .superRefine((config, context) => {
    for (const [cluster, { repositories }] of Object.entries(config.clusters)) {
      if (repositories.length > 0 && !repositories.some(({ required }) => required)) {
        context.addIssue({
          code: 'custom',
          path: ['clusters', cluster, 'repositories'],
          message: 'must have at least one repository that is required',
        })
      }
      for (const [index, { name: repository }] of repositories.entries()) {
        if (Object.hasOwn(config.repositories, repository)) continue
        const known = Object.keys(config.repositories).join(', ') || 'none'
        context.addIssue({
          code: 'custom',
          path: ['clusters', cluster, 'repositories', index],
          message: `names the repository "${repository}", which is not under "repositories" (there: ${known})`,
        })
      }
    }
  })

export const ENCRYPTION_KEYS = Object.keys(EncryptionSchema.shape)

/** Every key that some kind of repository has. */
export const REPOSITORY_KEYS = [
  ...new Set([LocalRepositorySchema, S3RepositorySchema].flatMap(({ shape }) => Object.keys(shape))),
]

export type Config = z.infer<typeof ConfigSchema>
export type ClusterConfig = Config['clusters'][string]
export type RepositoryConfig = Config['repositories'][string]

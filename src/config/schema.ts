import { z } from 'zod'
import { parseCodec } from '../archive/codec.ts'
import { CLUSTER_NAME } from '../catalog/layout.ts'
import { parseByteSize } from './byte-size.ts'

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

const RepositorySchema = z.strictObject({
  type: z.literal('local', { error: 'must be "local"' }).default('local'),
  path: absolutePath,
})

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

const BackupSchema = z.strictObject({
  method: z.enum(BACKUP_METHODS).default('files'),
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
  connection: ConnectionSchema.default({}),
  repositories: z.array(name).min(1, 'must name at least one repository'),
  backup: BackupSchema.prefault({}),
  wal: WalSchema.prefault({}),
  restore: z.strictObject({ jobs: jobs.default(2) }).prefault({}),
  retention: z
    .strictObject({ full: z.int().min(1, 'must keep at least one backup').optional() })
    .prefault({}),
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
      for (const [index, repository] of repositories.entries()) {
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

export type Config = z.infer<typeof ConfigSchema>
export type ClusterConfig = Config['clusters'][string]
export type RepositoryConfig = Config['repositories'][string]

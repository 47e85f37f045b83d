import { z } from 'zod'
import { parseCodec } from '../archive/codec.ts'
import { CLUSTER_NAME } from '../catalog/layout.ts'

/** The configuration file's shape. `config.example.yaml` shows every key with its meaning. */
const absolutePath = z.string().refine((path) => path.startsWith('/'), 'must be an absolute path')
const name = z.string().regex(CLUSTER_NAME, 'must be letters, digits, "-" and "_", at most 63')
const jobs = z.int().min(1).max(64)
const codec = z.string().superRefine((text, context) => {
  const parsed = parseCodec(text)
  if (typeof parsed === 'string') context.addIssue({ code: 'custom', message: parsed })
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

const BackupSchema = z.strictObject({
  method: z.literal('files', { error: 'must be "files"' }).default('files'),
  jobs: jobs.default(2),
  compression: codec.default('zstd:1'),
  checkpoint: z.enum(['fast', 'spread']).default('fast'),
  /** How long a backup waits for its WAL to arrive in the repository, in seconds. */
  archiveTimeout: z.int().min(1).default(60),
})

const ClusterSchema = z.strictObject({
  dataDirectory: absolutePath.optional(),
  connection: ConnectionSchema.default({}),
  repositories: z.array(name).min(1, 'must name at least one repository'),
  backup: BackupSchema.prefault({}),
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

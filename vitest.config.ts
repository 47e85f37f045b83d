import { spawnSync } from 'node:child_process'
import { defineConfig } from 'vitest/config'
import { findPrograms } from './test/lab/programs.ts'

/** The first version with WAL summaries, incremental backups and a manifest that names the system. */
const SECOND_MAJOR = 17

/** Tests whose outcome hangs on what the server does and writes. They run on the second version too. */
const ABOUT_THE_SERVER = [
  'test/backup/{check,incremental,load,standby,stream-*,visibility-map}.test.ts',
  'test/consolidation/consolidate.test.ts',
  'test/copy/chain-server.test.ts',
  'test/incremental/chain-*.test.ts',
  'test/postgres/*-server.test.ts',
  'test/postgres/{pg-basebackup,pg-control,wal-summaries}.test.ts',
  'test/restore/{by-hand-chain,chain-server,databases-server}.test.ts',
]

/** The folder of the second version's programs; undefined where all tests run on one version. The set-up makes it. */
function secondServer(): string | undefined {
  // Who names a server means that one.
  if (process.env.PGRECALL_TEST_PG_BIN || findPrograms()?.major === SECOND_MAJOR) return undefined
  const { stdout } = spawnSync('sh', ['scripts/postgres.sh', '--installed', String(SECOND_MAJOR)], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  })
  return stdout.trim() || undefined
}

const second = secondServer()

export default defineConfig({
  test: {
    // Far more than a test takes: a machine may be busy with other things.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    fileParallelism: true,
    maxWorkers: 2,
    projects: [
      { extends: true, test: { name: 'all', include: ['test/**/*.test.ts'] } },
      ...(second
        ? [
            {
              extends: true as const,
              test: {
                name: `PostgreSQL ${SECOND_MAJOR}`,
                include: ABOUT_THE_SERVER,
                env: { PGRECALL_TEST_PG_BIN: second },
              },
            },
          ]
        : []),
    ],
  },
})

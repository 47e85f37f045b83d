import { createHash } from 'node:crypto'
import { readdirSync, readlinkSync } from 'node:fs'
import { copyFile, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { backupPrefix } from '../../src/catalog/layout.ts'
import { type LogicalRecord, readLogicalRecord } from '../../src/catalog/logical-record.ts'
import { encodeRecord } from '../../src/catalog/record-file.ts'
import { countedTypes } from '../../src/verification/recount.ts'
import { type Circumstances, excusesIn, provenPart, verdictOf } from '../../src/verification/restore-proof.ts'
import type { VerifiedBackup } from '../../src/verification/verify-repository.ts'
import { answerOf, backUp, failureOf, labFolder } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { requireServer } from '../lab/programs.ts'
import { makeManyDatabases } from '../logical/many-databases.ts'

type Answer = [{ backups: VerifiedBackup[] }]

let lab: Lab
/** Where the scratch servers live. */
let place: string

beforeAll(async () => {
  // In the first of both nothing can be read without the key; in the other one backups are forged.
  lab = await Lab.create({
    archive: false,
    settings: { wal_level: 'logical' },
    repositories: { sealed: 'local', plain: 'local' },
    encrypted: true,
    configure: ({ repositories }) => void delete repositories.plain!.encryption,
  })
  place = await labFolder(join(lab.scratch.path, 'place'))
  const space = await labFolder(join(lab.scratch.path, 'space'))
  await makeManyDatabases(lab.cluster)
  await lab.cluster.sql(`CREATE TABLESPACE fast LOCATION '${space}'`)
  await lab.cluster.sql('CREATE DATABASE shop OWNER anna TABLESPACE fast')
  await lab.cluster.sql(
    `CREATE TABLE customer (id int PRIMARY KEY, name text);
     INSERT INTO customer SELECT n, 'c' || n FROM generate_series(1, 1000) n;
     CREATE TABLE "order" (id serial PRIMARY KEY, customer int REFERENCES customer);
     INSERT INTO "order" (customer) SELECT 1 + n % 1000 FROM generate_series(1, 500) n`,
    { database: 'shop' },
  )
})
beforeEach((context) => void requireServer(context))
afterAll(() => lab?.[Symbol.asyncDispose]())

const take = (args: string[]) => answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical', ...args])

/** What runs with its working directory in a folder: scratch servers, and who starts them. */
function processesIn(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/cwd`).startsWith(`${folder}/`)
      } catch {
        return false
      }
    })
    .map(Number)
}

async function expectNothingLeft(): Promise<void> {
  expect(await readdir(place)).toEqual([])
  expect(processesIn(place)).toEqual([])
}

async function verify(
  args: string[],
  repository = 'plain',
): Promise<{ exitCode: number | undefined; backups: VerifiedBackup[] }> {
  const asked = ['verify', ...args, '--restore', '--scratch', place, '--repository', repository, '--json']
  const { exitCode, stdout, stderr } = await lab.pgrecall(asked)
  const answer = JSON.parse(stdout) as Answer
  if (!Array.isArray(answer)) throw new Error(`${stdout}${stderr}`)
  return { exitCode, backups: answer[0].backups }
}

const pathOf = (id: string, name: string) =>
  join(lab.scratch.path, 'repository-plain', backupPrefix('main', id), name)

const recordOf = async (id: string) => (await readLogicalRecord(lab.repositories.plain!.storage, 'main', id))!

/** Runs with another record of a backup in the plain repository, and with the record's own again afterwards. */
async function withRecord(
  id: string,
  change: (record: LogicalRecord) => LogicalRecord,
  work: () => Promise<void>,
): Promise<void> {
  const path = pathOf(id, 'backup.json')
  const whole = await readFile(path)
  await writeFile(path, encodeRecord(change(await recordOf(id))))
  try {
    await work()
  } finally {
    await writeFile(path, whole)
  }
}

const dumpOf = ({ objects, databases }: LogicalRecord, name: string) => {
  const { oid } = databases.find((database) => database.name === name)!
  return objects.find(({ kind, database }) => kind === 'dump' && database === oid)!
}

describe('a backup is loaded into a scratch server', () => {
  test('the newest whole one is, and its rows are those that were counted when it was taken', async () => {
    const { id, databases } = await take(['--fingerprint'])
    const part = await take(['--database', 'shop'])
    const { exitCode, backups } = await verify([], 'sealed')
    expect(backups.map((backup) => [backup.id, backup.faults])).toEqual([
      [id, []],
      [part.id, []],
    ])
    expect(exitCode).toBe(0)
    expect(backups[1]).not.toHaveProperty('restore')
    const proof = backups[0]!.restore!
    expect(proof).toMatchObject({ verdict: 'restored', isCompared: true, cluster: { errors: 0 } })
    expect(proof.databases.map(({ name }) => name)).toEqual(databases.map(({ name }) => name))
    expect(proof.databases.find(({ name }) => name === 'shop')).toMatchObject({ tables: 2, rows: 1500 })
    await expectNothingLeft()
  })

  test('a newer one that is damaged is told, and the one before it is loaded', async () => {
    const { id, bootstrapSuperuser } = await take([])
    expect(bootstrapSuperuser).toBe('postgres')
    const path = pathOf(id, 'backup.json')
    const whole = await readFile(path)
    await writeFile(path, whole.subarray(0, -10))
    const { exitCode, backups } = await verify(['latest'])
    await writeFile(path, whole)
    expect(exitCode).toBe(12)
    expect(backups).toMatchObject([
      { faults: [], restore: { verdict: 'restored' } },
      { id, faults: [{}] },
    ])
    expect(backups[1]).not.toHaveProperty('restore')
  })

  test('rows that are missing are found by the fingerprints, though every sum fits', async () => {
    const before = await recordOf((await take(['--database', 'shop', '--fingerprint'])).id)
    await lab.cluster.sql('DELETE FROM "order" WHERE id = 7', { database: 'shop' })
    const after = await recordOf((await take(['--database', 'shop'])).id)
    const [good, forged] = [dumpOf(before, 'shop'), dumpOf(after, 'shop')]
    await rename(pathOf(before.id, good.name), pathOf(before.id, 'kept'))
    await copyFile(pathOf(after.id, forged.name), pathOf(before.id, good.name))
    await withRecord(
      before.id,
      (record) => ({
        ...record,
        objects: record.objects.map((each) => (each.name === good.name ? forged : each)),
      }),
      async () => {
        const { exitCode, backups } = await verify([before.id])
        expect(exitCode).toBe(12)
        expect(backups[0]).toMatchObject({
          restore: { verdict: 'differs' },
          faults: [{ reason: 'restored, database "shop": table "public"."order": 499 instead of 500 rows' }],
        })
      },
    )
    await rename(pathOf(before.id, 'kept'), pathOf(before.id, good.name))
    await expectNothingLeft()
  })

  test('a table less than was recorded is found without fingerprints', async () => {
    const { id } = await take(['--database', 'shop'])
    const oneMore = (record: LogicalRecord): LogicalRecord => ({
      ...record,
      databases: record.databases.map(({ contents, ...database }) => ({
        ...database,
        // As many in all, so that the list of contents is as long as it should be.
        contents: { ...contents, TABLE: contents.TABLE! + 1, 'TABLE DATA': contents['TABLE DATA']! - 1 },
      })),
    })
    await withRecord(id, oneMore, async () => {
      const { exitCode, backups } = await verify([id])
      expect(exitCode).toBe(12)
      expect(backups[0]!.faults).toMatchObject([
        { reason: 'restored, database "shop": TABLE: 2 instead of 3' },
      ])
    })
  })

  test('errors that the lack of tablespaces in the backup is the reason for are no fault, and no proof', async () => {
    const { id } = await take(['--database', 'shop', '--no-globals'])
    const { exitCode, backups } = await verify([id])
    expect(exitCode).toBe(5)
    expect(backups[0]).toMatchObject({ faults: [], restore: { verdict: 'unproven' } })
    expect(backups[0]!.restore!.databases[0]!.excuses.join()).toContain('tablespace "fast" does not exist')
  })

  test('a script that makes tablespaces is not run where these are', async () => {
    const { id } = await take(['--whole'])
    const { exitCode, backups } = await verify([id])
    expect(exitCode).toBe(5)
    expect(backups[0]!.restore).toMatchObject({ verdict: 'unproven', databases: [] })
  })

  test('one script is loaded as well', async () => {
    await lab.cluster.sql('ALTER DATABASE shop SET TABLESPACE pg_default')
    await lab.cluster.sql('DROP TABLESPACE fast')
    const { id } = await take(['--whole'])
    const { exitCode, backups } = await verify([id])
    expect(exitCode).toBe(0)
    const { verdict, databases } = backups[0]!.restore!
    expect(verdict).toBe('restored')
    const [there] = await lab.cluster.sql<{ rows: number }>(
      'SELECT (SELECT count(*) FROM customer)::int + (SELECT count(*) FROM "order")::int AS rows',
      { database: 'shop' },
    )
    expect(databases.find(({ name }) => name === 'shop')).toMatchObject({ tables: 2, rows: there!.rows })
    await expectNothingLeft()
  })

  test('errors that what was chosen may be the reason for are no fault, and no proof', async () => {
    await lab.cluster.sql('CREATE SCHEMA inner_one; CREATE TABLE inner_one.t AS SELECT 1 AS a', {
      database: 'shop',
    })
    const { id } = await take(['--database', 'shop', '--table', 'inner_one.t'])
    const { exitCode, backups } = await verify([id])
    expect(exitCode).toBe(5)
    expect(backups[0]).toMatchObject({ faults: [], restore: { verdict: 'unproven' } })
    expect(backups[0]!.restore!.databases[0]!.faults.join()).toContain('inner_one')
  })

  test('an archive that ends too soon is a fault of a part, too, though its sum fits', async () => {
    const { id } = await take(['--database', 'shop', '--table', 'customer', '--compression', 'none'])
    const dump = dumpOf(await recordOf(id), 'shop')
    const bytes = await readFile(pathOf(id, dump.name))
    const half = bytes.subarray(0, bytes.length - 2000)
    await writeFile(pathOf(id, dump.name), half)
    const sha256 = createHash('sha256').update(half).digest('hex')
    const forged = { ...dump, sha256, bytes: half.length, plainBytes: half.length }
    await withRecord(
      id,
      (record) => ({
        ...record,
        objects: record.objects.map((each) => (each.name === dump.name ? forged : each)),
      }),
      async () => {
        const { exitCode, backups } = await verify([id])
        expect(exitCode).toBe(12)
        expect(backups[0]).toMatchObject({
          faults: [{ reason: expect.stringContaining('cannot read the archive') }],
          restore: { verdict: 'differs' },
        })
      },
    )
    await writeFile(pathOf(id, dump.name), bytes)
  })
})

describe('what cannot be loaded', () => {
  test('is refused before anything is read', async () => {
    const { id } = await take(['--database', 'shop'])
    const refused = (args: string[]) => failureOf(lab, ['verify', ...args, '--repository', 'plain'])
    await withRecord(
      id,
      (record) => ({ ...record, postgres: { version: 990_001, text: '99.1' } }),
      async () => {
        const failure = await refused([id, '--restore', '--scratch', place])
        expect(failure).toMatchObject({ kind: 'refused', hint: expect.stringContaining('postgresql-99') })
      },
    )
    expect(await refused([id, '--restore', '--scratch', join(place, 'none')])).toMatchObject({
      kind: 'refused',
    })
    expect(await refused([id, '--scratch', place])).toMatchObject({ kind: 'usage' })
    const full = await backUp(lab, ['--standalone', '--repository', 'plain'])
    expect(await refused([full.id, '--restore'])).toMatchObject({
      kind: 'usage',
      message: `--restore is for logical backups, and ${full.id} is a physical one`,
    })
    await expectNothingLeft()
  })
})

describe('nothing is left behind', () => {
  let slow: LogicalRecord
  beforeAll(async () => {
    await lab.cluster.sql('CREATE DATABASE slow')
    await lab.cluster.sql(
      `CREATE TABLE t (i int); INSERT INTO t VALUES (1);
       CREATE FUNCTION slowly(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
       BEGIN
         IF current_setting('cluster_name') = 'pgrecall scratch' THEN PERFORM pg_sleep(600); END IF;
         RETURN i;
       END $$;
       CREATE INDEX takes_long ON t (slowly(i))`,
      { database: 'slow' },
    )
    slow = await take(['--database', 'slow'])
  })

  /** Starts a restore, and waits until it is in the middle. */
  async function inTheMiddle() {
    const args = ['verify', slow.id, '--restore', '--scratch', place, '--repository', 'plain']
    const started = await lab.startPgrecall(args)
    const title = (pid: number) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    await poll(
      async () =>
        (await Promise.all(processesIn(place).map(title))).some((text) => text.includes('CREATE INDEX')),
      { what: 'the index that takes long', timeoutMs: 60_000 },
    )
    return started
  }

  test('after a signal in the middle', async () => {
    const { process: running } = await inTheMiddle()
    running.kill('SIGTERM')
    expect((await running).exitCode).toBe(130)
    await expectNothingLeft()
  })

  test('after SIGKILL no process, and after the next run no folder', async () => {
    const { process: running } = await inTheMiddle()
    running.kill('SIGKILL')
    await running
    await poll(() => processesIn(place).length === 0, { what: 'the end of the scratch server' })
    expect(await readdir(place)).toHaveLength(1)
    const { id } = await take(['--database', 'shop'])
    expect((await verify([id])).exitCode).toBe(0)
    await expectNothingLeft()
  })
})

describe('what an error says of the backup', () => {
  const whole = { hasGlobals: true, isPartial: false, knowsSuperuser: true, dumped: 15, scratch: 15 }
  const one = (text: string) => ({ count: 1, samples: [text] })
  const verdictWith = (text: string, other: Partial<Circumstances>) =>
    provenPart(one(text), [], excusesIn([text], { ...whole, ...other })).verdict

  test.each([
    'ERROR: extension "postgis" is not available',
    'could not execute query: ERROR: version to install must be specified Command was: CREATE EXTENSION IF NOT EXISTS citext;',
    'ERROR: could not access file "$libdir/postgis-3": No such file or directory',
    'ERROR: invalid locale name: "de_DE.utf8"',
    'ERROR: invalid LC_COLLATE locale name: "de_DE.utf8"',
    'ERROR: could not open collator for locale "und-x": U_FILE_ACCESS_ERROR',
    'ERROR: collation "pg_catalog.de_DE" for encoding "UTF8" does not exist',
    'ERROR: could not extend file "base/5/1": No space left on device',
    'database "shop" is not made: ENOSPC: no space left on device, write',
    'ERROR: could not connect to server "far" DETAIL: connection to server at "192.0.2.1" failed',
    'ERROR: pg_cron can only be loaded via shared_preload_libraries',
  ])('nothing, where the host is what it is about: %s', (text) => {
    const part = provenPart(one(text), [], excusesIn([text], whole))
    expect(part).toMatchObject({ verdict: 'unproven', errors: 1 })
    expect(part.excuses[0]).toContain('this host lacks')
  })

  test('a role that does not exist is one where there should be roles', () => {
    const text = 'ERROR: role "anna" does not exist'
    expect(verdictWith(text, {})).toBe('differs')
    expect(verdictWith(text, { hasGlobals: false })).toBe('unproven')
    expect(verdictOf([{ verdict: 'restored' }, { verdict: 'unproven' }, { verdict: 'differs' }])).toBe(
      'differs',
    )
  })

  test('a membership that another role gave is one where the record says who the bootstrap superuser was', () => {
    const text = 'grant role "a", "b": permission denied to grant privileges as role "admin"'
    expect(verdictWith(text, {})).toBe('differs')
    expect(verdictWith(text, { knowsSuperuser: false })).toBe('unproven')
  })

  test('a statement that is refused is one where the server is no later one', () => {
    const text = 'could not execute query: ERROR: type "abstime" does not exist'
    expect(verdictWith(text, {})).toBe('differs')
    expect(verdictWith(text, { scratch: 17 })).toBe('unproven')
  })

  test('what stands in the statement is no matter', () => {
    const text = `ERROR: syntax error Command was: COMMENT ON TABLE t IS 'out of memory: CREATE EXTENSION'`
    expect(verdictWith(text, {})).toBe('differs')
  })

  test('other rows are a fault, whatever was chosen, where nothing was refused', () => {
    expect(excusesIn([], { ...whole, isPartial: true, hasGlobals: false, scratch: 17 })).toEqual([])
  })

  test('a partition is attached by an entry of its own from pg_dump 14 on only', () => {
    expect(countedTypes(13, 15)).not.toContain('TABLE ATTACH')
    expect(countedTypes(13, 13)).toContain('TABLE ATTACH')
    expect(countedTypes(14, 15)).toContain('TABLE ATTACH')
  })

  test('what the host lacks is no matter where nothing is wrong', () => {
    expect(provenPart({ count: 0, samples: [] }, [], ['this host lacks a locale'])).toMatchObject({
      verdict: 'restored',
      excuses: [],
    })
  })
})

import type { Chance } from '../crash/chance.ts'
import { createPartition, createTable, insert, PARTITION_IDS } from './table-statements.ts'
import { between, type Database, happens, pick, type Step, sql, type Table, type World } from './world.ts'

type Draw = (chance: Chance, database: Database, table: Table, world: World) => string[]

/** A step on one table of a database. What it changes in the world is noted there. */
export function drawTableStep(chance: Chance, database: Database, world: World): Step {
  if (database.tables.length === 0) return drawNewTable(chance, database, world)
  const table = pick(chance, database.tables)
  const draws = [...EVERY_TABLE, ...(table.partitions ? PARTITIONED : ORDINARY)]
  const [, draw] = pick(
    chance,
    draws.flatMap((entry) => Array.from({ length: entry[0] }, () => entry)),
  )
  return sql(database, ...draw(chance, database, table, world))
}

/** Makes a table with an index of each kind, and rows. */
export function drawNewTable(chance: Chance, database: Database, world: World): Step {
  const name = `t${++database.namesGiven}`
  const partitioned = happens(chance, 15)
  const table: Table = { name, nextId: 1, logged: partitioned || happens(chance, 85) }
  if (partitioned) table.partitions = []
  const elsewhere = database.spread && !partitioned && happens(chance, 40)
  const options = {
    fillfactor: pick(chance, [30, 70, 100]),
    ...(elsewhere ? { tablespace: pick(chance, world.tablespaces) } : {}),
  }
  const statements = [...createTable(table, options), ...grow(chance, table, 1500)]
  database.tables.push(table)
  return sql(database, ...statements)
}

/** Weights, and what they are of. */
const EVERY_TABLE: [number, Draw][] = [
  [8, (chance, _database, table) => grow(chance, table, 3000)],
  [6, (chance, _database, table) => [update(chance, table, KEYS)]],
  [6, (chance, _database, table) => [update(chance, table, `part = (part + 1) % 10`)]],
  [
    2,
    (chance, _database, table) => [update(chance, table, `doc = coalesce(doc, word) || repeat('d', 1500)`)],
  ],
  [5, (chance, _database, table) => [deleteSome(chance, table)]],
  [2, (_chance, _database, table) => [`TRUNCATE ${table.name}`]],
  [5, (chance, _database, table) => [`TRUNCATE ${table.name}`, ...grow(chance, table, 2500)]],
  [2, (chance, _database, table) => cutInOneTransaction(chance, table)],
  [4, (chance, _database, { name }) => [pick(chance, VACUUMS).replace('$', name)]],
  [2, (_chance, _database, { name }) => [`VACUUM FULL ${name}`]],
  [2, (_chance, _database, { name }) => [`REINDEX TABLE CONCURRENTLY ${name}`]],
  [
    2,
    (chance, _database, { name }) => [
      `SELECT max(nextval('${name}_seq')) FROM generate_series(1, ${between(chance, 1, 90)})`,
    ],
  ],
  [1, (chance, _database, { name }) => [`SELECT setval('${name}_seq', ${between(chance, 1, 500)})`]],
  [2, (chance, _database, table) => undone(chance, table)],
]

const ORDINARY: [number, Draw][] = [
  [7, (chance, _database, table) => shortenAndRegrow(chance, table)],
  [2, (_chance, _database, { name }) => [`CLUSTER ${name} USING ${name}_pkey`]],
  [2, (chance, _database, { name }) => [`REINDEX INDEX ${pick(chance, INDEXES).replace('$', name)}`]],
  [
    2,
    (_chance, _database, { name }) => [
      `SELECT gin_clean_pending_list('${name}_gin'), brin_summarize_new_values('${name}_brin')`,
    ],
  ],
  [3, (chance, database, table) => dropAndRecreate(chance, database, table)],
  [3, (chance, database, table, world) => move(chance, database, table, world)],
  [3, (_chance, _database, table) => [togglePersistence(table)]],
  [
    1,
    (chance, _database, { name }) => [
      `ALTER TABLE ${name} ALTER COLUMN part TYPE ${pick(chance, ['bigint', 'int', 'numeric'])}`,
    ],
  ],
  [2, (_chance, _database, { name }) => lockedTwice(name)],
]

const PARTITIONED: [number, Draw][] = [[4, (_chance, _database, table) => dropOldestPartition(table)]]

const KEYS = `k = (k + 7) % 997, word = md5(word), tags = ARRAY[(tags[1] + 1) % 29], place = point(k % 50, part::int), stamp = stamp + interval '1 day'`
const VACUUMS = [
  'VACUUM $',
  'VACUUM (FREEZE) $',
  'VACUUM (ANALYZE) $',
  'VACUUM (DISABLE_PAGE_SKIPPING, INDEX_CLEANUP ON) $',
]
const INDEXES = ['$_pkey', '$_hash', '$_gin', '$_gist', '$_spgist', '$_brin']

/** Inserts, into as many new partitions as that takes. */
function grow(chance: Chance, table: Table, most: number): string[] {
  const rows = between(chance, 1, most)
  const last = Math.floor((table.nextId + rows - 1) / PARTITION_IDS)
  const statements: string[] = []
  for (let number = Math.floor(table.nextId / PARTITION_IDS); table.partitions && number <= last; number++) {
    if (table.partitions.includes(number)) continue
    table.partitions.push(number)
    statements.push(createPartition(table, number))
  }
  statements.push(insert(table, rows))
  table.nextId += rows
  return statements
}

function update(chance: Chance, { name }: Table, what: string): string {
  const every = pick(chance, [1, 2, 7, 50, 400])
  return `UPDATE ${name} SET ${what} WHERE id % ${every} = ${chance.below(every)}`
}

function deleteSome(chance: Chance, { name }: Table): string {
  const every = pick(chance, [1, 2, 3, 20])
  return `DELETE FROM ${name} WHERE id % ${every} = ${chance.below(every)}`
}

/** The tail is cut off by VACUUM, and grows again, maybe after the next backup. */
function shortenAndRegrow(chance: Chance, table: Table): string[] {
  const cut = Math.floor(table.nextId * chance.next())
  const shorten = [`DELETE FROM ${table.name} WHERE id >= ${cut}`, `VACUUM (TRUNCATE ON) ${table.name}`]
  return happens(chance, 60) ? [...shorten, ...grow(chance, table, 2000)] : shorten
}

function cutInOneTransaction(chance: Chance, table: Table): string[] {
  const growth = grow(chance, table, 1000)
  return [`BEGIN; TRUNCATE ${table.name}; ${growth.join('; ')}; ${'COMMIT'}`]
}

/**
 * What a transaction did that was rolled back stays in the files. No unlogged table is truncated so: after a crash that lost
 * the record of the rollback, PostgreSQL (15 to 17 at least) ends its recovery with "could not create file: File exists",
 * where it finds the new main fork, and makes the new init fork by its record.
 */
function undone(chance: Chance, table: Table): string[] {
  const imagined = structuredClone(table)
  const work = grow(chance, imagined, 2000)
  if (happens(chance, 30) && table.logged) work.push(`TRUNCATE ${table.name}`)
  return [`BEGIN; ${work.join('; ')}; ROLLBACK`]
}

function dropAndRecreate(chance: Chance, database: Database, table: Table): string[] {
  const drop = [`DROP TABLE ${table.name}`, `DROP SEQUENCE ${table.name}_seq`]
  // A table that goes without another one is rarer: there would be none left soon.
  if (happens(chance, 20) && database.tables.length > 1) {
    database.tables.splice(database.tables.indexOf(table), 1)
    return drop
  }
  return [...drop, ...createTable(table, { fillfactor: 80 }), ...grow(chance, table, 2000)]
}

function move(chance: Chance, database: Database, { name }: Table, world: World): string[] {
  if (!database.spread) return [`VACUUM ${name}`]
  const place = pick(chance, world.tablespaces)
  const what = pick(chance, ['TABLE $', 'INDEX $_gist', 'INDEX $_pkey']).replace('$', name)
  return [`ALTER ${what} SET TABLESPACE ${place}`]
}

function togglePersistence(table: Table): string {
  table.logged = !table.logged
  return `ALTER TABLE ${table.name} SET ${table.logged ? 'LOGGED' : 'UNLOGGED'}`
}

/** Rows that are locked and then updated by another subtransaction get a multixact. */
function lockedTwice(name: string): string[] {
  const some = `id % 40 = 3`
  return [
    `BEGIN; SELECT count(*) FROM (SELECT FROM ${name} WHERE ${some} FOR KEY SHARE) AS locked; SAVEPOINT s; UPDATE ${name} SET part = 1 WHERE ${some}; COMMIT`,
  ]
}

function dropOldestPartition(table: Table): string[] {
  const oldest = table.partitions!.shift()
  return oldest === undefined ? [`ANALYZE ${table.name}`] : [`DROP TABLE ${table.name}_p${oldest}`]
}

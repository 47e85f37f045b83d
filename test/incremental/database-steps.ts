import type { Chance } from '../crash/chance.ts'
import { drawNewTable } from './table-steps.ts'
import { between, type Database, happens, pick, type Step, sql, type World } from './world.ts'

/** More of them would only make a cluster larger. */
const MOST_DATABASES = 6
/** No oid that PostgreSQL itself gives comes so far. */
const FIRST_OID = 7_000_000

const EMPTY = {
  tables: [],
  namesGiven: 0,
  largeObjects: [],
  tablespace: 'pg_default',
  spread: false,
  hasView: false,
} satisfies Omit<Database, 'name'>

/**
 * A step that concerns a database as a whole, or all of them.
 * @param isBackedUp whether it is done while a backup runs: no base backup survives that a database is moved then
 */
export function drawDatabaseStep(chance: Chance, world: World, isBackedUp: boolean): Step {
  const made = world.databases.filter((database) => database.name.startsWith('made'))
  const kinds = ['large objects', 'large objects', 'system table', 'view', 'role']
  if (world.databases.length < MOST_DATABASES) kinds.push('create', 'create', 'create')
  if (made.length > 0) kinds.push('drop')
  if (made.length > 0 && !isBackedUp) kinds.push('again', 'again')
  const movable = world.databases.filter((database) => !database.spread)
  if (movable.length > 0 && world.tablespaces.length > 1 && !isBackedUp)
    kinds.push('move', 'move', 'there and back')
  switch (pick(chance, kinds)) {
    case 'create':
      return create(chance, world)
    case 'drop':
      return drop(world, pick(chance, made))
    case 'again':
      return again(chance, world, pick(chance, made))
    case 'move':
      return move(pick(chance, movable), [pick(chance, world.tablespaces)])
    case 'there and back': {
      const database = pick(chance, movable)
      return move(database, [pick(chance, world.tablespaces), database.tablespace])
    }
    case 'system table':
      return systemTable(chance, pick(chance, world.databases))
    case 'view': {
      const having = world.databases.filter((database) => database.hasView)
      return sql(pick(chance, having), 'REFRESH MATERIALIZED VIEW summary')
    }
    case 'role':
      return sql(world.databases[0]!, 'DROP ROLE IF EXISTS somebody', 'CREATE ROLE somebody')
    default:
      return largeObjects(chance, pick(chance, world.databases), world)
  }
}

/** Everything that a database of a workload has from the beginning. */
export function furnish(chance: Chance, database: Database, world: World, tables: number): Step[] {
  database.hasView = true
  const steps = Array.from({ length: tables }, () => drawNewTable(chance, database, world))
  const view = `CREATE MATERIALIZED VIEW summary AS SELECT relname::text, relkind FROM pg_class WHERE oid > 16383`
  return [...steps, sql(database, view, 'CREATE INDEX ON summary (relname)')]
}

function create(chance: Chance, world: World): Step {
  const template = happens(chance, 60) ? pick(chance, world.databases.slice(1)) : undefined
  const name = `made${++world.databasesMade}`
  const database: Database = { ...structuredClone(template ?? EMPTY), name }
  if (world.major >= 15) database.oid = FIRST_OID + world.databasesMade
  else delete database.oid
  world.databases.push(database)
  const statements = [createDatabase(chance, world, database, template)]
  return step(statements, [name, template?.name ?? 'template1'])
}

function drop(world: World, database: Database): Step {
  world.databases.splice(world.databases.indexOf(database), 1)
  return step([`DROP DATABASE ${database.name}`], [database.name])
}

/** The same name and the same oid, so that other content has the same paths. */
function again(chance: Chance, world: World, database: Database): Step {
  const template = pick(
    chance,
    world.databases.filter((other) => other !== database && other.name !== 'postgres'),
  )
  const { name } = database
  const from = happens(chance, 50) ? template : undefined
  const { oid } = database
  Object.assign(database, structuredClone(from ?? EMPTY), { name }, oid === undefined ? {} : { oid })
  const statements = [`DROP DATABASE ${name}`, createDatabase(chance, world, database, from)]
  return step(statements, [name, from?.name ?? 'template1'])
}

function createDatabase(
  chance: Chance,
  world: World,
  { name, oid }: Database,
  template: Database | undefined,
): string {
  const from = template ? ` TEMPLATE ${template.name}` : ''
  // Both strategies are older than the word: before 15 there is FILE_COPY only.
  const strategy = world.major >= 15 ? ` STRATEGY ${pick(chance, ['wal_log', 'file_copy'])} OID ${oid}` : ''
  return `CREATE DATABASE ${name}${from}${strategy}`
}

function move(database: Database, places: string[]): Step {
  const { name } = database
  database.tablespace = places.at(-1)!
  return step(
    places.map((place) => `ALTER DATABASE ${name} SET TABLESPACE ${place}`),
    [name],
  )
}

/** Some of these are found by `pg_filenode.map`, some are common to all databases. */
function systemTable(chance: Chance, database: Database): Step {
  const table = pick(chance, [
    'pg_class',
    'pg_attribute',
    'pg_database',
    'pg_authid',
    'pg_largeobject',
    'pg_depend',
  ])
  return sql(database, pick(chance, [`VACUUM FULL ${table}`, `REINDEX TABLE ${table}`, `VACUUM ${table}`]))
}

function largeObjects(chance: Chance, database: Database, world: World): Step {
  const old = database.largeObjects.length > 0 ? pick(chance, database.largeObjects) : undefined
  if (old !== undefined && happens(chance, 30)) {
    database.largeObjects.splice(database.largeObjects.indexOf(old), 1)
    return sql(database, `SELECT lo_unlink(${old})`)
  }
  const content = `convert_to(repeat(md5('${between(chance, 0, 999)}'), ${between(chance, 1, 3000)}), 'UTF8')`
  if (old !== undefined && happens(chance, 40))
    return sql(database, `SELECT lo_put(${old}, ${between(chance, 0, 20_000)}, ${content})`)
  const oid = 9_000_000 + ++world.largeObjectsMade
  database.largeObjects.push(oid)
  return sql(database, `SELECT lo_from_bytea(${oid}, ${content})`)
}

/** From `postgres`, while nobody is in the databases that it is about. */
function step(statements: string[], closes: string[]): Step {
  return { kind: 'sql', database: 'postgres', statements, closes }
}

import type { Cluster } from '../lab/cluster.ts'

/** Databases in encodings of their own. */
export const ENCODED = [
  { name: 'latin', encoding: 'LATIN1' },
  { name: 'bytes', encoding: 'SQL_ASCII' },
]
const ODD = ['a b', `quo"te'`, '=x', 'postgres://h/y', 'ünï', 'back\\slash', 'UPPER']

/** Ten databases with one of each kind of things that a dump has trouble with. */
export async function makeManyDatabases(cluster: Cluster): Promise<void> {
  await cluster.sql(
    `CREATE ROLE anna LOGIN PASSWORD 'secret' CONNECTION LIMIT 7;
     CREATE ROLE "Bob's" NOLOGIN;
     CREATE ROLE readers;
     GRANT readers TO anna WITH ADMIN OPTION;
     ALTER ROLE anna SET work_mem = '7MB';
     COMMENT ON ROLE "Bob's" IS 'it''s Bob; really';
     ALTER DATABASE postgres SET work_mem = '5MB';
     COMMENT ON DATABASE postgres IS 'the first one'`,
  )
  for (const name of ODD) await cluster.sql(`CREATE DATABASE ${quote(name)} OWNER anna`)
  for (const { name, encoding } of ENCODED)
    await cluster.sql(
      `CREATE DATABASE ${name} TEMPLATE template0 ENCODING '${encoding}' LC_COLLATE 'C' LC_CTYPE 'C'`,
    )
  await cluster.sql(
    `ALTER DATABASE "a b" SET default_transaction_read_only = off;
     ALTER DATABASE "UPPER" CONNECTION LIMIT 9;
     REVOKE ALL ON DATABASE "UPPER" FROM PUBLIC;
     GRANT CONNECT ON DATABASE "UPPER" TO "Bob's";
     ALTER ROLE anna IN DATABASE "UPPER" SET search_path = app, public`,
  )
  const [contrib] = await cluster.sql<{ has: boolean }>(
    `SELECT count(*) = 2 AS has FROM pg_available_extensions WHERE name IN ('hstore', 'citext')`,
  )
  const extensions = contrib!.has ? 'CREATE EXTENSION hstore; CREATE EXTENSION citext' : WITHOUT_CONTRIB
  await cluster.sql(`${extensions}; ${RELATIONS}`, { database: 'a b' })
  if (cluster.programs.major >= 14) await cluster.sql(BODY, { database: 'a b' })
  await cluster.sql(CYCLES, { database: `quo"te'` })
  await cluster.sql(EVENTS, { database: 'ünï' })
  await cluster.sql(`CREATE TABLE "=t" (a text); INSERT INTO "=t" VALUES ('x'), (NULL), (E'a\\tb\\\\c')`, {
    database: '=x',
  })
  await cluster.sql(`CREATE TABLE t (a text); INSERT INTO t VALUES ('Größe')`, { database: 'latin' })
  await cluster.sql(`CREATE TABLE t (a text); INSERT INTO t VALUES (convert_from('\\xe4fc', 'SQL_ASCII'))`, {
    database: 'bytes',
  })
}

const RELATIONS = `
  CREATE SCHEMA "Sch ema" AUTHORIZATION anna;
  CREATE TYPE mood AS ENUM ('sad', 'ok');
  CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mail citext UNIQUE, tags hstore, m mood);
  INSERT INTO customer (mail, tags, m) SELECT 'c' || n || '@x', 'a=>1', 'ok' FROM generate_series(1, 50) n;
  CREATE TABLE part (id int, day date NOT NULL) PARTITION BY RANGE (day);
  CREATE TABLE part_old PARTITION OF part FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
  CREATE TABLE "Sch ema"."part new" PARTITION OF part DEFAULT;
  CREATE INDEX ON part (day);
  INSERT INTO part VALUES (1, '2025-05-05'), (2, '2026-05-05');
  CREATE VIEW vip AS SELECT * FROM customer WHERE id < 10;
  CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM customer;
  CREATE UNIQUE INDEX ON counted (n);
  ALTER TABLE customer ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own ON customer FOR SELECT TO anna, readers USING (id > 3);
  GRANT SELECT (id), UPDATE (mail) ON customer TO "Bob's";
  COMMENT ON COLUMN customer.mail IS 'where; to';
  ALTER DEFAULT PRIVILEGES FOR ROLE anna IN SCHEMA "Sch ema" GRANT SELECT ON TABLES TO readers;
  SELECT lo_from_bytea(4711, 'large and small');
  ALTER LARGE OBJECT 4711 OWNER TO anna;
  GRANT SELECT ON LARGE OBJECT 4711 TO readers;
  COMMENT ON LARGE OBJECT 4711 IS 'an object'`

/** For a server that came without them. */
const WITHOUT_CONTRIB = 'CREATE DOMAIN citext AS text; CREATE DOMAIN hstore AS text'

const BODY = `
  CREATE FUNCTION two() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;
  ALTER FUNCTION two() OWNER TO anna`

const CYCLES = `
  CREATE TABLE hen (id int PRIMARY KEY, egg int);
  CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen);
  INSERT INTO hen VALUES (1, 1), (2, 2);
  INSERT INTO egg VALUES (1, 2), (2, 1);
  ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg;
  CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree);
  INSERT INTO tree VALUES (1, 2), (2, 1), (3, 3)`

const EVENTS = `
  CREATE TABLE log (what text);
  CREATE TABLE "tä ble" (id serial PRIMARY KEY, "cöl" text DEFAULT 'ß');
  INSERT INTO "tä ble" ("cöl") VALUES ('漢字'), ('🐘');
  CREATE FUNCTION heard() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (tg_tag); END $$;
  CREATE EVENT TRIGGER hears ON ddl_command_end EXECUTE FUNCTION heard();
  CREATE PUBLICATION everything FOR ALL TABLES;
  CREATE PUBLICATION one FOR TABLE "tä ble" WITH (publish = 'insert')`

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`

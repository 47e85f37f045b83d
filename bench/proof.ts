import { deepStrictEqual } from 'node:assert'
import { execa } from 'execa'
import { Cluster } from '../test/lab/cluster.ts'
import type { Ground } from './ground.ts'

/** Tables, indexes, their bytes, and rows. */
const SUMMARY = `
  SELECT json_build_object(
    'relations', count(*),
    'bytes', sum(pg_relation_size(c.oid)),
    'rows', sum(CASE WHEN relkind = 'r' THEN (xpath('/row/n/text()',
      query_to_xml(format('SELECT count(*) AS n FROM %s', c.oid::regclass), false, false, '')))[1]::text::bigint END)
  )::text AS summary
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind IN ('r', 'i') AND nspname = 'public'`

/**
 * Starts a server on a restored directory, lets it recover, compares it with the source, and checks every page.
 * @param alsoSame a query whose answer must be the source's, too
 * @throws when anything of this fails: a time for a broken copy means nothing
 */
export async function prove(
  directory: string,
  { cluster, scratch, summary }: Ground,
  alsoSame?: string,
): Promise<void> {
  await using copy = await Cluster.adopt(directory, {
    programs: cluster.programs,
    within: scratch,
    name: 'proof',
    settings: { archive_mode: false },
  })
  await copy.start({ timeoutMs: 300_000 })
  await copy.waitForPromotion(300_000)
  const restored = await summaryOf(copy)
  if (restored !== summary) throw new Error(`the copy holds ${restored}, the source ${summary}`)
  if (alsoSame) deepStrictEqual(await copy.sql(alsoSame), await cluster.sql(alsoSame))
  await copy.stop()
  await execa(copy.programs.path('pg_checksums'), ['--check', '--pgdata', directory], copy.childOptions)
}

/** @returns JSON, the same for two clusters with the same tables */
export async function summaryOf(cluster: Cluster): Promise<string> {
  const [row] = await cluster.sql<{ summary: string }>(SUMMARY)
  return row!.summary
}

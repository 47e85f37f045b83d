/**
 * The number of 8 KiB blocks in a segment of a relation, 1 GiB, unless the server was built with another one:
 * `segment_size` of `pg_settings`, `relseg_size` of `pg_control`.
 */
export const DEFAULT_BLOCKS_PER_SEGMENT = 131_072

/** The tablespaces that every cluster has. */
export const PG_DEFAULT_OID = 1663
export const PG_GLOBAL_OID = 1664

/** What a file's path says of the relation that it belongs to. */
export interface RelationFork {
  /** The oid of the tablespace; undefined when the path is relative to one that is not the data directory. */
  space: number | undefined
  /** Its oid; 0 for what all databases share. */
  database: number
  /** The relation's file number. */
  relation: number
  fork: 'main' | 'fsm' | 'vm' | 'init'
  segment: number
}

/** A file of a permanent relation: its folder, its number, its fork and its segment. */
const RELATION_FILE =
  /^(?:(global)|(base)\/(\d+)|(?:pg_tblspc\/(\d+)\/)?PG_[^/]+\/(\d+))\/([1-9]\d{0,9})(?:_(fsm|vm|init))?(?:\.([1-9]\d*))?$/

/**
 * What of a relation a file holds.
 *
 * @param path relative to the data directory, or to the tablespace: `base/5/1259`, `PG_15_202209061/5/16384_vm.3`
 * @returns undefined when it is another file
 * @see relpath.c: GetRelationPath; src/backend/storage/file/reinit.c: parse_filename_for_nontemp_relation
 */
export function relationFork(path: string): RelationFork | undefined {
  const match = RELATION_FILE.exec(path)
  if (!match) return undefined
  const [, global, base, inBase, tablespace, inTablespace, relation, fork, segment] = match
  return {
    space: global ? PG_GLOBAL_OID : base ? PG_DEFAULT_OID : tablespace ? Number(tablespace) : undefined,
    database: Number(inBase ?? inTablespace ?? 0),
    relation: Number(relation),
    fork: (fork as RelationFork['fork'] | undefined) ?? 'main',
    segment: Number(segment ?? 0),
  }
}

/**
 * The number of a segment of a relation, which is a file whose content is pages, each with a checksum when the cluster
 * has them. The first block of a segment is this number times the blocks in one.
 *
 * PostgreSQL names the files in these folders that are no pages (`pg_control`, `pg_filenode.map`, `pg_internal.init*`,
 * `PG_VERSION`). From 17 on its backup takes only what is named like a relation, as we do: then a stray file that
 * somebody left there is not taken for a damaged relation.
 *
 * @param path as for `relationFork`
 * @returns undefined when it is another file
 * @see src/backend/backup/basebackup.c: noChecksumFiles
 */
export function relationSegment(path: string): number | undefined {
  return relationFork(path)?.segment
}

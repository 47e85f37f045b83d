/**
 * The number of 8 KiB blocks in a segment of a relation, 1 GiB, unless the server was built with another one:
 * `segment_size` of `pg_settings`, `relseg_size` of `pg_control`.
 */
export const DEFAULT_BLOCKS_PER_SEGMENT = 131_072

/** A file of a permanent relation: its folder, its number, its fork and its segment. */
const RELATION_FILE =
  /^(?:global|base\/\d+|(?:pg_tblspc\/\d+\/)?PG_[^/]+\/\d+)\/[1-9]\d{0,9}(?:_(?:fsm|vm|init))?(?:\.([1-9]\d*))?$/

/**
 * The number of a segment of a relation, which is a file whose content is pages, each with a checksum when the cluster
 * has them. The first block of a segment is this number times the blocks in one.
 *
 * PostgreSQL names the files in these folders that are no pages (`pg_control`, `pg_filenode.map`, `pg_internal.init*`,
 * `PG_VERSION`). From 17 on its backup takes only what is named like a relation, as we do: then a stray file that
 * somebody left there is not taken for a damaged relation.
 *
 * @param path relative to the data directory, or to the tablespace: `base/5/1259`, `PG_15_202209061/5/16384_vm.3`
 * @returns undefined when it is another file
 * @see src/backend/backup/basebackup.c: noChecksumFiles; src/backend/storage/file/reinit.c:
 *   parse_filename_for_nontemp_relation
 */
export function relationSegment(path: string): number | undefined {
  const match = RELATION_FILE.exec(path)
  return match ? Number(match[1] ?? 0) : undefined
}

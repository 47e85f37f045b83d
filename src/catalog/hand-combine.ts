import type { BackupDraft } from './backup-record.ts'

/** Where the backup below is put: inside each folder that is restored, so that its files need only be renamed. */
const BELOW = '.below'

/** A folder that is restored. */
export interface HandRoot {
  /** The shell variable that holds its path. */
  variable: string
  /** Of a tablespace. */
  oid?: string
}

/** Commands for a tablespace, which are passed over where a backup above does not have it any more. */
export function forSpace(oid: string, commands: readonly string[]): string[] {
  return [`case " $SPACES " in *" ${oid} "*)`, ...commands.map((line) => `  ${line}`), `esac`]
}

/** The steps of `RESTORE.txt` that bring back what an incremental backup builds upon. */
export function belowLines(record: BackupDraft, roots: readonly HandRoot[]): string[] {
  const parent = record.parent!.id
  const places = roots.map(({ variable }) => `${variable}="$${variable}/${BELOW}"`)
  return [
    `if [ "\${ONLY:-}" != link ]; then`,
    `  ${places.join(' ')} \\`,
    `    ONLY=files SPACES="$SPACES" WAL="$WAL" IDENTITY="\${IDENTITY:-}" \\`,
    `    BACKUP="$BACKUP/../${parent}" sh "$BACKUP/../${parent}/RESTORE.txt"`,
    `fi`,
  ]
}

/**
 * The steps that put the two together: a file of which only the changed blocks are here, INCREMENTAL.<name>, is made of
 * the one below; what then is left there is not in this backup.
 * @param manifest the command that writes the manifest
 * @see https://www.postgresql.org/docs/current/app-pgcombinebackup.html, which does the same
 */
export function combineLines(roots: readonly HandRoot[], manifest: string): string[] {
  return [
    `# This backup alone, for pg_combinebackup:`,
    `if [ "\${ONLY:-}" = link ]; then`,
    `  ${manifest}`,
    `  exit 0`,
    `fi`,
    `# An INCREMENTAL file: a magic number, how many blocks it has, the length up to which the file below counts, in`,
    `# blocks, and the blocks' numbers, four bytes each; then, from the next block's boundary on, the blocks. What`,
    `# follows each other there goes with one dd.`,
    `cat > "$DATA/${BELOW}/combine" <<'EOF'`,
    `set -eu`,
    `for link; do`,
    `  file=\${link%/*}/\${link##*/INCREMENTAL.}`,
    `  set -- $(od -A n -t u4 -N 12 "$link")`,
    `  [ "$1" = 3551403789 ] || { echo "$link is no incremental file" >&2; exit 1; }`,
    `  blocks=$2 length=$3`,
    `  mv "${BELOW}/$file" "$file"`,
    `  truncate -s $((length * 8192)) "$file"`,
    `  [ "$blocks" = 0 ] || od -A n -v -t u4 -j 12 -N $((4 * blocks)) "$link" | awk '`,
    `    { for (i = 1; i <= NF; i++)`,
    `        if (n > 0 && $i == to + n) n++`,
    `        else { if (n > 0) print to, n, from; from += n; to = $i; n = 1 } }`,
    `    END { print to, n, from + 0 }' |`,
    `  while read -r to n from; do`,
    `    dd if="$link" of="$file" bs=8192 count="$n" conv=notrunc status=none \\`,
    `      skip=$(((12 + 4 * blocks + 8191) / 8192 + from)) seek="$to"`,
    `  done`,
    `done`,
    `EOF`,
    ...roots.flatMap((root) => {
      const links = `find . -path ./${BELOW} -prune -o -type f -name 'INCREMENTAL.*'`
      const commands = [
        `cd "$${root.variable}"`,
        `${links} -exec sh "$DATA/${BELOW}/combine" {} +`,
        `${links} -exec rm {} +`,
        ...(root.oid === undefined ? [] : [`rm -rf "$${root.variable}/${BELOW}"`]),
      ]
      return root.oid === undefined ? commands : forSpace(root.oid, commands)
    }),
    `rm -rf "$DATA/${BELOW}"`,
    `# No server starts with the two lines that say upon what it was built:`,
    `sed '/^INCREMENTAL FROM /d' "$DATA/backup_label" > "$DATA/backup_label.whole"`,
    `mv "$DATA/backup_label.whole" "$DATA/backup_label"`,
  ]
}

/** What the heading says of a backup that builds upon another one. */
export function chainRemarks(record: BackupDraft): string[] {
  return [
    `#`,
    `# It builds upon ${record.parent!.id}, whose folder has to be beside this one.`,
    `# PostgreSQL 17 and later can put a chain together too. For that, unpack each of its backups by itself, and then:`,
    `#`,
    `#   ONLY=link DATA=/spare/1 sh RESTORE.txt (and so on, with a place of its own for each tablespace)`,
    `#   pg_combinebackup /spare/1 /spare/2 -o /new/data/directory`,
  ]
}

import { decodeCommand, methodOf } from '../archive/codec.ts'
import type { BackupDraft } from './backup-record.ts'
import { belowLines, chainRemarks, combineLines, forSpace } from './hand-combine.ts'
import { isSealed } from './sealed-object.ts'

/**
 * `RESTORE.txt`: how a person restores this very backup with a shell, tar and the codec's own program. It is also a
 * shell script that does so, which is how the tests hold it to be true.
 */
export function handRestoreText(record: BackupDraft): string {
  const spaces = record.tablespaces.map(({ oid, location }) => ({
    oid,
    location,
    variable: `TABLESPACE_${oid}`,
  }))
  const roots = [{ variable: 'DATA' }, ...spaces]
  const manifest = `${readCommand(record.objects.find(({ kind }) => kind === 'manifest')!.name)} > "$DATA/backup_manifest"`
  const lines = headLines(record)
  let step = 0
  const next = (text: string) => lines.push(`# ${++step}. ${text}`)

  next('An empty data directory.')
  lines.push(
    `mkdir -p "$DATA"`,
    `[ -z "$(ls -A "$DATA")" ] || { echo "$DATA is not empty" >&2; exit 1; }`,
    `chmod 700 "$DATA"`,
    ``,
  )
  if (spaces.length > 0) {
    lines.push(
      `# The tablespaces. To put one elsewhere, set its variable.`,
      ...spaces.map(
        ({ variable, location }) => `[ -n "\${${variable}:-}" ] || ${variable}=${quote(location)}`,
      ),
    )
  }
  // A backup that builds upon this one may have lost some of them.
  lines.push(`SPACES=\${SPACES-"${spaces.map(({ oid }) => oid).join(' ')}"}`, ``)
  if (record.parent) {
    next('What this backup builds upon, into a folder inside each of those that are restored.')
    lines.push(...belowLines(record, roots), ``)
  }
  next("The data directory's files. The last shard holds pg_control, without which no server starts.")
  lines.push(...unpackCommands(record, 'base', '$DATA'), ``)
  if (spaces.length > 0) {
    next("The tablespaces' files.")
    lines.push(`mkdir -p "$DATA/pg_tblspc"`)
    for (const { oid, variable } of spaces) {
      const commands = [
        `mkdir -p "$${variable}"; chmod 700 "$${variable}"`,
        ...unpackCommands(record, oid, `$${variable}`),
        `ln -s "$${variable}" "$DATA/pg_tblspc/${oid}"`,
      ]
      lines.push(...forSpace(oid, commands))
    }
    lines.push('')
  }
  if (record.parent) {
    next('The two are put together.')
    lines.push(...combineLines(roots, manifest), ``)
  } else {
    next(
      `The manifest. pg_verifybackup checks the directory against it${record.standalone ? '' : ' (with -n: WAL comes from the archive)'}.`,
    )
    lines.push(manifest, ``)
  }
  lines.push(`# A backup that builds upon this one needs no more.`, `[ -z "\${ONLY:-}" ] || exit 0`, ``)
  const wal = unpackCommands(record, 'wal', '$DATA')
  if (wal.length > 0) {
    next('The WAL that belongs to the backup.')
    lines.push(...wal, ``)
  }
  if (record.method !== 'cold') {
    next('Recovery: the server replays the archived WAL up to its end. To stop earlier, add for example')
    lines.push(...recoveryLines(record))
  }
  next('Start it: pg_ctl -D "$DATA" start')
  for (const file of record.outsideFiles) {
    lines.push(`#    ${comment(file)} was outside the data directory and is not in this backup.`)
  }
  return `${lines.join('\n')}\n`
}

/** What is needed, and where things are. */
function headLines(record: BackupDraft): string[] {
  return [
    `# How to restore this backup by hand, without pgrecall.`,
    `#`,
    `#   backup      ${record.id} of cluster ${comment(record.cluster)}`,
    `#   PostgreSQL  ${comment(record.postgres.text)}`,
    `#   consistent  at ${record.stop.lsn}, ${record.stop.time} (timeline ${record.timeline})`,
    `#`,
    `# You need: ${tools(record)}, and the same major version of PostgreSQL.`,
    `# Follow the steps, or run this text as a shell script, as the user who will run the server:`,
    `#`,
    `#   ${record.recipients ? 'IDENTITY=/secret/key.txt ' : ''}DATA=/new/data/directory sh RESTORE.txt`,
    ...(record.parent ? chainRemarks(record) : []),
    ``,
    `set -eu`,
    `# This folder, and the archived WAL beside it:`,
    `BACKUP=\${BACKUP:-$(cd "$(dirname "$0")" && pwd)}`,
    `WAL=\${WAL:-$(cd "$BACKUP/../.." && pwd)/wal}`,
    ...(record.recipients
      ? [
          `# The secret key of one of these public keys:`,
          ...record.recipients.map((recipient) => `#   ${recipient}`),
          `: "\${IDENTITY:?say which file holds the secret key: IDENTITY=/secret/key.txt sh RESTORE.txt}"`,
          `case $IDENTITY in /*) ;; *) IDENTITY=$PWD/$IDENTITY ;; esac`,
        ]
      : []),
    `# What becomes part of a command inside a setting:`,
    `case $WAL${record.recipients ? '$IDENTITY' : ''} in *[\\'\\"\\$\\\`%\\\\]*)`,
    `  echo "$WAL${record.recipients ? ' or $IDENTITY' : ''} has a character that a setting cannot hold: give it by a link, WAL=/a/link sh RESTORE.txt" >&2`,
    `  exit 1 ;;`,
    `esac`,
    `: "\${DATA:?say where the data directory is to be: DATA=/new/data/directory sh RESTORE.txt}"`,
    `case $DATA in /*) ;; *) DATA=$PWD/$DATA ;; esac`,
    ``,
  ]
}

function unpackCommands(record: BackupDraft, group: string, into: string): string[] {
  return record.objects
    .filter((object) => object.kind === 'shard' && object.group === group)
    .map(({ name }) => `${readCommand(name)} | tar -xpf - -C "${into}"`)
}

function recoveryLines(record: BackupDraft): string[] {
  const hasRecoveryConf = record.postgres.version < 120_000
  const settingsFile = hasRecoveryConf ? 'recovery.conf' : 'postgresql.auto.conf'
  return [
    `#      recovery_target_time = '2026-11-20 17:29:00+00'`,
    `#    and, for a copy beside the living server, archive_mode = off, so that it does not archive into the same place,`,
    `#    to the same file before the server starts. Keep backup_label: without it the copy is not consistent.`,
    `#    The command answers 1 where there is no such WAL, which ends the recovery. 200 stops it: a folder that is not`,
    `#    mounted or a damaged file must not look like the end.`,
    ...(record.standalone
      ? [`# There may be no archive: then the WAL in the backup is all.`, `if [ -d "$WAL" ]; then`]
      : []),
    `cat >> "$DATA/${settingsFile}" <<EOF`,
    `restore_command = '${fetchCommand(record)}'`,
    `EOF`,
    ...(record.standalone ? [`else echo "restore_command = 'exit 1'" >> "$DATA/${settingsFile}"; fi`] : []),
    ...(hasRecoveryConf ? [] : [`touch "$DATA/recovery.signal"`]),
    ``,
  ]
}

/** A file that is encrypted although this backup is not, since that was switched on later, must not look like the end. */
function fetchCommand({ recipients }: BackupDraft): string {
  const find = `f=\\$(find "$WAL/" -name "%f.zst*" -print -quit) || exit 200; [ -n "\\$f" ] || exit 1`
  if (!recipients) return `${find}; zstd -dcq "\\$f" > "%p" || exit 200`
  const decrypt = `case \\$f in *.age) age -d -i "$IDENTITY" -o "%p.zst" "\\$f" ;; *) cp "\\$f" "%p.zst" ;; esac`
  return `${find}; ${decrypt} && zstd -dcq "%p.zst" > "%p" && rm "%p.zst" || exit 200`
}

/** The command that writes the content of an object of the backup. */
function readCommand(name: string): string {
  const decode = decodeCommand(methodOf(name))
  return isSealed(name)
    ? `age -d -i "$IDENTITY" "$BACKUP/${name}" | ${decode}`
    : `${decode} "$BACKUP/${name}"`
}

/** The programs that read the objects, and zstd for the archived WAL. */
function tools(record: BackupDraft): string {
  const methods = new Set<string>(record.objects.map((object) => methodOf(object.name)))
  methods.delete('none')
  if (record.method !== 'cold') methods.add('zstd')
  if (record.recipients) methods.add('age')
  const combining = record.parent ? ['awk', 'dd', 'od', 'sed', 'truncate'] : []
  return ['tar', 'find', ...combining, ...[...methods].sort()].join(', ')
}

/** Text from the server inside a comment: one line, whatever it holds. */
const comment = (text: string) => text.replace(/[\r\n]/g, ' ')

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`

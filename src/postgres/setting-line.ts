/**
 * A line of `postgresql.conf`. Inside the quotes the server reads two quotes as one, and backslashes as escapes.
 * @see GUC_scanstr in src/backend/utils/misc/guc-file.l
 */
export function settingLine(name: string, value: string): string {
  return `${name} = '${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}

import type { TarMember } from '../archive/tar.ts'
import { PgrecallError } from '../errors.ts'

/**
 * Refuses a member that would be written anywhere but below its root: an archive is input, and may have been made by
 * someone who means harm.
 * @param closed folders, relative to the root, that are links to elsewhere
 * @throws PgrecallError `damaged`
 */
export function requireSafeMember(member: Pick<TarMember, 'path' | 'type'>, closed: readonly string[]): void {
  const parts = member.path.split('/')
  const escapes =
    parts.some((part) => part === '' || part === '.' || part === '..') || member.path.includes('\0')
  const throughLink = closed.some((folder) => member.path === folder || member.path.startsWith(`${folder}/`))
  if (!escapes && !throughLink && member.type !== 'symlink') return
  throw new PgrecallError(
    'damaged',
    `the archive holds ${JSON.stringify(member.path)}, which ${member.type === 'symlink' ? 'is a link' : 'lies outside the data directory'}; no backup of pgrecall holds such a member`,
    { hint: 'somebody changed this backup: do not use it' },
  )
}

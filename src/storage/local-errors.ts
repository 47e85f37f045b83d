import { PgrecallError, reasonOf, systemCode } from '../errors.ts'

const SENTENCES: Record<string, string> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EIO: 'the disk reported an input/output error',
  ENOTDIR: 'a file stands where a folder must be',
  EISDIR: 'a folder stands where a file must be',
  EEXIST: 'a folder stands where a file must be',
}

const HINTS: Record<string, (root: string) => string> = {
  ENOSPC: () => 'free some space, for example with "pgrecall retention", and run this again',
  EDQUOT: () => 'raise the quota or free some space, and run this again',
  EACCES: (root) => `run as the user who owns ${root}, usually postgres`,
  EPERM: (root) =>
    `${root} must be on a file system with hard links, and belong to the user who runs pgrecall`,
  EIO: () => 'look at the kernel log; the disk may be failing',
}

/**
 * A failed system call as a sentence; any other error as it is.
 * @param doing what failed, as a verb: "write"
 * @param path what it failed on
 * @param root the repository's folder
 */
export function storageError(error: unknown, doing: string, path: string, root: string): unknown {
  const code = systemCode(error)
  if (error instanceof PgrecallError || code === undefined || code === 'ABORT_ERR') return error
  const hint = HINTS[code]?.(root)
  return new PgrecallError(
    'repository',
    `cannot ${doing} ${path}: ${SENTENCES[code] ?? reasonOf(error)}`,
    hint === undefined ? { cause: error } : { cause: error, hint },
  )
}

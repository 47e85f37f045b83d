import { readFile } from 'node:fs/promises'
import { relative, sep } from 'node:path'
import { PgrecallError } from '../errors.ts'

/** A file system, or a part of it, that is mounted on a folder. */
export interface Mount {
  /** The folder that it is mounted on. */
  target: string
  /** The folder in the file system that is shown there: `/` unless it is a subvolume or a bind mount. */
  root: string
  /** `ext4`, `xfs`, `btrfs`, `zfs`... */
  type: string
  /** A device, or the name of a dataset. */
  source: string
  /** `major:minor`, the same for all mounts of one file system. */
  device: string
  /** Of the file system, not of the mount. */
  options: string[]
}

/** The mounts that this process sees, in the order in which they were made. */
export async function readMounts(): Promise<Mount[]> {
  return parseMounts(await readFile('/proc/self/mountinfo', 'utf8'))
}

/** @see proc(5), /proc/pid/mountinfo: optional fields of any number end with a single hyphen. */
export function parseMounts(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [front, back] = line.split(' - ')
    if (back === undefined) return []
    const [, , device, root, target] = front!.split(' ')
    const [type, source, options] = back.split(' ')
    return [
      {
        target: withoutOctal(target!),
        root: withoutOctal(root!),
        type: type!,
        source: withoutOctal(source!),
        device: device!,
        options: options!.split(','),
      },
    ]
  })
}

/** Spaces, tabs, line feeds and backslashes are in octal. */
function withoutOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}

/** The mount through which a path without symbolic links is seen: the innermost, and of those the last made. */
export function mountOf(mounts: readonly Mount[], path: string): Mount {
  const found = mounts
    .filter(({ target }) => isWithin(target, path))
    .reduce<Mount | undefined>(
      (best, mount) => (best && best.target.length > mount.target.length ? best : mount),
      undefined,
    )
  if (found) return found
  throw new PgrecallError('refused', `cannot find out on which file system ${path} is`, {
    hint: 'is /proc mounted?',
  })
}

/** Whether `path` is the folder or lies below it. */
export function isWithin(folder: string, path: string): boolean {
  const way = relative(folder, path)
  return way !== '..' && !way.startsWith(`..${sep}`)
}

/**
 * Refuses a folder in which something else is mounted, since a snapshot of its volume does not hold that.
 * @param isEmptied says of which folders the content is not wanted; there, other mounts do not matter
 */
export function requireOneVolume(
  mounts: readonly Mount[],
  folder: string,
  isEmptied: (path: string) => boolean,
): void {
  const inner = mounts.find(
    ({ target }) =>
      target !== folder && isWithin(folder, target) && !isUnwanted(relative(folder, target), isEmptied),
  )
  if (inner) throw notInSnapshot(folder, inner.target, 'another volume is mounted there')
}

/** Whether a path, or a folder above it, is one whose content is not wanted. */
function isUnwanted(path: string, isEmptied: (path: string) => boolean): boolean {
  return path.split(sep).some((_, index, parts) => isEmptied(parts.slice(0, index + 1).join(sep)))
}

export function notInSnapshot(folder: string, inner: string, why: string): PgrecallError {
  return new PgrecallError('refused', `a snapshot of ${folder} would not contain ${inner}: ${why}`, {
    hint: 'make it a plain folder, move it into a tablespace, or use --method files',
  })
}

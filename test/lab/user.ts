import { execFileSync } from 'node:child_process'
import { chown } from 'node:fs/promises'

/** Who runs the servers, and pgrecall beside them. */
export interface LabUser {
  name: string
  uid: number
  gid: number
}

/** PostgreSQL refuses to run as root. So root lends its servers to `postgres`, or to `nobody`; others use themselves. */
export const labUser: LabUser | undefined =
  process.getuid?.() === 0 ? (lookUp('postgres') ?? lookUp('nobody')) : undefined

/** Options for `spawn` and execa that start a child as the lab's user; empty when that is who we are. */
export const asLabUser: { uid?: number; gid?: number } = labUser ? { uid: labUser.uid, gid: labUser.gid } : {}

/** Hands a file or folder (not its contents) to the lab's user. */
export async function giveToLabUser(path: string): Promise<void> {
  if (labUser) await chown(path, labUser.uid, labUser.gid)
}

function lookUp(name: string): LabUser | undefined {
  try {
    const [uid, gid] = ['-u', '-g'].map((flag) =>
      Number(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })),
    )
    return { name, uid: uid!, gid: gid! }
  } catch {
    return undefined
  }
}

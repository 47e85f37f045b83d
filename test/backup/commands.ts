import { existsSync } from 'node:fs'
import { mkdir, symlink } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import type { ErrorKind } from '../../src/errors.ts'
import type { RestorePlan } from '../../src/restore/plan.ts'
import type { AdoptOptions, Cluster } from '../lab/cluster.ts'
import type { Lab } from '../lab/lab.ts'
import type { RunOptions } from '../lab/product.ts'
import type { Scratch } from '../lab/scratch.ts'
import { giveToLabUser } from '../lab/user.ts'

/** What a command that failed says with `--json`. */
export interface Failure {
  exitCode: number | undefined
  kind: ErrorKind | 'internal'
  message: string
  hint: string | null
}

/** What `restore --json` answers. */
export interface RestoreAnswer {
  dryRun: boolean
  plan: RestorePlan
  replaces: string[]
  files?: number
}

/** Runs a command that must succeed. @returns its `--json` answer */
export async function answerOf<Answer>(lab: Lab, args: string[], options: RunOptions = {}): Promise<Answer> {
  const { exitCode, signal, stdout, stderr } = await lab.pgrecall([...args, '--json'], options)
  if (exitCode !== 0)
    throw new Error(`pgrecall ${args.join(' ')} ended with ${signal ?? exitCode}:\n${stderr}`)
  return JSON.parse(stdout) as Answer
}

/** Runs a command that must fail. @returns the error that it tells */
export async function failureOf(lab: Lab, args: string[], options: RunOptions = {}): Promise<Failure> {
  const { exitCode, signal, stdout, stderr } = await lab.pgrecall([...args, '--json'], options)
  if (exitCode === 0) throw new Error(`pgrecall ${args.join(' ')} succeeded: ${stdout.slice(0, 200)}`)
  if (!stdout) throw new Error(`pgrecall ${args.join(' ')} ended with ${signal ?? exitCode}:\n${stderr}`)
  return { exitCode, ...(JSON.parse(stdout) as { error: Omit<Failure, 'exitCode'> }).error }
}

export function backUp(lab: Lab, args: string[] = [], options: RunOptions = {}): Promise<BackupRecord> {
  return answerOf(lab, ['backup', ...args], options)
}

/** The ids that `list` shows. */
export async function listedBackups(lab: Lab): Promise<string[]> {
  const [catalog] = await answerOf<{ backups: { id: string }[] }[]>(lab, ['list'])
  return catalog!.backups.map((backup) => backup.id)
}

/** Restores into a folder of the scratch. @returns its path */
export async function restoreTo(lab: Lab, name: string, args: string[] = []): Promise<string> {
  const directory = join(lab.scratch.path, name)
  await answerOf(lab, ['restore', ...args, '--data-directory', directory])
  return directory
}

/**
 * Restores into a folder of the scratch and starts a server on it, ready to be asked. It archives nothing, so that its
 * timeline stays its own.
 */
export async function recover(
  lab: Lab,
  name: string,
  args: string[] = [],
  options: Omit<AdoptOptions, 'within'> = {},
): Promise<Cluster> {
  const directory = await restoreTo(lab, name, args)
  const settings = { archive_mode: 'off', ...options.settings }
  const server = await lab.adopt(directory, { ...options, settings })
  await server.start()
  return server
}

/** A folder that holds nothing but links to these programs: a PATH of a poor machine. */
export async function folderOfPrograms(scratch: Scratch, programs: readonly string[]): Promise<string> {
  const folder = await scratch.folder('programs')
  for (const program of programs) {
    const path = (process.env.PATH ?? '')
      .split(delimiter)
      .map((place) => join(place, program))
      .find((candidate) => existsSync(candidate))
    if (!path) throw new Error(`this machine has no ${program}`)
    await symlink(path, join(folder, program))
  }
  return folder
}

/** A folder for the lab's user, at any path below the scratch. */
export async function labFolder(path: string): Promise<string> {
  await mkdir(path, { mode: 0o700 })
  await giveToLabUser(path)
  return path
}

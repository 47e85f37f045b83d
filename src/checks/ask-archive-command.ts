import { constants } from 'node:fs'
import { access, realpath } from 'node:fs/promises'
import { configPaths } from '../config/load.ts'
import { quoteForRestoreCommand } from '../postgres/recovery-settings.ts'
import {
  type ArchiveCommand,
  type CallFacts,
  judgeArchiveCommand,
  readArchiveCommand,
} from './archive-command.ts'
import type { Finding } from './finding.ts'
import type { LookOverQuestion } from './question.ts'

/** @param isHere whether the server is on this host, so that the files that its command names are ours to look at */
export async function checkArchiveCommand(
  setting: string,
  question: LookOverQuestion,
  isHere: boolean,
): Promise<Finding[]> {
  const { launcher, loaded, cluster } = question
  const command = readArchiveCommand(setting)
  const clusters = Object.keys(loaded.config.clusters).length
  const facts = isHere ? await callFacts(command, question) : { program: undefined, sameConfig: undefined }
  return judgeArchiveCommand(
    command,
    facts,
    { launcher, file: loaded.file, cluster, clusters },
    archiveStatement(question),
  )
}

/** What a superuser says to archive this cluster. */
export function archiveStatement({ launcher, loaded, cluster }: LookOverQuestion): string {
  const words = [
    launcher,
    ...(loaded.file === undefined ? [] : ['--config', loaded.file]),
    ...(Object.keys(loaded.config.clusters).length > 1 ? ['--cluster', cluster] : []),
  ]
  const command = `${words.map(quoteForRestoreCommand).join(' ')} wal-push "%p"`
  return `ALTER SYSTEM SET archive_command = '${command.replaceAll("'", "''")}'; SELECT pg_reload_conf();`
}

async function callFacts(command: ArchiveCommand, question: LookOverQuestion): Promise<CallFacts> {
  if (command.kind !== 'push') return { program: undefined, sameConfig: undefined }
  const { call } = command
  return {
    program: call.program.startsWith('/') ? await whatIs(call.program, question.launcher) : undefined,
    sameConfig: await readsSameConfig(call.config, question),
  }
}

async function whatIs(path: string, launcher: string): Promise<CallFacts['program']> {
  const real = await realpath(path).catch(() => undefined)
  if (real === undefined) return 'absent'
  const runs = await access(real, constants.X_OK).then(
    () => true,
    () => false,
  )
  if (!runs) return 'not executable'
  return real === (await realpath(launcher).catch(() => launcher)) ? 'ours' : 'another'
}

/** Without one named, it is looked for in the server's own surroundings, where the usual places are the same. */
async function readsSameConfig(
  named: string | undefined,
  { loaded, env, home }: LookOverQuestion,
): Promise<boolean> {
  const { file } = loaded
  if (named === undefined) return file === undefined || configPaths({ env, home }).includes(file)
  if (file === undefined) return false
  const real = (path: string) => realpath(path).catch(() => path)
  return (await real(named)) === (await real(file))
}

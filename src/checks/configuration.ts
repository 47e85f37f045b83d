import { stat } from 'node:fs/promises'
import { isOpenToOthers } from '../config/keys.ts'
import type { LoadedConfig } from '../config/load.ts'
import type { ClusterConfig } from '../config/schema.ts'
import { type Finding, pass, warn } from './finding.ts'

/** Of the file, and of the files with secrets that it names: who else may read or change them. */
export async function checkConfiguration(
  cluster: string,
  config: ClusterConfig,
  { file, config: whole, warnings }: LoadedConfig,
): Promise<Finding[]> {
  const subject = 'configuration'
  const findings = [
    pass(subject, `${file ?? 'no file, so the defaults hold'}, cluster "${cluster}"`),
    ...warnings.map((warning) => {
      const [text, hint] = warning.split('; run: ')
      return warn(subject, text!, hint)
    }),
  ]
  if (file !== undefined) findings.push(...(await checkWriters(file)))
  const secrets = config.repositories.flatMap(({ name }) => secretFiles(whole.repositories[name]!))
  const { connection } = config
  if (typeof connection === 'object' && connection.passwordFile !== undefined)
    secrets.push(connection.passwordFile)
  for (const secret of new Set(secrets)) findings.push(...(await checkReaders(secret)))
  return findings
}

/** Who can change it decides where the backups go, and what is run as the server's user. */
async function checkWriters(file: string): Promise<Finding[]> {
  const mode = (await stat(file).catch(() => undefined))?.mode ?? 0
  return (mode & 0o022) === 0
    ? []
    : [warn('configuration', `${file} can be changed by others`, `chmod go-w ${file}`)]
}

function secretFiles(repository: LoadedConfig['config']['repositories'][string]): string[] {
  const { encryption } = repository
  return [
    ...(encryption?.identityFile ?? []),
    ...(encryption?.passphraseFile === undefined ? [] : [encryption.passphraseFile]),
    ...(repository.type === 's3' && repository.credentialsFile !== undefined
      ? [repository.credentialsFile]
      : []),
  ]
}

/** One that is not there is told by what needs it. */
async function checkReaders(file: string): Promise<Finding[]> {
  const facts = await stat(file).catch(() => undefined)
  if (!facts || !isOpenToOthers(facts)) return []
  return [warn('secret files', `${file} holds a secret and can be read by others`, `chmod 600 ${file}`)]
}

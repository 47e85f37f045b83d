import { open, rm } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { newIdentity } from '../archive/age.ts'
import { readPassphrase } from '../config/keys.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { syncFolder } from '../storage/durable-files.ts'
import type { CommandContext, Run } from './context.ts'

/** Makes a secret key in a file that age reads too, and tells its public key. The secret itself is never printed. */
export const run: Run = async ({ options }, context) => {
  const file = outputOf(options, context)
  const passphraseFile = passphraseFileOf(options, context)
  const pair = await newIdentity({ postQuantum: options.postQuantum === true })
  const text = identityText(pair, context.now())
  await writeNew(file, passphraseFile ? await encrypted(text, passphraseFile, context) : text)
  return {
    text: [
      `Wrote a secret key to ${file}.`,
      `Its public key is ${pair.recipient}`,
      '',
      'Put this below a repository in the configuration:',
      '',
      '    encryption:',
      `      recipients: [${pair.recipient}]`,
      '',
      'and these lines too where something is read, which is where restores run:',
      '',
      `      identityFile: ${file}`,
      ...(passphraseFile ? [`      passphraseFile: ${passphraseFile}`] : []),
      '',
      `Keep a copy of ${file}${passphraseFile ? ' and of its passphrase' : ''} away from this host: without it, nothing that is encrypted can be read.`,
    ].join('\n'),
    json: { identityFile: file, recipient: pair.recipient, passphraseFile: passphraseFile ?? null },
  }
}

function outputOf({ output }: Record<string, unknown>, { cwd }: CommandContext): string {
  if (typeof output === 'string' && output !== '') return resolve(cwd, output)
  throw new PgrecallError('usage', 'it is not said where the secret key is to be written', {
    hint: 'name a file that does not exist yet: pgrecall key new --output /etc/pgrecall/identity.txt',
  })
}

function passphraseFileOf(
  { passphraseFile }: Record<string, unknown>,
  { cwd }: CommandContext,
): string | undefined {
  return typeof passphraseFile === 'string' ? resolve(cwd, passphraseFile) : undefined
}

/** As age-keygen writes it. */
function identityText({ identity, recipient }: { identity: string; recipient: string }, now: Date): string {
  const created = now.toISOString().replace(/\.\d+Z$/, 'Z')
  return `# created: ${created}\n# public key: ${recipient}\n${identity}\n`
}

async function encrypted(text: string, passphraseFile: string, { events }: CommandContext): Promise<string> {
  const passphrase = await readPassphrase(passphraseFile, (warning) =>
    events.emit('warning', { text: warning }),
  )
  const { sealWithPassphrase } = await import('../archive/age-keys.ts')
  return sealWithPassphrase(text, passphrase)
}

/** Makes a file that only its owner reads, durably; one that exists may hold a key that something is encrypted to. */
async function writeNew(file: string, text: string): Promise<void> {
  try {
    await using handle = await open(file, 'wx', 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } catch (error) {
      await rm(file, { force: true })
      throw error
    }
    await syncFolder(dirname(file))
  } catch (error) {
    if (systemCode(error) === 'EEXIST') {
      throw new PgrecallError('refused', `${file} exists already, and a key is never overwritten`, {
        hint: 'choose another name with --output',
        cause: error,
      })
    }
    throw new PgrecallError('failed', `cannot write ${file}: ${reasonOf(error)}`, {
      hint: 'name a file in a folder that exists, with --output',
      cause: error,
    })
  }
}

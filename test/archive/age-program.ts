import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeThrough } from './programs.ts'

const isThere = (name: string) => spawnSync(name, ['--version']).error === undefined

/** Whether age is here, for `describe.runIf`; where CI is set it must be. */
export const HAS_AGE = Boolean(process.env.CI) || isThere('age')

/** The programs that speak age: its own, and rage where that is installed too. */
export const AGE_PROGRAMS = ['age', ...(isThere('rage') ? ['rage'] : [])]

/** A key pair as `age-keygen` draws it, with its file in a folder. */
export async function keygen(folder: string, name: string) {
  const file = join(folder, name)
  const text = pipeThrough('age-keygen', [], Buffer.alloc(0)).toString('utf8')
  await writeFile(file, text, { mode: 0o600 })
  return { file, text, identity: /^AGE-SECRET-KEY-1\S+/m.exec(text)![0], recipient: /age1\S+/.exec(text)![0] }
}

export function ageEncrypt(recipients: readonly string[], plain: Buffer, program = 'age'): Buffer {
  return pipeThrough(
    program,
    recipients.flatMap((recipient) => ['-r', recipient]),
    plain,
  )
}

/** @throws with what the program said */
export function ageDecrypt(identityFile: string, object: Buffer, program = 'age'): Buffer {
  return pipeThrough(program, ['--decrypt', '-i', identityFile], object)
}

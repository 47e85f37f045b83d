import type { Repository } from '../catalog/repository.ts'
import { tryIt } from '../storage/probe.ts'
import type { ProbeFinding } from '../storage/storage.ts'
import type { CommandContext } from './context.ts'

/** What `check` says of one thing. */
export type Finding = ProbeFinding

/** What came of looking at a repository. */
export interface CheckedRepository {
  findings: Finding[]
  /** Whether something can be stored there, so that it makes sense to wait for WAL. */
  isUsable: boolean
}

/** Tries all that is done with a repository. What fails in an optional one is a warning, since it stops nothing. */
export async function checkRepository(
  repository: Repository,
  context: CommandContext,
): Promise<CheckedRepository> {
  const findings = [...(await tryStore(repository, context)), ...(await tryKeys(repository, context))]
  const isUsable = !findings.some(({ verdict }) => verdict === 'fail')
  if (repository.required) return { findings, isUsable }
  const softened = findings.map((finding) =>
    finding.verdict === 'fail' ? { ...finding, verdict: 'warn' as const } : finding,
  )
  return { findings: softened, isUsable }
}

/** What works is one line, what does not is a line for each. */
async function tryStore(repository: Repository, { makeIfNew, signal }: CommandContext): Promise<Finding[]> {
  const { name, storage } = repository
  const subject = `repository "${name}"`
  const make = () => tryIt(subject, () => makeIfNew(repository).then(() => storage.location), signal)
  // Nothing may be written below a folder in which a disk is not mounted; of a bucket the probe tells more than a write that fails.
  const isFolder = storage.address.type === 'local'
  const before = isFolder ? await make() : undefined
  if (before?.verdict === 'fail') return [before]
  const passed: string[] = []
  const others: Finding[] = []
  for await (const finding of storage.probe(signal)) {
    if (finding.verdict === 'pass') passed.push(finding.subject)
    else others.push({ ...finding, subject, text: `${finding.subject}: ${finding.text}` })
  }
  const isSound = !others.some(({ verdict }) => verdict === 'fail')
  const after = !isFolder && isSound ? await make() : undefined
  if (after?.verdict === 'fail') others.push(after)
  if (passed.length === 0) return others
  const text = `${storage.location}, tried with success: ${passed.join(', ')}`
  return [{ subject, verdict: 'pass', text }, ...others]
}

async function tryKeys({ name, keys }: Repository, { config, signal }: CommandContext): Promise<Finding[]> {
  const { sealer, opener } = keys
  if (!sealer) return []
  const hasIdentity = config().config.repositories[name]?.encryption?.identityFile.length !== 0
  const finding = await tryIt(
    `keys of "${name}"`,
    async () => {
      const seal = await sealer.seal()
      const count = sealer.recipients.length
      const sealed = `objects are encrypted to ${count === 1 ? 'one public key' : `${count} public keys`}`
      if (!hasIdentity) return `${sealed}; this host has no secret key: it can write but not read`
      const content = Buffer.from(name)
      const read = await opener.openWhole(Buffer.concat([seal.header, seal.encryptWhole([content])]))
      if (!read.equals(content)) throw new Error('what was encrypted is not what was decrypted')
      return `${sealed}, and this host can read them`
    },
    signal,
  )
  return [finding]
}

import { stat } from 'node:fs/promises'
import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import { readIdentity, requireRepository } from '../catalog/identity.ts'
import type { Repository } from '../catalog/repository.ts'
import { tryIt } from '../storage/probe.ts'
import { type Finding, pass, softened, warn } from './finding.ts'
import type { LookOverQuestion } from './question.ts'

/** What came of looking at a repository. */
export interface CheckedRepository {
  repository: Repository
  keys: Finding[]
  findings: Finding[]
  /** Whether something can be stored there, so that it makes sense to wait for WAL. */
  isUsable: boolean
  /** What of the cluster is stored there; undefined where that cannot be read. */
  catalog: Catalog | undefined
}

/** Tries all that is done with a repository. What fails in an optional one is a warning, since it stops nothing. */
export async function checkRepository(
  repository: Repository,
  question: LookOverQuestion,
): Promise<CheckedRepository> {
  const { storage } = repository
  const keys = await tryKeys(repository, question)
  const findings = [...(await tryStore(repository, question)), ...(await checkFolder(repository))]
  const isUsable = ![...keys, ...findings].some(({ verdict }) => verdict === 'fail')
  return {
    repository,
    keys: softened(keys, repository),
    findings: softened(findings, repository),
    isUsable,
    catalog: await readCatalog(storage, question),
  }
}

/** Why it cannot be read, the trial tells. */
async function readCatalog(storage: Repository['storage'], { cluster, signal }: LookOverQuestion) {
  return await loadCatalog(storage, cluster, { believing: true }).catch(() => {
    signal.throwIfAborted()
    return undefined
  })
}

/** Backups hold all rows; the files in a folder that is closed to others are as well. */
async function checkFolder({ name, storage: { address } }: Repository): Promise<Finding[]> {
  if (address.type !== 'local') return []
  const mode = (await stat(address.path).catch(() => undefined))?.mode ?? 0
  if ((mode & 0o077) === 0) return []
  const text = `the folder ${address.path} is open to others (mode ${(mode & 0o777).toString(8).padStart(4, '0')})`
  return [warn(`repository "${name}"`, text, `chmod 700 ${address.path}`)]
}

/** What works is one line, what does not is a line for each. */
async function tryStore(
  repository: Repository,
  { cluster, makeIfNew, signal }: LookOverQuestion,
): Promise<Finding[]> {
  const { name, storage } = repository
  const subject = `repository "${name}"`
  const open = () => (makeIfNew ? makeIfNew(repository) : requireRepository(storage))
  const look = async () => {
    await open()
    await readIdentity(storage, cluster)
    return storage.location
  }
  const make = () => tryIt(subject, look, signal)
  // Nothing may be written below a folder in which a disk is not mounted; of a bucket the probe tells more than a write that fails.
  const isFolder = storage.address.type === 'local'
  const before = isFolder ? await make() : undefined
  if (before?.verdict === 'fail') return [before]
  const passed: string[] = []
  const others: Finding[] = []
  for await (const finding of storage.probe(signal, { readOnly: !makeIfNew })) {
    if (finding.verdict === 'pass') passed.push(finding.subject)
    else others.push({ ...finding, subject, text: `${finding.subject}: ${finding.text}` })
  }
  const isSound = !others.some(({ verdict }) => verdict === 'fail')
  const after = !isFolder && isSound ? await make() : undefined
  if (after?.verdict === 'fail') others.push(after)
  if (passed.length === 0) return others
  const how = makeIfNew ? 'tried with success' : 'looked at with success'
  const text = `${storage.location}, ${how}: ${passed.join(', ')}`
  return [pass(subject, text), ...others]
}

async function tryKeys({ name, keys }: Repository, { loaded, signal }: LookOverQuestion): Promise<Finding[]> {
  const { sealer, opener } = keys
  if (!sealer) return []
  const hasIdentity = loaded.config.repositories[name]?.encryption?.identityFile.length !== 0
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

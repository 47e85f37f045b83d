import { Opener, Sealer } from '../archive/age.ts'
import { openStorage } from '../storage/open.ts'
import type { Repository, RepositoryAddress } from './repository.ts'

/** Opens a repository from plain data, as at the start of a worker. */
export function openRepository({ identities, ...address }: RepositoryAddress): Repository {
  return openRepositoryWith(address, async () => identities)
}

/** Opens a repository. @param loadIdentities gives the secret keys when something that is encrypted is read */
export function openRepositoryWith(
  { name, required, storage, recipients }: Omit<RepositoryAddress, 'identities'>,
  loadIdentities: () => Promise<readonly string[]>,
): Repository {
  const sealer = recipients.length > 0 ? new Sealer(recipients) : undefined
  return {
    name,
    required,
    storage: openStorage(storage),
    keys: { sealer, opener: new Opener(loadIdentities) },
  }
}

/**
 * How a worker opens the same repository.
 * @param purpose only one that reads what is encrypted is given the secret keys
 * @throws PgrecallError `key` when it is to read and this host has none
 */
export async function addressOf(
  { name, required, storage, keys }: Repository,
  purpose: 'write' | 'read',
): Promise<RepositoryAddress> {
  return {
    name,
    required,
    storage: storage.address,
    recipients: keys.sealer?.recipients ?? [],
    identities: purpose === 'read' ? await keys.opener.identities() : [],
  }
}

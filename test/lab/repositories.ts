import { Opener, Sealer } from '../../src/archive/age.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { PgrecallError } from '../../src/errors.ts'
import type { Storage } from '../../src/storage/storage.ts'

/** The opener of a host without a secret key. */
export function noKey(): Opener {
  return new Opener(() => Promise.reject(new PgrecallError('key', 'this host has no secret key')))
}

/** A required repository in which nothing is encrypted. */
export function plainRepository(name: string, storage: Storage): Repository {
  return { name, storage, required: true, keys: { sealer: undefined, opener: noKey() } }
}

/** The same, of which a failure is a warning. */
export function optionalRepository(name: string, storage: Storage): Repository {
  return { ...plainRepository(name, storage), required: false }
}

/**
 * A required repository in which everything is encrypted.
 * @param identities the secret keys that this host has; none on a host that can only write
 */
export function encryptedRepository(
  name: string,
  storage: Storage,
  recipients: readonly string[],
  identities: readonly string[] = [],
): Repository {
  const opener = identities.length > 0 ? new Opener(() => Promise.resolve(identities)) : noKey()
  return { ...plainRepository(name, storage), keys: { sealer: new Sealer(recipients), opener } }
}

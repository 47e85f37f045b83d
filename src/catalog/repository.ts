import type { Opener, Sealer } from '../archive/age.ts'
import type { Storage } from '../storage/storage.ts'

/** A repository as the configuration names it. */
export interface Repository {
  name: string
  storage: Storage
  /** Whether what it cannot take is a failure, where a cluster has several. */
  required: boolean
  keys: RepositoryKeys
}

/** What encrypts and decrypts the objects of a repository. */
export interface RepositoryKeys {
  /** Undefined where nothing is encrypted that is written. */
  sealer: Sealer | undefined
  /** Reads what is encrypted; on a host without a secret key it says so, by `key`, when it is asked to. */
  opener: Opener
}

/** A repository as plain data, for a worker, which opens it again. Holds secret keys where this host has some. */
export interface RepositoryAddress {
  name: string
  required: boolean
  storage: Storage['address']
  recipients: readonly string[]
  identities: readonly string[]
}

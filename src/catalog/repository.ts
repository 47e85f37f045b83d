import type { Storage } from '../storage/storage.ts'

/** A repository as the configuration names it. */
export interface Repository {
  name: string
  storage: Storage
}

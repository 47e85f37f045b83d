import type { Repository } from '../catalog/repository.ts'
import type { Events } from '../events.ts'

/** What a restore works with. */
export interface RestoreContext {
  repository: Repository
  events: Events
  signal: AbortSignal
  now: () => Date
  isRoot: boolean
  jobs: number
}

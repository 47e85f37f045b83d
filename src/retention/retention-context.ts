import type { Repository } from '../catalog/repository.ts'
import type { Events } from '../events.ts'

export interface RetentionContext {
  repository: Repository
  events: Events
  signal: AbortSignal
  now: () => Date
}

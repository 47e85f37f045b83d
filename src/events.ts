/**
 * What a use case tells the world while it works. The terminal, the log and `--json` subscribe; a use case
 * never prints. Progress counts are cumulative; `total` is undefined while it is not known.
 */
export interface EventMap {
  /** A named step of the story begins, e.g. "Copying 1.2 GiB with 2 jobs". */
  step: { text: string }
  /** Several lines that belong together, such as a plan. */
  notice: { lines: string[] }
  /** Work in progress. `bytes` and `total` are plain (uncompressed) bytes; `items` counts files or segments. */
  progress: { task: string; bytes: number; total: number | undefined; items: number }
  /** The task named by earlier `progress` events is over. */
  progressEnd: { task: string }
  /** Something the operator should know that does not stop the work. */
  warning: { text: string }
  /** Detail for the log at debug level. */
  detail: { text: string; facts?: Record<string, unknown> }
}

export type EventName = keyof EventMap
export type Listener<Name extends EventName> = (event: EventMap[Name]) => void

/** A typed emitter, small enough to need no library: listeners are called in order, synchronously. */
export class Events {
  readonly #listeners = new Map<EventName, Listener<never>[]>()

  on<Name extends EventName>(name: Name, listener: Listener<Name>): this {
    const list = this.#listeners.get(name) ?? []
    list.push(listener as Listener<never>)
    this.#listeners.set(name, list)
    return this
  }

  emit<Name extends EventName>(name: Name, event: EventMap[Name]): void {
    for (const listener of this.#listeners.get(name) ?? []) (listener as Listener<Name>)(event)
  }
}

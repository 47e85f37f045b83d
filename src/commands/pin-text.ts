import { isOver, type KeptPin, readKeptPins } from '../catalog/kept-pin.ts'
import { escapeControls } from '../cli/terminal.ts'
import type { Storage } from '../storage/storage.ts'

/** The pins that still count, by their backups. */
export async function pinsInForce(storage: Storage, cluster: string, now: Date, backup?: string) {
  return (await readKeptPins(storage, cluster, backup)).filter((pin) => !isOver(pin, now))
}

/** Until when, and why. */
export function pinText({ until, reason }: KeptPin): string {
  return `${until ? `until ${until.toISOString().replace('.000', '')}` : 'for good'}: ${escapeControls(reason)}`
}

export function pinFacts({ backup, until, reason }: KeptPin) {
  return { backup, until: until?.toISOString() ?? null, reason }
}

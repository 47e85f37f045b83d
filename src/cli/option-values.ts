import { InvalidArgumentError } from 'commander'

/** What reads the values of options, and refuses those that cannot be. */
export function wholeNumber(least: number, most = 1_000_000): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < least || value > most) {
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`)
    }
    return value
  }
}

/** Of an option that may be repeated. */
export function collect(value: string, previous: string[]): string[] {
  return [...previous, value]
}

const UNITS = { min: 60_000, h: 60 * 60_000, d: 24 * 60 * 60_000 }

/**
 * Reads a span of time as PostgreSQL writes them: `7d`, `36h`, `90min`.
 * @returns milliseconds, or undefined for any other text
 * @see https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES
 */
export function parseDuration(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(min|h|d)\s*$/.exec(text)
  if (!match) return undefined
  const ms = Math.round(Number(match[1]) * UNITS[match[2] as keyof typeof UNITS])
  return Number.isSafeInteger(ms) ? ms : undefined
}

const UNITS = { '': 1, B: 1, kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 }

/**
 * Reads a size as PostgreSQL writes them: `64MB`, `1.5 GB`, `8192`; multiples of 1024.
 * @returns whole bytes, or undefined for any other text
 * @see https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES
 */
export function parseByteSize(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB|)\s*$/.exec(text)
  if (!match) return undefined
  const bytes = Math.round(Number(match[1]) * UNITS[match[2] as keyof typeof UNITS])
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

import { existsSync } from 'node:fs'
import { type Browser, launch } from 'puppeteer-core'

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** A real Chromium: from PGRECALL_TEST_CHROMIUM, or where distributions put it. @returns undefined when this machine has none */
export function findChromium(): string | undefined {
  return [process.env.PGRECALL_TEST_CHROMIUM, ...PLACES].find((path) => path && existsSync(path))
}

/** For the first line of a test: without it, it is skipped with a message, and fails where CI is set. */
export function requireChromium(context: { skip(note?: string): void }): void {
  if (findChromium()) return
  const message = 'no Chromium found; install one or set PGRECALL_TEST_CHROMIUM to its program'
  if (!process.env.CI) context.skip(message)
  throw new Error(message)
}

/** Starts it without a window. Root may not use its sandbox, and what is looked at here is our own. */
export function startChromium(): Promise<Browser> {
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : []
  return launch({ executablePath: findChromium()!, args })
}

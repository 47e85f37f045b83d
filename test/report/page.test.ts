import { readFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import type { Browser, Page } from 'puppeteer-core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { reportPage } from '../../src/report/page.ts'
import { Scratch } from '../lab/scratch.ts'
import { findChromium, requireChromium, startChromium } from './chromium.ts'
import { contrasts, extent, focused, openAll, printed, structure, tryToInsert } from './page-probes.ts'
import { sampleReport } from './sample-report.ts'

const HOSTILE_NAME = `"><script>document.title='taken'</script>&amp;`
const HOSTILE_LABEL = `</td></table><img src=x onerror="document.title='taken'"><svg/onload=1>\u202e'\``

let scratch: Scratch
let browser: Browser
let page: Page
/** What the browser was asked for, and what it had to complain about. */
const requests: string[] = []
const complaints: string[] = []

describe.skipIf(!findChromium() && !process.env.CI)('the page of a report, in a real browser', () => {
  beforeAll(async () => {
    if (!findChromium()) return
    scratch = await Scratch.create('report')
    const html = reportPage(sampleReport({ name: HOSTILE_NAME, label: HOSTILE_LABEL }))
    const file = await scratch.file('report.html', html)
    browser = await startChromium()
    page = await browser.newPage()
    page.on('request', (request) => requests.push(request.url()))
    page.on('console', (message) => complaints.push(message.text()))
    page.on('pageerror', (error) => complaints.push(String(error)))
    await page.goto(pathToFileURL(file).href, { waitUntil: 'networkidle0' })
  })
  beforeEach((context) => requireChromium(context))
  afterAll(async () => {
    await browser?.close()
    await scratch?.[Symbol.asyncDispose]()
  })

  test('asks for nothing but the file itself, and the browser has nothing to complain about', () => {
    expect(requests.map((url) => url.replace(/.*\//, ''))).toEqual(['report.html'])
    expect(complaints).toEqual([])
  })

  test('would not run or fetch anything that got into it', async () => {
    const { image, title } = await page.evaluate(tryToInsert)
    expect(image).toBe('refused')
    expect(title).toContain('What can be recovered')
    // The browser says that it refused.
    complaints.length = 0
  })

  test('names stay text', async () => {
    const { foreign } = await page.evaluate(structure)
    expect(foreign).toEqual([])
    expect(await page.title()).toContain(HOSTILE_NAME)
    const text = await page.$eval('main', (main) => main.textContent!)
    expect(text).toContain(`Cluster ${HOSTILE_NAME}`)
    // What turns the direction of writing is shown as what it is.
    expect(text).toContain(HOSTILE_LABEL.replace('\u202e', '\\u202e'))
  })

  test('has headings in order, landmarks, and a table beside every picture', async () => {
    const { headings, landmarks, brokenReferences, pictures, unnamedTables } = await page.evaluate(structure)
    expect(headings.filter((level) => level === 1)).toHaveLength(1)
    expect(headings.filter((level, index) => index > 0 && level > headings[index - 1]! + 1)).toEqual([])
    expect(landmarks).toEqual(['header', 'nav', 'main', 'footer'])
    expect(brokenReferences).toEqual([])
    expect(pictures.length).toBeGreaterThan(10)
    expect(pictures.filter(({ name, hasTable }) => name.trim() === '' || !hasTable)).toEqual([])
    expect(unnamedTables).toBe(0)
  })

  test('is gone through with the keyboard, and one sees where one is', async () => {
    await page.emulateMediaFeatures([{ name: 'prefers-reduced-motion', value: 'reduce' }])
    await page.reload()
    const names: string[] = []
    for (let step = 0; step < 14; step++) {
      await page.keyboard.press('Tab')
      const { name, outline, isVisible } = await page.evaluate(focused)
      expect({ name, outline: outline >= 2, isVisible }).toEqual({ name, outline: true, isVisible: true })
      names.push(name)
    }
    expect(names[0]).toBe('a Skip to the summary')
    expect(names.slice(1, 4)).toEqual([expect.stringContaining('<script>'), 'a billing', 'a new'])
    const first = 'summary:focus'
    expect(names.at(-1)).toMatch(/^(?:summary|div)/)
    await page.focus('summary')
    await page.keyboard.press('Enter')
    expect(await page.$eval(first, (summary) => summary.parentElement.open)).toBe(true)
  })

  test.each(['light', 'dark'])('has contrast enough, %s', async (scheme) => {
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
    await page.evaluate(openAll)
    const found = await page.evaluate(contrasts)
    expect(found.length).toBeGreaterThan(500)
    expect(found.filter(({ ratio, least }) => ratio < least)).toEqual([])
    const { ground } = await page.evaluate(printed)
    expect(ground).toBe(scheme === 'light' ? 'rgb(244, 246, 248)' : 'rgb(16, 22, 28)')
  })

  test.each([390, 820, 1440])('fits a width of %d pixels', async (width) => {
    await page.setViewport({ width, height: 900 })
    await page.evaluate(openAll)
    expect(await page.evaluate(extent)).toEqual({ width, outside: [] })
  })

  test('is printed whole: on paper, with the tables that are closed on the screen', async () => {
    await page.reload()
    await page.emulateMediaType('print')
    expect(await page.evaluate(printed)).toEqual({
      ground: 'rgb(255, 255, 255)',
      skip: 'none',
      closedTables: 0,
    })
    const file = `${scratch.path}/report.pdf`
    await page.pdf({ path: file, format: 'A4' })
    const pdf = await readFile(file, 'latin1')
    expect(pdf.slice(0, 5)).toBe('%PDF-')
    expect(pdf.match(/\/Type\s*\/Page\b/g)!.length).toBeGreaterThan(3)
  })
})

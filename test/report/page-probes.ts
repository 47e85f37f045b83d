/** Functions that run inside of the page, each without anything from outside of itself. */

/** As much of the browser's world as they use: its own types would make names such as `name` and `status` known everywhere. */
interface PageElement {
  localName: string
  id: string
  textContent: string
  outerHTML: string
  src: string
  open: boolean
  namespaceURI: string
  parentElement: PageElement | null
  onload: () => void
  onerror: () => void
  append(child: PageElement): void
  remove(): void
  getAttribute(name: string): string | null
  closest(selector: string): PageElement | null
  querySelector(selector: string): PageElement | null
  querySelectorAll(selector: string): Iterable<PageElement>
  getBoundingClientRect(): { top: number; bottom: number; right: number; width: number; height: number }
}
type Look = Record<
  'backgroundColor' | 'color' | 'fill' | 'stroke' | 'outlineWidth' | 'outlineStyle' | 'display',
  string
>
interface Walker {
  nextNode(): unknown
  currentNode: PageElement
}
declare const document: PageElement & {
  title: string
  body: PageElement
  documentElement: PageElement & { scrollWidth: number }
  activeElement: PageElement
  createElement(name: string): PageElement
  createTreeWalker(root: PageElement, shown: number): Walker
  getElementById(id: string): PageElement | null
}
declare const innerWidth: number
declare const innerHeight: number
declare function getComputedStyle(element: PageElement): Look

export interface Contrast {
  text: string
  ratio: number
  least: number
}

/** The contrast of every text with what it stands on, and of every shape of a picture. @see https://www.w3.org/TR/WCAG22/#contrast-minimum */
export function contrasts(): Contrast[] {
  const channels = (color: string) => (color.match(/[\d.]+/g) ?? []).map(Number)
  const luminance = (color: string) => {
    const [red, green, blue] = channels(color).map((value) => {
      const share = value / 255
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!
  }
  const groundOf = (element: PageElement | null): string => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor
      if ((channels(color)[3] ?? 1) > 0) return color
    }
    return 'rgb(255, 255, 255)'
  }
  const found: Contrast[] = []
  const add = (element: PageElement, color: string, text: string, least: number) => {
    const [a, b] = [luminance(color), luminance(groundOf(element))]
    found.push({ text, ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), least })
  }
  // 4 is NodeFilter.SHOW_TEXT.
  const walker = document.createTreeWalker(document.body, 4)
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement!
    const text = walker.currentNode.textContent.trim()
    if (text === '' || element.localName === 'title') continue
    const style = getComputedStyle(element)
    add(element, element.namespaceURI.endsWith('svg') ? style.fill : style.color, text, 4.5)
  }
  for (const shape of document.querySelectorAll(
    'svg[role=img] .mark, svg[role=img] .span.window, .bar, .point',
  )) {
    const { fill, stroke } = getComputedStyle(shape)
    add(shape.closest('svg')!, fill === 'none' ? stroke : fill, shape.getAttribute('class')!, 3)
  }
  return found
}

export interface Structure {
  headings: number[]
  landmarks: string[]
  /** References to ids that are not there, and ids that are there twice. */
  brokenReferences: string[]
  pictures: { name: string; hasTable: boolean }[]
  unnamedTables: number
  foreign: string[]
}

export function structure(): Structure {
  const all = (selector: string) => [...document.querySelectorAll(selector)]
  const ids = all('[id]').map(({ id }) => id)
  const references = [
    ...all('[aria-labelledby]').flatMap((element) => element.getAttribute('aria-labelledby')!.split(' ')),
    ...all('[href^="#"]').map((element) => element.getAttribute('href')!.slice(1)),
  ]
  return {
    headings: all('h1,h2,h3,h4,h5,h6').map(({ localName }) => Number(localName[1])),
    landmarks: all('body > header, body > main, body > footer, nav[aria-label]').map(
      ({ localName }) => localName,
    ),
    brokenReferences: [
      ...references.filter((id) => !ids.includes(id)),
      ...ids.filter((id, index) => ids.indexOf(id) !== index),
    ],
    pictures: all('svg[role=img]').map((picture) => ({
      name: (picture.getAttribute('aria-labelledby') ?? '')
        .split(' ')
        .map((id) => document.getElementById(id)?.textContent ?? '')
        .join(' '),
      hasTable: picture.closest('figure')?.querySelector('table tbody tr') !== null,
    })),
    unnamedTables: all('table').filter(
      (table) => !table.querySelector('caption') || !table.querySelector('th[scope]'),
    ).length,
    foreign: all('script, iframe, object, embed, link, img, form, [style], [onerror], [onclick]').map(
      ({ outerHTML }) => outerHTML.slice(0, 80),
    ),
  }
}

/** What has the focus, and how that is seen. */
export function focused(): { name: string; outline: number; isVisible: boolean } {
  const element = document.activeElement!
  const { outlineWidth, outlineStyle } = getComputedStyle(element)
  const { top, bottom, width } = element.getBoundingClientRect()
  return {
    name: `${element.localName} ${element.textContent.trim().slice(0, 40)}`,
    outline: outlineStyle === 'none' ? 0 : Number.parseFloat(outlineWidth),
    isVisible: width > 0 && bottom > 0 && top < innerHeight,
  }
}

/** Tries what somebody would put into a page: a script, and an image. @returns what became of them */
export async function tryToInsert(): Promise<{ title: string; image: string }> {
  const script = document.createElement('script')
  script.textContent = 'document.title = "taken"'
  document.body.append(script)
  script.remove()
  const picture = document.createElement('img')
  const image = await new Promise<string>((resolve) => {
    picture.onload = () => resolve('loaded')
    picture.onerror = () => resolve('refused')
    picture.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='
  })
  return { title: document.title, image }
}

export function openAll(): void {
  for (const details of document.querySelectorAll('details')) details.open = true
}

/** How wide the page is, and what is written beyond its edge. */
export function extent(): { width: number; outside: string[] } {
  const written = [...document.querySelectorAll('svg[role=img] text, h2, h3, h4, h5, p')]
  return {
    width: document.documentElement.scrollWidth,
    outside: written
      .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
      .map(({ textContent }) => textContent),
  }
}

export function printed(): { ground: string; skip: string; closedTables: number } {
  const tables = [...document.querySelectorAll('.beside table')]
  return {
    ground: getComputedStyle(document.body).backgroundColor,
    skip: getComputedStyle(document.querySelector('.skip')!).display,
    closedTables: tables.filter((table) => table.getBoundingClientRect().height === 0).length,
  }
}

import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { parseConfig } from '../../src/config/load.ts'

const pages = await Promise.all(
  ['schedules', 'hooks'].map((name) => readFile(new URL(`../../docs/${name}.md`, import.meta.url), 'utf8')),
)
const blocks = (language: string) =>
  pages.flatMap((page) =>
    [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, text]) => text!),
  )

const LEAST = { repositories: { local: { path: '/r' } }, clusters: { main: { repositories: ['local'] } } }

test('what the pages say of the configuration is valid, and the schedule on them is the one without a schedule', () => {
  const configurations = blocks('yaml')
    .map((text) => parse(text))
    .filter((value) => value.kind === undefined)
  expect(configurations).toHaveLength(5)
  const parsed = configurations.map((value) => parseConfig(stringify({ ...LEAST, ...value }), 'page'))
  const { incremental, ...shown } = parsed[0]!.clusters.main!.schedule
  expect(incremental).toBeDefined()
  expect(shown).toEqual(parseConfig(stringify(LEAST), 'least').clusters.main!.schedule)
})

test('the CronJob, the facts and the Dockerfile are well-formed', () => {
  const jobs = blocks('yaml')
    .map((text) => parse(text))
    .filter(({ kind }) => kind === 'CronJob')
  expect(jobs).toMatchObject([{ apiVersion: 'batch/v1', spec: { concurrencyPolicy: 'Forbid' } }])
  expect(blocks('json').map((text) => JSON.parse(text).version)).toEqual([1])

  const [dockerfile, ...others] = blocks('dockerfile')
  expect(others).toEqual([])
  const instructions = dockerfile!
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
    .replace(/ *\\\n */g, ' ')
    .trim()
    .split('\n')
  const words = instructions.map((line) => line.split(' ')[0])
  expect(words).toEqual(['FROM', 'RUN', 'COPY', 'RUN', 'RUN', 'USER', 'ENV', 'ENTRYPOINT'])
  expect(JSON.parse(instructions.at(-1)!.replace('ENTRYPOINT ', ''))).toEqual(['pgrecall'])
})

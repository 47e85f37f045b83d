/** A sample as Prometheus would take it. */
export interface ParsedSample {
  name: string
  labels: Record<string, string>
  value: number
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"/
const FLOAT = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/

/**
 * Reads the text format as strictly as its specification has it: every line is a comment, a HELP, a TYPE or a sample; HELP and TYPE
 * come once, before the samples of their metric; those are one group; no series comes twice; the last line is ended.
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */
export function parseExposition(text: string): {
  samples: ParsedSample[]
  help: Map<string, string>
  types: Map<string, string>
} {
  if (!text.endsWith('\n')) throw new Error('the last line does not end')
  const [samples, help, types]: [ParsedSample[], Map<string, string>, Map<string, string>] = [
    [],
    new Map(),
    new Map(),
  ]
  const [closed, series] = [new Set<string>(), new Set<string>()]
  let current: string | undefined
  const enter = (name: string) => {
    if (name === current) return
    if (closed.has(name)) throw new Error(`${name} is not one group`)
    if (current !== undefined) closed.add(current)
    current = name
  }
  for (const line of text.slice(0, -1).split('\n')) {
    const told = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line)
    if (told) {
      const [, kind, name, said] = told as unknown as [string, string, string, string]
      if (NAME.exec(name)?.[0] !== name) throw new Error(`no name: ${line}`)
      enter(name)
      const known = kind === 'HELP' ? help : types
      if (known.has(name)) throw new Error(`twice: ${line}`)
      if (samples.some((sample) => sample.name === name)) throw new Error(`too late: ${line}`)
      if (kind === 'HELP' && !/^(?:[^\\]|\\[\\n])*$/.test(said)) throw new Error(`no escape: ${line}`)
      if (kind === 'TYPE' && !/^(?:counter|gauge|histogram|summary|untyped)$/.test(said))
        throw new Error(`no type: ${line}`)
      known.set(name, unescaped(said))
      continue
    }
    const sample = parseSample(line)
    enter(sample.name)
    const key = JSON.stringify([sample.name, Object.entries(sample.labels).toSorted()])
    if (series.has(key)) throw new Error(`twice: ${line}`)
    series.add(key)
    samples.push(sample)
  }
  return { samples, help, types }
}

const unescaped = (text: string) => text.replace(/\\(.)/g, (_, escaped) => (escaped === 'n' ? '\n' : escaped))

function parseSample(line: string): ParsedSample {
  const name = NAME.exec(line)?.[0]
  if (name === undefined) throw new Error(`no sample: ${line}`)
  let rest = line.slice(name.length)
  const labels: Record<string, string> = {}
  if (rest.startsWith('{')) {
    rest = rest.slice(1)
    while (!rest.startsWith('}')) {
      const label = LABEL.exec(rest)
      if (!label || Object.hasOwn(labels, label[1]!)) throw new Error(`no label at ${rest}`)
      labels[label[1]!] = unescaped(label[2]!)
      rest = rest.slice(label[0].length)
      if (rest.startsWith(',')) rest = rest.slice(1)
      else if (!rest.startsWith('}')) throw new Error(`no end of labels at ${rest}`)
    }
    rest = rest.slice(1)
  }
  const value = /^ (\S+)$/.exec(rest)?.[1]
  if (value === undefined || !FLOAT.test(value)) throw new Error(`no value: ${line}`)
  return { name, labels, value: Number(value) }
}

/** What `promtool check metrics` complains of, of the rules that a gauge can break. */
export function lintsOf(name: string, help: string | undefined, type: string | undefined): string[] {
  const rules: [boolean, string][] = [
    [!help, 'no help text'],
    [type === undefined, 'no type'],
    [type !== 'counter' && name.endsWith('_total'), 'non-counter metrics should not have "_total" suffix'],
    [/_(?:count|sum|bucket)$/.test(name), 'only histograms and summaries have such a suffix'],
    [/_(?:gauge|counter|summary|histogram|untyped)(?:_|$)/.test(name), 'the type is in the name'],
    [name.includes(':'), 'names should not contain ":"'],
    [/[a-z][A-Z]/.test(name), 'names should be written in snake_case'],
    [
      /(?:^|_)(?:ms|milliseconds?|minutes?|hours?|days?|weeks?|kb|mb|gb|kib|mib|gib|kilobytes|megabytes|bits|percent)(?:_|$)/.test(
        name,
      ),
      'use base units',
    ],
    [/(?:^|_)(?:s|sec|secs|b|min|hr|d)$/.test(name), 'names should not contain abbreviated units'],
  ]
  return rules.flatMap(([isBroken, text]) => (isBroken ? [`${name}: ${text}`] : []))
}

/** One series of a metric. */
export interface Sample {
  labels: Record<string, string>
  value: number
}

/** Samples of one name. */
export interface MetricFamily {
  name: string
  help: string
  samples: Sample[]
}

/**
 * Gauges in the text format that Prometheus reads. What is not finite is left out, and so is a metric without samples: absent is
 * not known.
 * @returns lines, the last one ended
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */
export function renderExposition(families: readonly MetricFamily[]): string {
  return families
    .map(({ samples, ...family }) => ({
      ...family,
      samples: samples.filter(({ value }) => Number.isFinite(value)),
    }))
    .filter(({ samples }) => samples.length > 0)
    .map(({ name, help, samples }) => {
      const lines = samples.map(({ labels, value }) => `${name}${labelText(labels)} ${value}\n`)
      return `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} gauge\n${lines.join('')}`
    })
    .join('')
}

function labelText(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

const escapeHelp = (text: string) => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
const escapeLabel = (text: string) => escapeHelp(text).replaceAll('"', '\\"')

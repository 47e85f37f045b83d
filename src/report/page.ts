import { createHash } from 'node:crypto'
import { Clock } from './clock.ts'
import { clusterSection } from './cluster-section.ts'
import { SHAPES } from './draw-marks.ts'
import type { Report } from './facts.ts'
import { html, Markup } from './markup.ts'
import { STYLE } from './style.ts'
import { summaryCard } from './summary.ts'

/** What a file begins with that is a report. */
export const REPORT_BEGIN =
  '<!doctype html>\n<html lang="en">\n<head>\n<meta name="generator" content="pgrecall report'

/**
 * The whole page, in one file: it asks for nothing from anywhere, runs nothing, and says so to the browser. Pure.
 * @returns HTML
 */
export function reportPage({ now, version, clusters }: Report): string {
  const clock = new Clock(clusters[0]?.timeZone ?? 'UTC')
  const at = now.getTime()
  const named = clusters.map((cluster, index) => ({ cluster, id: `cluster-${index + 1}` }))
  const policy = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; base-uri 'none'; form-action 'none'`
  return html`${new Markup(REPORT_BEGIN)} ${version}">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${new Markup(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<meta name="referrer" content="no-referrer">
<title>What can be recovered: ${clusters.map(({ cluster }) => cluster).join(', ')}</title>
<style>${new Markup(STYLE)}</style>
</head>
<body>
<a class="skip" href="#summary">Skip to the summary</a>
${SHAPES}
<header class="masthead"><div>
<p class="product">pgrecall</p>
<h1>What can be recovered</h1>
<p class="made">As of <time datetime="${now.toISOString()}">${clock.minute(at)} ${clock.zone}</time>${clock.offset(at) !== 0 && html`<span class="soft">, ${now.toISOString().slice(0, 16).replace('T', ' ')} UTC</span>`}</p>
</div>
${named.length > 1 && html`<nav aria-label="Clusters"><ul>${named.map(({ cluster, id }) => html`<li><a href="#${id}">${cluster.cluster}</a></li>`)}</ul></nav>`}
</header>
<main>
<section aria-labelledby="summary"><h2 id="summary" tabindex="-1">In short</h2>
<div class="cards">${named.map(({ cluster, id }) => summaryCard(cluster, now, id))}</div></section>
${named.map(({ cluster, id }) => clusterSection(cluster, now, id))}
</main>
<footer><p>Made by pgrecall ${version}. What stands here was true at that moment; <code>pgrecall status</code> tells it as it is now.</p></footer>
</body>
</html>
`.text
}

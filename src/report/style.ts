/** The page's own style. Colours differ in brightness too, and none says anything that a shape or a word does not say. */
export const STYLE = `
:root {
  --ground: #f4f6f8; --paper: #ffffff; --ink: #16222e; --soft: #51606e; --line: #d8dee4; --faint: #eaeef2;
  --accent: #14599d; --window: #2f73b5; --shared: #8fb4d9; --gap: #b2450c; --gap-ground: #fbe6da;
  --full: #12395f; --diff: #8a3f86; --incr: #0d6f77; --logical: #7d5700; --link: #7d8b98;
  --ok: #1b6e43; --warn: #8a5200; --fail: #b3231b; --on-sign: #ffffff;
  --ok-ground: #e8f4ec; --warn-ground: #fdf1dc; --fail-ground: #fce9e7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #10161c; --paper: #19212a; --ink: #e7edf3; --soft: #a4b1bd; --line: #323d48; --faint: #232d37;
    --accent: #86bdf2; --window: #5b9bdc; --shared: #3f6389; --gap: #f0905a; --gap-ground: #43291b;
    --full: #b7d4f2; --diff: #dfa0dc; --incr: #5fc7cf; --logical: #e2b65c; --link: #82909e;
    --ok: #6bcb95; --warn: #efb65a; --fail: #ff8f86; --on-sign: #10161c;
    --ok-ground: #17291f; --warn-ground: #30260f; --fail-ground: #371d1b;
  }
}
*, *::before, *::after { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word;
}
.masthead, main, footer { max-width: 76rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 2.5rem) }
h1, h2, h3, h4, h5, p, dl, dd, ul, figure { margin: 0; padding: 0 }
h1 { font-size: clamp(1.8rem, 1.3rem + 2.2vw, 2.75rem); line-height: 1.15; letter-spacing: -.02em; font-weight: 680 }
h2 { font-size: clamp(1.35rem, 1.15rem + .9vw, 1.75rem); line-height: 1.25; letter-spacing: -.012em; font-weight: 660 }
h3 { font-size: 1.2rem; line-height: 1.3; font-weight: 650 }
h4 { font-size: 1.02rem; line-height: 1.4; font-weight: 650 }
h5 { font-size: .9rem; line-height: 1.4; font-weight: 600 }
code { font: .88em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; overflow-wrap: anywhere }
a { color: var(--accent); text-underline-offset: .18em; text-decoration-thickness: 1px }
a:hover { text-decoration-thickness: 2px }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; border-radius: 4px }
h2:focus, h3:focus { outline: none }
.soft { color: var(--soft); font-weight: 400 }
.skip { position: absolute; left: 1rem; top: -4rem; z-index: 2; padding: .6rem 1rem; background: var(--paper); border-radius: 0 0 8px 8px }
.skip:focus { top: 0 }
.shapes { position: absolute }

.masthead { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: end; justify-content: space-between; padding-top: clamp(2rem, 5vw, 4rem) }
.product { color: var(--accent); font-weight: 650; letter-spacing: .01em }
.made { margin-top: .5rem }
nav ul { display: flex; flex-wrap: wrap; gap: .4rem 1.25rem; list-style: none }
nav, nav li { min-width: 0; overflow-wrap: anywhere }
nav a { display: inline-block; padding: .25rem 0 }
main > section { margin-top: clamp(2.5rem, 5vw, 4rem) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.25rem; margin-top: 1.25rem }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 14px; overflow: hidden }
.card header { padding: 1.1rem 1.5rem .2rem }
.card dl > div { padding: .8rem 1.5rem }
.card dl > div + div { border-top: 1px solid var(--faint) }
.card dl > div:last-child { padding-bottom: 1.3rem }
.card h3 a { color: inherit; text-decoration-color: var(--line) }
dt { color: var(--soft); font-size: .86rem }
.answer { display: flex; gap: .6rem; align-items: center; font-size: 1.3rem; font-weight: 650; line-height: 1.3 }
.answer .sign { flex: none; width: 1.75rem; height: 1.75rem }
.card.ok .answer span { color: var(--ok) } .card.warn .answer span { color: var(--warn) } .card.fail .answer span { color: var(--fail) }
.moments { font-size: 1.06rem; font-weight: 600 }
.moments time { white-space: nowrap }
dd .soft { font-size: .9rem; margin-top: .2rem }
.sign { flex: none; width: 1.25rem; height: 1.25rem; vertical-align: -.25em }
.sign.ok { fill: var(--ok) } .sign.warn { fill: var(--warn) } .sign.fail { fill: var(--fail) }
.sign-line { fill: none; stroke: var(--on-sign); stroke-width: 2.6; stroke-linecap: round; stroke-linejoin: round }
.wrong, .findings { list-style: none }
.wrong li, .findings li, .fine { display: flex; gap: .6rem; align-items: flex-start; padding: .3rem 0 }
.wrong .sign, .findings .sign, .fine .sign { margin-top: .15rem }
.wrong b, .level { font-weight: 650 }
li.fail b { color: var(--fail) } li.warn b { color: var(--warn) } li.ok b { color: var(--ok) }

.cluster { border-top: 1px solid var(--line); padding-top: clamp(2rem, 4vw, 3rem) }
.cluster > section { margin-top: 2rem }
.repository > section { margin-top: 2rem }
section > h4 + * { margin-top: .3rem }
.findings { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: .5rem 1.25rem; margin-top: .5rem }
.findings li { padding: .65rem 0 } .findings li + li { border-top: 1px solid var(--faint) }
.findings div { min-width: 0 }
.subject { color: var(--soft) } .subject::after { content: ":" }
.hint { color: var(--soft); font-size: .92rem }
.cluster h3 + h4 { margin-top: .75rem } .findings + h4, .fine + h4, details + h4 { margin-top: 1.5rem }

.panel { background: var(--paper); border: 1px solid var(--line); border-radius: 14px; padding: clamp(1rem, 2.5vw, 1.75rem); margin-top: .75rem }
.panel > h5 { margin-bottom: .4rem } .panel > svg + h5 { margin-top: 2rem }
.chart { display: block; overflow: visible; font-size: 12px }
.history, .forecast { margin-left: 3rem; width: calc(100% - 3rem) }
.chart text { fill: var(--soft) }
.title { font-size: 13px; font-weight: 600 } .chart .title { fill: var(--ink); paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round } .chart .title .soft { fill: var(--soft) }
.gutter, .last { text-anchor: end } .tick, .count { text-anchor: middle } .chart .count { fill: var(--ink); font-weight: 600 }
.grid { stroke: var(--faint) } .lane { stroke: var(--faint) } .base { stroke: var(--line) }
.now { stroke: var(--accent); stroke-width: 1.5 } .chart .now-text { fill: var(--accent); font-weight: 600 }
.floor { fill: var(--faint) }
.span.window { fill: var(--window); stroke: var(--window); stroke-width: 1 } .span.shared { fill: var(--shared); stroke: var(--shared) }
.span.gap { fill: url(#hatch); stroke: var(--gap); stroke-width: 1.2 } .span.between { fill: var(--line) }
.hatch-ground { fill: var(--gap-ground) } .hatch-line { fill: var(--gap) }
.branch { stroke: var(--accent); stroke-width: 1.6; stroke-dasharray: 3 3 } .fork { fill: var(--paper); stroke: var(--accent); stroke-width: 2 }
.link { stroke: var(--link); stroke-width: 1.3 }
.mark.full { fill: var(--full) } .mark.diff { fill: var(--diff) }
.mark.incr { fill: var(--incr) } .mark.logical { fill: var(--logical) }
.mark { stroke: var(--paper); stroke-width: 1 } .mark.many { stroke: none }
.mark.broken { stroke: var(--fail); stroke-width: 2.4; fill: none }
.legend { display: flex; flex-wrap: wrap; gap: .35rem 1.4rem; list-style: none; font-size: .86rem; color: var(--soft); margin-top: 1rem }
.legend li { display: flex; align-items: center; gap: .45rem }
.legend svg { overflow: visible; flex: none }
.multiples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 2rem 3rem }
.multiple .figure { font-size: 1.25rem; font-weight: 650; line-height: 1.4 } .multiple .figure .soft { font-size: .86rem }
.bar { fill: var(--window) } .curve { stroke: var(--window); stroke-width: 2; stroke-linecap: round } .point { fill: var(--window) }
figcaption { margin-top: .75rem; font-size: .9rem }

summary { cursor: pointer; color: var(--accent); padding: .35rem 0; width: fit-content }
.beside { margin-top: 1rem; border-top: 1px solid var(--faint); padding-top: .6rem }
.scroll { overflow-x: auto; margin-top: .75rem; max-height: 34rem; overflow-y: auto }
.scroll + .scroll { margin-top: 2rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
caption { text-align: left; font-weight: 600; padding: .25rem 0 .5rem }
th, td { text-align: left; vertical-align: top; padding: .42rem .9rem .42rem 0; border-bottom: 1px solid var(--faint) }
thead th { border-bottom-color: var(--line); color: var(--soft); font-weight: 600; white-space: nowrap; position: sticky; top: 0; background: var(--paper) }
tbody th { font-weight: 500 } .number { text-align: right } td time, tbody th code { white-space: nowrap }
.lost td, .lost th { color: var(--fail) }
footer { margin-top: 4rem; padding-bottom: 3rem; color: var(--soft); font-size: .9rem }

@media (max-width: 640px) {
  .minor { display: none }
  .history, .forecast { margin-left: 2.4rem; width: calc(100% - 2.4rem) }
  .chart { font-size: 11px }
  .card header, .card dl > div { padding-left: 1.1rem; padding-right: 1.1rem }
}
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth } }
@media (prefers-contrast: more) { :root { --line: currentColor; --soft: currentColor } }
@media print {
  :root {
    --ground: #fff; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --faint: #e6e6e6; --accent: #14599d;
    --window: #2f73b5; --shared: #8fb4d9; --gap: #b2450c; --gap-ground: #fbe6da; --full: #12395f; --diff: #8a3f86;
    --incr: #0d6f77; --logical: #7d5700; --link: #7d8b98; --ok: #1b6e43; --warn: #8a5200; --fail: #b3231b; --on-sign: #fff;
  }
  @page { margin: 14mm }
  html { font-size: 10.5pt }
  body, .chart, .sign { print-color-adjust: exact; -webkit-print-color-adjust: exact }
  .skip, nav { display: none }
  .masthead, main, footer { max-width: none; padding: 0 }
  .masthead { padding-top: 0 }
  a { color: inherit; text-decoration: none }
  .cluster { break-before: page; border: 0; padding-top: 0 }
  .panel, .findings { border-color: var(--line) }
  h2, h3, h4, h5 { break-after: avoid }
  .card, .chart, .multiple, tr, .findings li { break-inside: avoid }
  details::details-content { content-visibility: visible; height: auto }
  summary { display: none }
  .scroll { max-height: none; overflow: visible }
  thead th { position: static }
}
`

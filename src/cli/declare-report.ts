import type { Declare } from './invocation.ts'

export function declareReport(add: Declare): void {
  add(
    'report',
    'Write one HTML file that shows what can be recovered: timelines, backups, growth, what retention will remove, and what is wrong',
    [
      'pgrecall report --output /var/lib/pgrecall/report.html',
      'pgrecall report --cluster main --output - | ssh web "cat > /srv/reports/main.html"',
    ],
  )
    .requiredOption('--output <file>', 'where to write it, readable by its owner only; "-" is stdout')
    .option('--force', 'replace a file that is no report')
}

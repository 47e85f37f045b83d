import { writeFileSync } from 'node:fs'
import { reportPage } from '../src/report/page.ts'
import { sampleReport } from '../test/report/sample-report.ts'

/** Writes the page that `pgrecall report` would make of clusters that are made up: node scripts/sample-report.ts FILE */
const [file = 'sample-report.html'] = process.argv.slice(2)
writeFileSync(file, reportPage(sampleReport()))

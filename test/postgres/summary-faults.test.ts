import { expect, test } from 'vitest'
import { faultOfSummaries } from '../../src/postgres/summary-faults.ts'

const QUIET = { crossesTimelines: false, hasCuts: false }

test.each([
  [170_000, '17.0 has a known fault, until 17.11'],
  [170_010, '17.10 has a known fault, until 17.11'],
  [170_011, undefined],
  [180_000, '18.0 has a known fault, until 18.6'],
  [180_005, '18.5 has a known fault, until 18.6'],
  [180_006, undefined],
  [190_000, undefined],
])("the server's own incremental of %i", (version, reason) => {
  for (const fault of [faultOfSummaries(version, 'server'), faultOfSummaries(version, 'server', QUIET)]) {
    if (reason === undefined) expect(fault).toBeUndefined()
    else expect(fault).toContain(reason)
  }
})

test.each([170_011, 180_006, 190_000])(
  'what no release is free of counts where it can show: %i',
  (version) => {
    expect(faultOfSummaries(version, 'server', { ...QUIET, crossesTimelines: true })).toContain('promotion')
    expect(faultOfSummaries(version, 'server', { ...QUIET, hasCuts: true })).toContain('cut and grew again')
  },
)

test.each([170_000, 170_011, 180_000])('marks and limits by themselves are safe to use: %i', (version) => {
  expect(faultOfSummaries(version, 'blocks', { crossesTimelines: true, hasCuts: true })).toBeUndefined()
})

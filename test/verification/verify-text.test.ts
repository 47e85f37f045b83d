import { expect, test } from 'vitest'
import { verifiedText } from '../../src/commands/verify-text.ts'
import type { VerifiedRepository } from '../../src/verification/verified.ts'

const VIEW = { color: false, width: 80 }
const KEY = 'main/wal/000000010000000000000003.zst'

function damagedWith(mend: VerifiedRepository['damaged'][number]['mend']): VerifiedRepository {
  const consequence = { text: 'nothing', backups: [], windows: [] }
  return {
    backups: [],
    wal: { files: 1, bytes: 5, sizeOnly: 0 },
    damaged: [{ key: KEY, reason: 'its sum is wrong', consequence, mend }],
    undecoded: 0,
    readBytes: 5,
  }
}
const mendOf = (repairs: boolean, mend: VerifiedRepository['damaged'][number]['mend']) =>
  /mend: {2}(.*)/.exec(verifiedText(damagedWith(mend), VIEW, repairs))![1]

test('what nobody has is told as not healed by who was to heal it', () => {
  const lost = { outcome: 'lost', text: 'no other repository has it' } as const
  expect(mendOf(true, lost)).toBe('not healed: no other repository has it')
  expect(mendOf(false, lost)).toBe('no other repository has it')
  const healed = { outcome: 'healed', text: 'healed, from repository "offsite"' } as const
  expect(mendOf(true, healed)).toBe('healed, from repository "offsite"')
})

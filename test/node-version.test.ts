import { expect, test } from 'vitest'
import { unfitNode } from '../src/node-version.ts'

test('an old Node is told, and what to do', () => {
  expect(unfitNode()).toBeUndefined()
  expect(unfitNode('25.1.0')).toBeUndefined()
  for (const version of ['20.20.2', '22.22.0']) {
    expect(unfitNode(version)).toMatch(/^Node\.js 24 or later is needed, and this is 2\d/)
  }
})

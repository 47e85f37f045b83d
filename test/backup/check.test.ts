import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { answerOf } from './commands.ts'

interface Finding {
  subject: string
  verdict: 'pass' | 'warn' | 'fail'
  text: string
}

beforeEach((context) => void requireServer(context))

test('check looks for what the configured method needs, and for nothing else', async () => {
  await using lab = await Lab.create({ settings: { fsync: true, archive_timeout: '1h' } })
  const withMethod = (method: string, dataDirectory: string) =>
    lab.writeConfiguration(({ clusters }) => {
      Object.assign(clusters.main!, { dataDirectory, backup: { method, type: 'full' } })
    })
  // As for a server on another host.
  await withMethod('stream', '/nowhere')
  const findings = await answerOf<Finding[]>(lab, ['check'])
  expect(findings.filter(({ verdict }) => verdict !== 'pass')).toEqual([
    expect.objectContaining({ verdict: 'warn', text: 'there is no backup yet' }),
  ])
  await withMethod('files', '/nowhere')
  expect((await lab.pgrecall(['check'])).exitCode).toBe(12)
  await withMethod('cold', lab.cluster.dataDirectory)
  expect((await lab.pgrecall(['check'])).exitCode).toBe(0)
  await lab.cluster.stop()
  const down = await answerOf<Finding[]>(lab, ['check'])
  expect(down).toContainEqual({
    subject: 'connection',
    verdict: 'pass',
    text: 'the server is shut down, as a cold backup needs it',
  })
  await withMethod('cold', '/nowhere')
  expect((await lab.pgrecall(['check'])).exitCode).toBe(12)
})

test('check of a standby says what cannot be tried there', async () => {
  await using lab = await Lab.create()
  const dataDirectory = join(lab.scratch.path, 'standby-data')
  await lab.cluster.run('pg_basebackup', [
    '--pgdata',
    dataDirectory,
    '--checkpoint=fast',
    '--write-recovery-conf',
  ])
  const standby = await lab.adopt(dataDirectory, { settings: { archive_mode: 'off' } })
  await standby.start()
  const { host, port, user } = standby
  await lab.writeConfiguration(({ clusters }) => {
    Object.assign(clusters.main!, { dataDirectory, connection: { host, port, user } })
  })
  const findings = await answerOf<Finding[]>(lab, ['check'])
  expect(findings).toContainEqual(expect.objectContaining({ subject: 'archive', verdict: 'warn' }))
  expect(findings).toContainEqual(expect.objectContaining({ subject: 'archive_mode', verdict: 'warn' }))
  expect(findings.filter(({ verdict }) => verdict === 'fail')).toEqual([])
})

test('check says when the server could tell what has changed, and does not', async (context) => {
  if (findPrograms()!.major < 17) return context.skip('only PostgreSQL 17 and later summarise their WAL')
  await using lab = await Lab.create()
  const said = async (backup: Record<string, unknown>) => {
    await lab.writeConfiguration(({ clusters }) => {
      clusters.main!.backup = backup
    })
    const findings = await answerOf<Finding[]>(lab, ['check'])
    return findings.filter(({ text }) => text.includes('summarize_wal')).map(({ text }) => text)
  }
  expect(await said({ type: 'full' })).toEqual([])
  expect(await said({ method: 'files', type: 'auto' })).toEqual([
    expect.stringContaining('read every changed file whole'),
  ])
  expect(await said({ method: 'stream', type: 'auto' })).toEqual([
    expect.stringContaining('every backup is a full one'),
  ])
  await lab.cluster.sql('ALTER SYSTEM SET summarize_wal = on')
  await lab.cluster.sql('SELECT pg_reload_conf()')
  await lab.cluster.waitUntil(`current_setting('summarize_wal') = 'on'`)
  expect(await said({ method: 'files', type: 'auto' })).toEqual([])
})

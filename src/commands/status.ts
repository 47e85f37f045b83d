import { EXIT_CODES } from '../errors.ts'
import { takeStatus } from '../status/take-status.ts'
import type { Run } from './context.ts'
import { statusText } from './status-text.ts'

/** Says what can be recovered, how far the archive is behind, and what is wrong. */
export const run: Run = async (_invocation, context) => {
  const { name, config } = context.cluster()
  const status = await takeStatus(name, {
    repositories: context.repositories(),
    connect: context.connect,
    dataDirectory: config.dataDirectory,
    slot: config.wal.receive.slot,
    events: context.events,
    signal: context.signal,
    now: context.now,
  })
  const all = [...status.findings, ...status.repositories.flatMap(({ findings }) => findings)]
  return {
    text: statusText(name, status, { ...context.view, now: context.now() }),
    // The server's part stands with each repository, so that one element says all of one copy.
    json: status.repositories.map(({ facts, findings }) => ({
      cluster: name,
      ...facts,
      server: status.server,
      findings: [...status.findings, ...findings],
    })),
    exitCode: all.some(({ severity }) => severity === 'fail') ? EXIT_CODES.problems.code : 0,
  }
}

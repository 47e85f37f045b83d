import { access, constants, stat } from 'node:fs/promises'
import { reasonOf, systemCode } from '../errors.ts'
import { type Finding, pass, together, warn } from './finding.ts'

const SUBJECT = 'hooks'

/**
 * Whether the programs of hooks are there and may be run by who runs this. They are absolute paths, so that nothing is searched
 * for. What they do is for `notify` to try.
 */
export async function checkHooks(hooks: readonly { run: string[] }[]): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const program of new Set(hooks.map(({ run }) => run[0]!))) {
    const obstacle = await obstacleOf(program)
    findings.push(
      obstacle === undefined
        ? pass(SUBJECT, program)
        : warn(
            SUBJECT,
            `the program ${program} of a hook ${obstacle}`,
            'correct "hooks" in the configuration, or install it; then try all of them: pgrecall notify',
          ),
    )
  }
  return together(SUBJECT, findings)
}

/** Arguments of a hook can be secrets, and are not told. */
async function obstacleOf(program: string): Promise<string | undefined> {
  try {
    if (!(await stat(program)).isFile()) return 'is no file'
    await access(program, constants.X_OK)
    return undefined
  } catch (error) {
    return systemCode(error) === 'ENOENT' ? 'is not there' : `cannot be run: ${reasonOf(error)}`
  }
}

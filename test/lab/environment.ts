import { delimiter } from 'node:path'

/**
 * The environment of everything that the lab starts: PATH and HOME, so that no setting of whoever runs the tests
 * (PGHOST, PGRECALL_CONFIG, NO_COLOR, npm's own) changes an outcome.
 *
 * @param home the scratch folder; it also marks the process as the lab's, see leftovers.ts
 */
export function cleanEnvironment(home: string, more: Record<string, string> = {}): Record<string, string> {
  return { PATH: path(), HOME: home, ...more }
}

/**
 * Without the node_modules/.bin that npm puts first: a user has no such thing. And with the server's folder first where
 * one was named, since pgrecall cannot know it.
 */
function path(): string {
  const folders = (process.env.PATH ?? '/usr/bin:/bin').split(delimiter)
  return [process.env.PGRECALL_TEST_PG_BIN ?? '', ...folders]
    .filter((folder) => folder !== '' && !folder.includes('node_modules'))
    .join(delimiter)
}

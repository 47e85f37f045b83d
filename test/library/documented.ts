import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** The examples of docs/library.md, in their order. */
export async function documentedExamples(): Promise<string[]> {
  const page = await readFile(join(ROOT, 'docs/library.md'), 'utf8')
  return [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!)
}

/** Makes a folder into a project that has pgrecall installed. @param installed where pgrecall lies */
export async function makeProject(folder: string, installed: string): Promise<void> {
  await mkdir(join(folder, 'node_modules/@types'), { recursive: true })
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }\n')
  await symlink(installed, join(folder, 'node_modules/pgrecall'))
  await symlink(join(ROOT, 'node_modules/@types/node'), join(folder, 'node_modules/@types/node'))
}

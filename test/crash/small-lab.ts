import type { LabOptions } from '../lab/lab.ts'
import { Lab } from '../lab/lab.ts'

/** A lab whose cluster has a third of the usual files, since most tests here are about what is done to each file. */
export async function createSmallLab(options: LabOptions = {}): Promise<Lab> {
  const lab = await Lab.create(options)
  for (const name of ['template0', 'template1']) {
    await lab.cluster.sql(`ALTER DATABASE ${name} IS_TEMPLATE false`)
    await lab.cluster.sql(`DROP DATABASE ${name}`)
  }
  return lab
}

/** Makes a tablespace with one table in it. */
export async function addTablespace(lab: Lab, name: string): Promise<void> {
  const folder = await lab.scratch.folder(name)
  await lab.cluster.sql(`CREATE TABLESPACE ${name} LOCATION '${folder}'`)
  await lab.cluster.sql(`CREATE TABLE in_${name} TABLESPACE ${name} AS SELECT generate_series(1, 1000) AS n`)
}

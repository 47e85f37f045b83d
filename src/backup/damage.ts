import type { DamagedFile } from '../catalog/backup-record.ts'
import type { Lsn } from '../postgres/lsn.ts'
import { damageAmong, type PageTrouble } from './page-check.ts'

/**
 * What is to be recorded of the pages of a copy, once it is known where the backup ended.
 * @param stopLsn undefined when no server ran
 */
export function judgePages(
  troubles: readonly PageTrouble[],
  stopLsn: Lsn | undefined,
): { damaged: DamagedFile[]; warnings: string[] } {
  const real = damageAmong(troubles, stopLsn)
  return {
    damaged: real
      .filter(({ pages }) => pages > 0)
      .map(({ path, pages, ranges }) => ({
        path,
        pages,
        blocks: ranges.map(({ block, pages }): [number, number] => [block, block + pages - 1]),
      })),
    warnings: real
      .filter(({ remainder }) => remainder > 0)
      .map(
        ({ path, remainder }) =>
          `${path} ends with ${remainder} bytes that are no whole page and cannot be checked`,
      ),
  }
}

import { nameFromBytes } from '../../src/archive/file-name.ts'
import { type ManifestEntry, ManifestReader } from '../../src/postgres/manifest-reader.ts'

/** Reads a manifest that is all there. */
export function readManifest(bytes: Buffer): ManifestEntry[] {
  const entries: ManifestEntry[] = []
  const reader = new ManifestReader(nameFromBytes, (entry) => entries.push(entry))
  reader.push(bytes)
  reader.finish()
  return entries
}

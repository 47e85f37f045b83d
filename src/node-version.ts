/** What the source uses, as `await using` and the zstd of `node:zlib`, came together with this one. */
const NEEDED = 24

/** Why this Node cannot run pgrecall, with what to do, in a sentence; undefined where it can. */
export function unfitNode(version = process.versions.node): string | undefined {
  if (Number.parseInt(version, 10) >= NEEDED) return undefined
  return `Node.js ${NEEDED} or later is needed, and this is ${version}; npm install without --omit=optional brings the right one for the command`
}

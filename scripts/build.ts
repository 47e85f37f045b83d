/** Bundles src/ into dist/: one entry that starts fast, one chunk for each command, one file for each worker. */
import { readFileSync } from 'node:fs'
import { mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { rolldown } from 'rolldown'
import loadWabt from 'wabt'

const KEEP_MS = 60 * 60 * 1000
const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
// Built aside, then moved file by file, the entries last; what an older build left stays for a while. So a pgrecall that
// runs meanwhile, as archive_command does, finds every part that it comes to load.
const fresh = `dist.${process.pid}`
const bundle = await rolldown({
  input: {
    pgrecall: 'src/entry.ts',
    'copy-worker': 'src/backup/copy-worker.ts',
    'push-worker': 'src/wal/push-worker.ts',
    'stream-worker': 'src/backup/stream-worker.ts',
    'extract-worker': 'src/restore/extract-worker.ts',
    'chain-worker': 'src/restore/chain-worker.ts',
    'rewrite-worker': 'src/consolidation/rewrite-worker.ts',
    'read-worker': 'src/verification/read-worker.ts',
  },
  platform: 'node',
  external: ['pg-native', 'cloudflare:sockets'],
  transform: { define: { 'process.env.PGRECALL_VERSION': JSON.stringify(version) } },
})
await bundle.write({
  dir: fresh,
  format: 'esm',
  entryFileNames: '[name].js',
  chunkFileNames: '[name]-[hash].js',
  minify: { compress: true, mangle: false, codegen: { removeWhitespace: true } },
})
await bundle.close()
await assemble('src/postgres/page-checksum.wat', `${fresh}/page-checksum.wasm`)
await mkdir('dist', { recursive: true })
const built = await readdir(fresh)
const isLoadedLater = (name: string) => /-[\w-]{8}\.js$|\.wasm$/.test(name)
for (const name of built.toSorted((a, b) => Number(isLoadedLater(b)) - Number(isLoadedLater(a)))) {
  await rename(`${fresh}/${name}`, `dist/${name}`)
}
await rm(fresh, { recursive: true })
for (const name of await readdir('dist')) {
  const isOld = Date.now() - (await stat(`dist/${name}`)).mtimeMs > KEEP_MS
  if (isOld && !built.includes(name)) await rm(`dist/${name}`, { force: true })
}

/** Makes WebAssembly of its text. */
async function assemble(source: string, target: string): Promise<void> {
  const { parseWat } = await loadWabt()
  const text = parseWat(source, readFileSync(source, 'utf8'), { simd: true })
  await writeFile(target, text.toBinary({}).buffer)
}

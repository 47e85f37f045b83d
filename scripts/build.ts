/** Bundles src/ into dist/: one entry that starts fast, one chunk for each command, one file for each worker. */
import { readFileSync } from 'node:fs'
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { rolldown } from 'rolldown'

const KEEP_MS = 60 * 60 * 1000
const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
// Built aside, then moved file by file, the entries last; what an older build left stays for a while. So a pgrecall that
// runs meanwhile, as archive_command does, finds every part that it comes to load.
const fresh = `dist.${process.pid}`
const bundle = await rolldown({
  input: {
    pgrecall: 'src/entry.ts',
    'copy-worker': 'src/backup/copy-worker.ts',
    'extract-worker': 'src/restore/extract-worker.ts',
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
await mkdir('dist', { recursive: true })
const built = await readdir(fresh)
const isChunk = (name: string) => /-[\w-]{8}\.js$/.test(name)
for (const name of built.toSorted((a, b) => Number(isChunk(b)) - Number(isChunk(a)))) {
  await rename(`${fresh}/${name}`, `dist/${name}`)
}
await rm(fresh, { recursive: true })
for (const name of await readdir('dist')) {
  const isOld = Date.now() - (await stat(`dist/${name}`)).mtimeMs > KEEP_MS
  if (isOld && !built.includes(name)) await rm(`dist/${name}`, { force: true })
}

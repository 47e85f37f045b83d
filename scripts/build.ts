/** Bundles src/ into dist/: one entry that starts fast, one chunk for each command, one file for each worker. */
import { readFileSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { rolldown } from 'rolldown'

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
// Built aside and put in place by renames, so that an archive_command that runs meanwhile finds a whole program.
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
const old = `dist.old.${process.pid}`
await rename('dist', old).catch(() => {})
await rename(fresh, 'dist')
await rm(old, { recursive: true, force: true })

/**
 * Makes build/pgrecall: one executable file for hosts without Node. It is the launcher, a script of sh, with Node and dist packed
 * behind it; docs/packaging.md says why. `node scripts/build-binary.ts FOLDER` writes it elsewhere.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const target = process.argv[2] ?? 'build'
/** The line of the launcher that says where the program lies. */
const PLACE = /^# Where dist .*\nroot=.*\n/m
const CONTENT = ['dist', 'node_modules', 'package.json']
const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string }

const payload = await pack()
const sum = createHash('sha256').update(payload).digest('hex').slice(0, 12)
const script = scriptFor(await readFile('bin/pgrecall', 'utf8'), await readFile('scripts/unpack.sh', 'utf8'))
const file = join(target, 'pgrecall')
await writeFile(file, Buffer.concat([Buffer.from(script), payload]))
await chmod(file, 0o755)
console.log(`${file}: ${Math.round((script.length + payload.length) / 1e6)} MB`)

/** The same bytes for the same content, so that who has unpacked it once need not do it again. */
async function pack(): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'pgrecall-binary-'))
  try {
    await mkdir(join(folder, 'node_modules/.bin'), { recursive: true })
    // The one that runs this, which set-up has chosen.
    await copyFile(process.execPath, join(folder, 'node_modules/.bin/node'))
    execFileSync(process.execPath, ['scripts/build.ts', join(folder, 'dist')], { stdio: 'inherit' })
    await mkdir(target, { recursive: true })
    await copyFile(join(folder, 'man/pgrecall.1'), join(target, 'pgrecall.1'))
    // For who imports the package.
    await rm(join(folder, 'dist/index.js'))
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }\n')
    execFileSync('chmod', ['-R', 'u=rwX,go=rX', folder])
    const owner = ['--owner=0', '--group=0', '--numeric-owner']
    const options = ['--create', '--sort=name', '--mtime=@0', ...owner, '--directory', folder, ...CONTENT]
    const tar = execFileSync('tar', options, { maxBuffer: 1 << 30 })
    return execFileSync('gzip', ['-3', '--no-name'], { input: tar, maxBuffer: 1 << 30 })
  } finally {
    await rm(folder, { recursive: true })
  }
}

function scriptFor(launcher: string, unpacking: string): string {
  if (!PLACE.test(launcher)) throw new Error('bin/pgrecall has no line that says where the program lies')
  const name = `program-${version}-${process.arch}-${sum}`
  const padded = (offset: number) => String(offset).padStart(6, '0')
  const text = launcher.replace(PLACE, () =>
    unpacking.replaceAll('@NAME@', name).replace('@OFFSET@', padded(0)),
  )
  // `tail` counts from one.
  return text.replace(padded(0), padded(Buffer.byteLength(text) + 1))
}

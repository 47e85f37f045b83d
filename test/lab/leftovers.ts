import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { Socket } from 'node:net'

/**
 * A person who asked for a lab to stay puts a file of this name into its folder. A file and not a message,
 * because the guardian has only its standard input to learn from, and that ends with our life.
 */
export const KEEP_MARK = 'KEEP'

/**
 * Reads folders until its input ends, then ends what runs in them and removes them. Processes are known by HOME,
 * which is the folder for everything that the lab starts, and for nothing else.
 */
const SWEEP = `
trap '' INT TERM HUP
while IFS= read -r folder; do set -- "$@" "$folder"; done
living() { grep -lsaF "HOME=$folder" /proc/[0-9]*/environ | cut -d/ -f3; }
for folder do
  [ -e "$folder/${KEEP_MARK}" ] && continue
  for pid in $(living); do
    # QUIT is PostgreSQL's immediate shutdown: it takes the children along and frees the shared memory. Ceph's servers take
    # seconds to end in order, and have nothing that must be.
    case $(cat "/proc/$pid/comm" 2>/dev/null) in
    postgres) kill -QUIT "$pid" ;;
    ceph-* | radosgw) kill -KILL "$pid" ;;
    *) kill -TERM "$pid" ;;
    esac
  done
  tries=0
  while [ -n "$(living)" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
  for pid in $(living); do kill -KILL "$pid"; done
  rm -rf "$folder"
done 2>/dev/null
`

const folders = new Set<string>()
let tellGuardian: ((folder: string) => void) | undefined

/**
 * Promises that no process with this HOME and no such folder outlives this process, however it ends: by returning,
 * by an exception, by a signal, even by SIGKILL. What is disposed of in time costs nothing here.
 *
 * @param folder absolute path, and the HOME of every process that works in it
 */
export function sweepAtTheEnd(folder: string): void {
  folders.add(folder)
  tellGuardian ??= startGuardian()
  tellGuardian(folder)
}

function startGuardian(): (folder: string) => void {
  // In a session of its own: Ctrl-C at the terminal must reach us and not the one who cleans up after us.
  const guardian = spawn('sh', ['-c', SWEEP], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  guardian.unref()
  const input = guardian.stdin as unknown as Socket
  input.unref()
  input.on('error', () => {})
  // When there is time for it, the sweep is over before our caller looks around.
  process.on('exit', () => {
    sweepNow()
    guardian.kill('SIGKILL')
  })
  return (folder) => input.write(`${folder}\n`)
}

function sweepNow(): void {
  const left = [...folders].filter((folder) => existsSync(folder))
  if (left.length > 0) spawnSync('sh', ['-c', SWEEP], { input: `${left.join('\n')}\n` })
}

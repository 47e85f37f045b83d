import { Argument, InvalidArgumentError } from 'commander'
import type { Declare } from './invocation.ts'
import { wholeNumber } from './option-values.ts'

export function declareVerify(add: Declare): void {
  add(
    'verify',
    'Read what is stored, compare every byte with what was recorded, and heal damage from another repository',
    [
      'pgrecall verify latest',
      'pgrecall verify --fraction 5%                  # each night what was read longest ago',
      'pgrecall verify --decode --repository offsite --json',
      'pgrecall verify --repair                       # damaged objects come anew from another repository',
      'pgrecall verify --restore --scratch /spare     # the newest logical backup is loaded, too',
    ],
  )
    .addArgument(
      new Argument(
        '[ids...]',
        'the backups; everything that is stored when left out; "latest" is the newest physical one',
      ),
    )
    .option('--decode', 'take apart what is stored, too: files, pages, dumps, and the records of the WAL')
    .option(
      '--fraction <part>',
      'read only such a part of all bytes, as 5% or 0.05: what was read longest ago',
      fraction,
    )
    .option('--repair', "heal what is damaged from the cluster's other repositories")
    .option(
      '--restore',
      'load logical backups into a scratch server, and count: those that are named, else the newest whole one',
    )
    .option('--scratch <dir>', 'where that server lives (default: the folder for temporary files)')
    .option(
      '-j, --jobs <number>',
      'how many objects are read side by side, and databases loaded',
      wholeNumber(1, 64),
      4,
    )
}

/** `5%` or `0.05`, more than nothing and at most all. */
function fraction(text: string): number {
  const [, digits = '', percent] = /^(\d+(?:\.\d+)?)\s*(%)?$/.exec(text.trim()) ?? []
  const part = Number(digits) / (percent ? 100 : 1)
  if (digits !== '' && part > 0 && part <= 1) return part
  throw new InvalidArgumentError('It must be a part such as 5% or 0.05.')
}

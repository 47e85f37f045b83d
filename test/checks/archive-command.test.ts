import { describe, expect, test } from 'vitest'
import { type CallFacts, judgeArchiveCommand, readArchiveCommand } from '../../src/checks/archive-command.ts'
import { readShellLine } from '../../src/checks/shell-command.ts'

const OURS: CallFacts = { program: 'ours', sameConfig: true }
const OWN = { launcher: '/opt/bin/pgrecall', file: '/etc/pgrecall/config.yaml', cluster: 'main', clusters: 1 }

const PUSH = '/opt/bin/pgrecall wal-push "%p"'

/** Verdict and beginning of what is said of a command. */
function judge(setting: string, facts = OURS, own = OWN): string[] {
  const findings = judgeArchiveCommand(readArchiveCommand(setting), facts, own, 'MEND')
  for (const { verdict, hint } of findings) expect(hint?.startsWith('MEND') ?? false).toBe(verdict !== 'pass')
  return findings.map(({ verdict, text }) => `${verdict} ${text}`)
}

describe('an archive_command', () => {
  test.each([
    `/opt/bin/pgrecall wal-push "%p"`,
    `/opt/bin/pgrecall wal-push %p`,
    `/opt/bin/pgrecall --config '/etc/pg recall/c.yaml' --cluster main wal-push '%p'`,
    `PGRECALL_CONFIG=/etc/c.yaml exec /opt/bin/pgrecall wal-push "%p" 2>>/var/log/push.log`,
    `timeout 60 /opt/bin/pgrecall --config=/etc/pgrecall.d/pgrecall.yaml wal-push "%p" || exit 1`,
    `/opt/bin/pgrecall wal-push "%p" >/dev/null 2>&1 && touch /run/pushed;`,
    `${PUSH} && cp %p /b || false`,
    `${PUSH} || exit 1; touch /run/pushed # wal-push || true`,
    `cd /tmp && ionice -c 2 nice -n 5 ${PUSH} || exit`,
    `sleep 1 & /opt/bin/pgrecall wal-push /data/%p`,
  ])('is ours: %s', (setting) => {
    expect(judge(setting)).toEqual(['pass archive_command is this pgrecall, with this configuration'])
  })

  test.each([
    ['', /^fail archive_command is empty/],
    ['true', /^fail .* and stores none$/],
    ['/bin/true', /^fail .* and stores none$/],
    ['exit 0', /^fail .* and stores none$/],
    ['exit 256', /^fail .* and stores none$/],
    ['false', /^fail .* always fails/],
    ['test ! -f /mnt/%f && cp "%p" /mnt/%f', /^warn .* but by test$/],
    ['SECRET=x /usr/bin/pgbackrest --stanza=main archive-push %p', /^warn .* but by \/usr\/bin\/pgbackrest$/],
    ['/opt/bin/pgrecall wal-push "%%p"', /^fail .* does not name the segment/],
    ['/opt/bin/pgrecall wal-push "%f"', /^fail .* does not name the segment/],
    ['/opt/bin/pgrecall wal-push "%p" || true', /^fail .* when wal-push has failed, or was not run$/],
    ['/opt/bin/pgrecall wal-push "%p"; exit 0', /^fail .* when wal-push has failed, or was not run$/],
    ['/opt/bin/pgrecall wal-push "%p" | logger', /^fail .* when wal-push has failed, or was not run$/],
    ['/opt/bin/pgrecall wal-push "%p" &', /^fail .* when wal-push has failed, or was not run$/],
    ...[
      `${PUSH} && cp %p /b || true`,
      `${PUSH} && true; true`,
      `${PUSH} || exit 256`,
      `${PUSH} || test -f /b/%f`,
      `${PUSH} || false | logger`,
      `true || ${PUSH}`,
      `exit 0; ${PUSH}`,
      `test -f /b/%f || ${PUSH}`,
    ].map((lying): [string, RegExp] => [lying, /^fail .* when wal-push has failed, or was not run$/]),
    [`# ${PUSH}`, /^fail .* and stores none$/],
    ...[`! ${PUSH}`, `echo ${PUSH}`, `nice echo ${PUSH}`, `if ${PUSH}; then true; fi`].map(
      (unclear): [string, RegExp] => [unclear, /^warn .* only a shell can tell/],
    ),
    ['$HOME/bin/pgrecall wal-push "%p"', /^warn .* only a shell can tell/],
    ['pgrecall wal-push "%p"', /^warn .* looks for on its own PATH/],
    ['/opt/bin/pgrecall --cluster other wal-push "%p"', /^fail .* as cluster "other", this is "main"$/],
    ['/opt/bin/pgrecall --repository=near wal-push "%p"', /^warn .* repository "near" alone/],
  ])('is not in order: %s', (setting, said) => {
    expect(judge(setting)).toEqual([expect.stringMatching(said)])
  })

  test.each([
    [{ ...OURS, program: 'absent' }, /^fail .* is not there$/],
    [{ ...OURS, program: 'not executable' }, /^fail .* cannot be executed$/],
    [{ ...OURS, program: 'another' }, /^warn .* and this is \/opt\/bin\/pgrecall$/],
    [{ ...OURS, sameConfig: false }, /^warn .* reads another configuration/],
  ] as const)('by what was found on the host: %o', (facts, said) => {
    expect(judge('/opt/bin/pgrecall wal-push "%p"', facts)).toEqual([expect.stringMatching(said)])
  })

  test('of a server on another host has to call pgrecall by its name', () => {
    const unseen: CallFacts = { program: undefined, sameConfig: undefined }
    expect(judge(PUSH, unseen)).toEqual(['pass archive_command is pgrecall wal-push'])
    expect(judge('/bin/echo wal-push %p', unseen)).toEqual([
      expect.stringMatching(/^warn .* calls \/bin\/echo/),
    ])
  })

  test('has to name the cluster where there are several', () => {
    const own = { ...OWN, clusters: 2 }
    expect(judge('/opt/bin/pgrecall wal-push "%p"', OURS, own)).toEqual([
      'fail archive_command names no cluster, and the configuration has 2 of them',
    ])
    expect(judge('/opt/bin/pgrecall --cluster main wal-push "%p"', OURS, own)).toHaveLength(1)
  })

  test('doubles a percent sign in a path', () => {
    const command = readArchiveCommand('/opt/50%%/pgrecall --config /etc/50%%.yaml wal-push "%p"')
    expect(command).toMatchObject({ call: { program: '/opt/50%/pgrecall', config: '/etc/50%.yaml' } })
  })
})

test('a shell line is taken apart as the shell does it', () => {
  expect(readShellLine(`a 'b c'd "e \\"f\\"" g\\ h >out 2>&1 i && j; k | l`)).toEqual([
    { words: ['a', 'b cd', 'e "f"', 'g h', 'i'], next: '&&' },
    { words: ['j'], next: ';' },
    { words: ['k'], next: '|' },
    { words: ['l'], next: undefined },
  ])
  for (const line of ['a $b', 'a `b`', '(a)', `a 'b`, 'a "$b"']) expect(readShellLine(line)).toBeUndefined()
})

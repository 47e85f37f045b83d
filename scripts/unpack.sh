# The program lies packed behind this script, and is unpacked once: by root for everybody, by others for themselves.
root=/var/cache/pgrecall/@NAME@
[ -d "$root" ] || [ -w /var/cache ] || root=${XDG_CACHE_HOME:-$HOME/.cache}/pgrecall/@NAME@
# Root runs nothing that another one could have put there.
if [ -O / ]; then
  for folder in "${root%/*}" "$root"; do
    [ ! -e "$folder" ] || [ -O "$folder" ] || fail "$folder is not root's own; remove it, then call this again" "$@"
  done
fi
unpack() (
  PATH=${PATH:-/usr/bin:/bin}
  umask 022
  fresh=$root.$$
  trap 'rm -rf "$fresh"' EXIT
  trap 'exit 1' HUP INT TERM
  mkdir -p "$fresh" || exit 1
  # What was left by one that was killed.
  find "$root".[0-9]* -prune -mmin +60 -exec rm -rf {} +
  tail -c +@OFFSET@ "$self" | tar -xzf - --no-same-owner -C "$fresh" || exit 1
  # After a power cut, what is there under its name is whole.
  sync -f "$fresh" || sync
  # Another one may have been faster.
  mv -T "$fresh" "$root" || [ -d "$root" ]
) 2>/dev/null
[ -d "$root" ] || unpack ||
  fail "$self cannot be unpacked into ${root%/*}; see that it is whole and that there is room, or call it once as root, which unpacks it for everybody" "$@"

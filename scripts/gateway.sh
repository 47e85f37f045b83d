#!/usr/bin/env bash
# A real S3 server for tests, the quickstart and benchmarks: Ceph's object gateway, which keeps everything in memory. It
# knows multipart uploads, conditional writes, object lock, versioning and bucket policies. Ready in about a second.
#
#   gateway.sh start DIR [tls]              makes the folder; prints the endpoint; keys are in DIR/credentials; with tls, the
#                                           certificate is DIR/certificate.pem
#   gateway.sh user DIR NAME KEY SECRET     makes another user
#   gateway.sh stop DIR                     ends it, with all that it stored; the folder stays
#
# Programs: ceph-mon, ceph-osd and radosgw of the Debian packages with these names. Buckets are reached by path only
# (http://address:port/bucket/key). Everything that it starts has DIR as HOME, by which the lab finds what a test left.
set -euo pipefail

fail() {
  printf 'gateway: %s\n' "$*" >&2
  exit 1
}

verb=${1:-}
dir=$(realpath -m -- "${2:?a folder of its own}")
export HOME=$dir CEPH_CONF=$dir/ceph.conf
log=$dir/log

stop() {
  local pids
  pids=$(cat "$dir"/*.pid 2>/dev/null | tr '\n' ' ')
  # Nothing is to be kept, so nobody is asked: a store in memory that is asked to end writes itself to the disk first.
  # shellcheck disable=SC2086 # a list of numbers
  [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
  rm -f "$dir"/*.pid
}

create_user() { radosgw-admin user create --uid="$1" --display-name="$1" --access-key="$2" --secret-key="$3" >/dev/null; }

configure() {
  # A loopback address of our own, so that ports need no search and two gateways never meet.
  address=127.$((RANDOM % 254 + 1)).$((RANDOM % 254 + 1)).$((RANDOM % 254 + 1))
  monitor=v2:$address:33000
  port=7480
  fsid=$(cat /proc/sys/kernel/random/uuid)
  cat >"$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon host = $monitor
public addr = $address
cluster addr = $address
# The gateway asks for encryption, which there is none of without keys.
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
run dir = $dir
admin socket =
log file = $dir/\$name.log
pid file = $dir/\$name.pid
mon data = $dir/mon
osd data = $dir/osd
rgw data = $dir/rgw
osd objectstore = memstore
memstore device bytes = 17179869184
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon data avail warn = 1
mon data avail crit = 1
# A monitor that is alone has nobody to wait for: with the usual second for each change, the pools alone take eight.
paxos propose interval = 0.02
paxos min wait = 0.01
# What was removed gives its memory back in seconds, and not in hours.
rgw gc obj min wait = 5
rgw gc processor period = 5
CONF
  cat >"$dir/credentials" <<CREDENTIALS
[default]
aws_access_key_id = PGRECALLTEST
aws_secret_access_key = $fsid
CREDENTIALS
  chmod 600 "$dir/credentials"
}

# A monitor knows its disks from commands; one that is born with a map of them needs none.
start_monitor() {
  monmaptool --create --fsid "$fsid" --addv a "[$monitor]" "$dir/monmap"
  osdmaptool --createsimple 1 "$dir/osdmap"
  ceph-mon --mkfs -i a --monmap "$dir/monmap" --osdmap "$dir/osdmap"
  ceph-mon -i a
}

start_store() {
  ceph-osd --mkfs -i 0 --osd-uuid "$(cat /proc/sys/kernel/random/uuid)"
  ceph-osd -i 0
}

start_gateway() {
  if [ "$scheme" = https ]; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=gateway -addext "subjectAltName=IP:$address" \
      -keyout "$dir/key.pem" -out "$dir/certificate.pem"
    radosgw --rgw-frontends="beast ssl_endpoint=$address:$port ssl_certificate=$dir/certificate.pem ssl_private_key=$dir/key.pem"
  else
    radosgw --rgw-frontends="beast endpoint=$address:$port"
  fi
  for _ in $(seq 600); do
    if (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then return 0; fi
    sleep 0.05
  done
  return 1
}

start() {
  for program in ceph-mon ceph-osd radosgw radosgw-admin; do
    command -v "$program" >/dev/null || fail "$program is not installed (Debian, Ubuntu: apt-get install ceph-mon ceph-osd radosgw)"
  done
  [ ! -e "$CEPH_CONF" ] || fail "there is a gateway in $dir"
  mkdir -p "$dir"/{mon,osd,rgw}
  configure
  # In the background and waited for, since bash ignores the failure of a step in anything that stands before `||`.
  (
    start_monitor
    start_store
    create_user pgrecall PGRECALLTEST "$fsid"
    start_gateway
  ) >"$log" 2>&1 </dev/null &
  wait $! || {
    stop
    tail -n 20 "$log" >&2
    fail "it did not start; the end of $log is above"
  }
  printf '%s://%s:%s\n' "$scheme" "$address" "$port"
}

case $verb in
start)
  scheme=http
  [ "${3:-}" != tls ] || scheme=https
  start
  ;;
user) create_user "${3:?a name}" "${4:?an access key}" "${5:?a secret key}" ;;
stop) stop ;;
*) fail "unknown \"$verb\"; use start, user or stop" ;;
esac

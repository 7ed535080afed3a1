#!/bin/sh
# Three nodes with TLS and users on this machine, as they would run on three. usage: run.sh [FOLDER]     (Ctrl-C stops them)
# RQLITED and RQLITE name the programs; PORT is the first of six ports (4001).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
built=$here/../../build/release/bin
program() {                  # program NAME: of this checkout, or else the installed one
  if [ -x "$built/$1" ]; then echo "$built/$1"; else command -v "$1" || echo "$1"; fi
}
rqlited=${RQLITED:-$(program rqlited)}
rqlite=${RQLITE:-$(program rqlite)}
first=${PORT:-4001}
case ${1:-} in
  -h | --help)
    sed -n 's/^# //p' "$0"
    echo "rqlited: $rqlited"
    exit ;;
esac
folder=${1:-$(mktemp -d)}
command -v "$rqlited" > /dev/null || { echo "rqlited is neither built (./dev build) nor installed" >&2; exit 1; }

mkdir -p "$folder"
"$here/make-certificates.sh" "$folder/tls" 127.0.0.1
cp "$here/users.json" "$folder/users.json"
chmod 600 "$folder/users.json"
tls=$folder/tls
others=127.0.0.1:$((first + 1)),127.0.0.1:$((first + 3)),127.0.0.1:$((first + 5))
pids=
trap 'kill $pids 2> /dev/null; wait' EXIT
trap 'exit 0' INT TERM
for n in 1 2 3; do
  http=$((first + 2 * (n - 1)))
  "$rqlited" -node-id "n$n" -http-addr "127.0.0.1:$http" -raft-addr "127.0.0.1:$((http + 1))" -bootstrap-expect 3 -join "$others" \
    -http-cert "$tls/127.0.0.1.pem" -http-key "$tls/127.0.0.1.key" \
    -node-cert "$tls/127.0.0.1.pem" -node-key "$tls/127.0.0.1.key" -node-ca-cert "$tls/ca.pem" -node-verify-client \
    -auth "$folder/users.json" -join-as nodes "$folder/n$n" > "$folder/n$n.log" 2>&1 &
  pids="$pids $!"
done
for n in 1 2 3; do
  until curl -sf --cacert "$tls/ca.pem" "https://127.0.0.1:$((first + 2 * (n - 1)))/readyz" > /dev/null; do
    # shellcheck disable=SC2086
    for pid in $pids; do kill -0 "$pid" 2> /dev/null || { echo "a node ended, see $folder/n*.log" >&2; exit 1; }; done
    sleep 0.1
  done
done
cat << HOW
Three nodes are ready on https://127.0.0.1:$first, $((first + 2)), $((first + 4)); logs and data in $folder. Try:
  curl --cacert $tls/ca.pem -u app:change-me-app -XPOST https://127.0.0.1:$first/db/execute -H 'Content-Type: application/json' \\
       -d '["CREATE TABLE IF NOT EXISTS t(v)", "INSERT INTO t VALUES(1)"]'
  curl --cacert $tls/ca.pem -u app:change-me-app -G https://127.0.0.1:$((first + 2))/db/query --data-urlencode 'q=SELECT * FROM t'
  $rqlite -s https -c $tls/ca.pem -u admin:change-me-admin -p $((first + 4)) -e .cluster
  curl --cacert $tls/ca.pem -u backup:change-me-backup https://127.0.0.1:$first/db/backup -o backup.sqlite
Ctrl-C stops them.
HOW
wait

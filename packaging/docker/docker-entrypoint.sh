#!/bin/sh
# run              starts rqlited with the settings of the environment and the data directory
# -flag ...        the same with these arguments, before the data directory
# anything else    is executed as it is
# A setting of the environment counts only if its flag isn't among the arguments.
set -eu

given() {                    # given FLAG ARGUMENTS...: is the flag, with one dash or two, among them?
  flag=$1
  shift
  for argument in "$@"; do
    case $argument in
      "-$flag" | "-$flag="* | "--$flag" | "--$flag="*) return 0 ;;
    esac
  done
  return 1
}

fail() {
  echo "$1" >&2
  exit 1
}

case ${1:-run} in
  run) [ $# -eq 0 ] || shift ;;
  -*) ;;
  *) exec "$@" ;;
esac

# The settings are put in front of the arguments, the last one first.
full_name=$(hostname -f 2> /dev/null || hostname)
if ! given fk "$@" && [ -n "${ENABLE_FK:-}" ]; then set -- -fk "$@"; fi

extensions=
for name in $(echo "${SQLITE_EXTENSIONS:-}" | tr ',' ' '); do
  [ -f "/opt/extensions/$name.zip" ] || fail "SQLite extension $name does not exist"
  extensions=${extensions:+$extensions,}/opt/extensions/$name.zip
done
if given extensions-path "$@"; then
  [ -z "${CUSTOM_SQLITE_EXTENSIONS_PATH:-}" ] || fail "Setting both -extensions-path and CUSTOM_SQLITE_EXTENSIONS_PATH is not allowed"
  [ -z "${SQLITE_EXTENSIONS:-}" ] || fail "Setting both -extensions-path and SQLITE_EXTENSIONS is not allowed"
else
  if [ -n "${CUSTOM_SQLITE_EXTENSIONS_PATH:-}" ]; then extensions=${extensions:+$extensions,}$CUSTOM_SQLITE_EXTENSIONS_PATH; fi
  if [ -n "$extensions" ]; then set -- -extensions-path "$extensions" "$@"; fi
fi

given node-id "$@" || set -- -node-id "${NODE_ID:-$(hostname)}" "$@"
given raft-adv-addr "$@" || set -- -raft-adv-addr "${RAFT_ADV_ADDR:-$full_name:4002}" "$@"
given raft-addr "$@" || set -- -raft-addr "${RAFT_ADDR:-0.0.0.0:4002}" "$@"
given http-adv-addr "$@" || set -- -http-adv-addr "${HTTP_ADV_ADDR:-$full_name:4001}" "$@"
given http-addr "$@" || set -- -http-addr "${HTTP_ADDR:-0.0.0.0:4001}" "$@"

# In Kubernetes a pod's name is known to the others only a while after its start.
delay=${START_DELAY:-}
if [ -z "$delay" ] && [ -n "${KUBERNETES_SERVICE_HOST:-}" ]; then delay=5; fi
if [ -n "$delay" ]; then sleep "$delay"; fi

exec rqlited "$@" "${DATA_DIR:-/rqlite/file/data}"

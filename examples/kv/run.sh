#!/usr/bin/env bash
# Three key-value nodes on this machine; Ctrl-C stops them. Try: printf 'SET a 1\nGET a\n' | nc -q1 127.0.0.1 7001
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
kv=${KV:-$top/build/dev/bin/kv}
[ -x "$kv" ] || { (cd "$top" && cmake --preset dev > /dev/null && cmake --build --preset dev --target kv); }
data=${1:-$top/build/run/kv}
trap 'kill $(jobs -p) 2> /dev/null' EXIT
for number in 1 2 3; do
  mkdir -p "$data/$number"
  "$kv" "$data/$number" "$number" &
done
wait

#!/usr/bin/env bash
# Fuzzes every fuzz target of the tree for a while, one after the other.
#
#   fuzz.sh [DIRECTORY...]     default: api cmd internal
#
# FUZZTIME=30s  for how long each
#
# What go test finds it writes to testdata/fuzz of that package, where the usual
# tests try it from then on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

time=${FUZZTIME:-30s}
[ $# -gt 0 ] || set -- api cmd internal

# A parser that allocates without bound is to fail, and not to take the machine with it.
export GOMEMLIMIT=${GOMEMLIMIT:-1GiB}

failed=()
while read -r directory; do
  while read -r target; do
    echo "Fuzzing $target of ./$directory for $time"
    go test "./$directory" -run='^$' -fuzz="^$target\$" -fuzztime="$time" || failed+=("./$directory $target")
  done < <(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(f \*testing\.F).*/\1/p' "$directory"/*_test.go)
done < <(grep -rl --include='*_test.go' '^func Fuzz' "$@" | xargs -n1 dirname | sort -u)

if [ ${#failed[@]} -gt 0 ]; then
  printf 'fuzz: %s failed\n' "${failed[@]}" >&2
  exit 1
fi

#!/usr/bin/env bash
# go test with the race detector where it can be had, on the real API server.
#
#   test.sh [go test flags] PACKAGE...
#
# RACE=0          without the race detector
# REQUIRE_RACE=1  fail where the race detector cannot be had
#
# Tests find etcd and kube-apiserver in KUBEBUILDER_ASSETS, and FIREBREAK_RACE
# (1 or 0) says whether to build the binaries they start with -race.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The first C compiler that makes a program; a compiler without the C library's
# headers does not.
c_compiler() {
  local cc scratch
  scratch=$(mktemp -d)
  for cc in "${CC:-}" "$(go env CC)" cc gcc clang; do
    [ -n "$cc" ] || continue
    # shellcheck disable=SC2086 # CC may hold a wrapper and its compiler
    if printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | $cc -x c -o "$scratch/a" - >/dev/null 2>&1; then
      rm -rf "$scratch"
      echo "$cc"
      return
    fi
  done
  rm -rf "$scratch"
  return 1
}

why_no_race=
if [ "${RACE:-}" = 0 ]; then
  why_no_race="RACE=0"
elif [ "${CGO_ENABLED:-}" = 0 ]; then
  why_no_race="CGO_ENABLED=0"
elif ! compiler=$(c_compiler); then
  why_no_race="no working C compiler (looked for \$CC, cc, gcc, clang)"
fi

race=()
if [ -z "$why_no_race" ]; then
  echo "Race detector: ON (C compiler: $compiler)"
  race=(-race)
  export CC=$compiler CGO_ENABLED=1 FIREBREAK_RACE=1
else
  echo "Race detector: OFF, because of: $why_no_race"
  export FIREBREAK_RACE=0
  if [ "${REQUIRE_RACE:-}" = 1 ]; then
    echo "test: REQUIRE_RACE=1, so the race detector must be available: install gcc or clang with the C library's headers." >&2
    exit 1
  fi
fi

export KUBEBUILDER_ASSETS=${KUBEBUILDER_ASSETS:-$PWD/bin/k8s}

# What failed is said once more at the end, where it is looked for, and where a log is
# kept of which the beginning is lost.
output=$(mktemp)
trap 'rm -f "$output"' EXIT
code=0
go test ${race[@]+"${race[@]}"} "$@" 2>&1 | tee "$output" || code=$?
[ "$code" = 0 ] || hack/failures.sh "$output" >&2
exit "$code"

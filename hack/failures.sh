#!/usr/bin/env bash
# Says in short what has failed in the output of go test.
#
#   failures.sh OUTPUT
#
# Of each test that failed the first lines, of each data race and panic as well, each
# line up to WIDTH, and which tests and packages have failed. It says at most as much as one
# looks through.
set -euo pipefail

LINES_EACH=${LINES_EACH:-20} LINES_ALL=${LINES_ALL:-160} WIDTH=${WIDTH:-400}

awk -v each="$LINES_EACH" -v all="$LINES_ALL" -v width="$WIDTH" '
  function say(line) {
    if (++said > all) return
    if (length(line) > width) line = substr(line, 1, width) " …"
    print line
  }
  /^--- FAIL: / { names = names " " $3 }
  /^ *--- FAIL: / || /^WARNING: DATA RACE/ || /^panic: / { left = each }
  /^(=== | *--- (PASS|SKIP)|PASS|ok  |\?   )/ { left = 0 }
  /^FAIL/ { left = 0; if (NF > 1) packages = packages "\n" $0; next }
  left > 0 { say($0); left-- }
  END {
    if (said > all) print "… " said - all " further lines: see above"
    print "--- failed:" names packages
  }
' "$1"

#!/usr/bin/env bash
# Fails when `make generate manifests` changes something. It compares with what
# lay there before, so that it can be used with uncommitted work too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
mkdir -p "$before/config/crd" config/crd/bases
cp -R api "$before/api"
cp -R config/crd/bases "$before/config/crd/bases"
cp config/playbooks/README.md "$before/playbooks.md"

"${MAKE:-make}" --no-print-directory generate manifests

changed=0
diff -ru "$before/api" api || changed=1
diff -ru "$before/config/crd/bases" config/crd/bases || changed=1
diff -u "$before/playbooks.md" config/playbooks/README.md || changed=1
if [ $changed -ne 0 ]; then
  echo "check-generated: the generated files do not match api/ and internal/action (differences above)." >&2
  echo "check-generated: run 'make generate manifests' and commit what it changes." >&2
  exit 1
fi
echo "check-generated: everything generated matches api/ and internal/action."

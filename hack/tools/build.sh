#!/usr/bin/env bash
# Builds the pinned build tools into bin/tools.
#
#   build.sh TOOL...       TOOL: controller-gen kustomize golangci-lint crd-ref-docs
#
# A tool that is there already, built from the same pins by the same Go, is
# left alone: each one's stamp file says what it was built from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

out=${TOOLS_BIN:-$(cd ../.. && pwd)/bin/tools}
mkdir -p "$out"

package_of() {
  case $1 in
  controller-gen) echo sigs.k8s.io/controller-tools/cmd/controller-gen ;;
  crd-ref-docs) echo github.com/elastic/crd-ref-docs ;;
  kustomize) echo sigs.k8s.io/kustomize/kustomize/v5 ;;
  golangci-lint) echo ./golangci-lint ;;
  *)
    echo "build.sh: no such tool: '$1'; one of: controller-gen kustomize golangci-lint crd-ref-docs" >&2
    exit 2
    ;;
  esac
}

pins=$(cat go.mod go.sum build.sh golangci-lint/*.go | cksum | tr -d ' ')-$(go env GOVERSION GOOS GOARCH | tr '\n' '-')

for name in "$@"; do
  package=$(package_of "$name")
  if [ -x "$out/$name" ] && [ "$(cat "$out/.$name.stamp" 2>/dev/null)" = "$pins" ]; then
    continue
  fi
  printf 'Building %s into bin/tools%s … ' "$name" \
    "$([ "$name" = golangci-lint ] && echo ', the first time about 5 minutes on two cores')"
  started=$SECONDS
  CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$out/$name.new" "$package"
  mv "$out/$name.new" "$out/$name"
  echo "$pins" >"$out/.$name.stamp"
  echo "$((SECONDS - started)) s"
done

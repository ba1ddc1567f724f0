#!/usr/bin/env bash
# Builds a pinned Kubernetes control plane from its Go modules into bin/k8s.
#
#   build.sh BINARY...     BINARY: etcd kube-apiserver kube-controller-manager
#                          kube-scheduler kubectl kwok
#
# A binary that is there already, built from the same pins by the same Go, is
# left alone: each one's stamp file says what it was built from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

out=${K8S_BIN:-$(cd ../.. && pwd)/bin/k8s}
mkdir -p "$out"

package_of() {
  case $1 in
  etcd) echo go.etcd.io/etcd/server/v3 ;;
  kwok) echo sigs.k8s.io/kwok/cmd/kwok ;;
  kube-apiserver | kube-controller-manager | kube-scheduler | kubectl) echo "k8s.io/kubernetes/cmd/$1" ;;
  *)
    echo "build.sh: no such binary: '$1'; one of: etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok" >&2
    exit 2
    ;;
  esac
}

# What the first build costs on two cores, so that nobody takes silence for a hang.
duration_of() {
  case $1 in
  kube-apiserver) echo "6 minutes" ;;
  kube-controller-manager) echo "3 minutes" ;;
  kwok) echo "90 seconds" ;;
  *) echo "a minute" ;;
  esac
}

pins=$(cat go.mod go.sum build.sh | cksum | tr -d ' ')-$(go env GOVERSION GOOS GOARCH | tr '\n' '-')
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
etcd_version=$(go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)
kwok_version=$(go list -m -f '{{.Version}}' sigs.k8s.io/kwok)
major=${version#v} major=${major%%.*}
minor=${version#v*.} minor=${minor%%.*}

# Without these the API server calls itself v0.0.0-master+$Format:%H$, which
# clients cannot parse.
ldflags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  ldflags+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor"
  ldflags+=" -X $package.gitCommit=$version -X $package.gitTreeState=clean -X $package.buildDate=1970-01-01T00:00:00Z"
done
ldflags+=" -X sigs.k8s.io/kwok/pkg/consts.Version=$kwok_version"

missing=()
for name in "$@"; do
  package_of "$name" >/dev/null
  [ -x "$out/$name" ] && [ "$(cat "$out/.$name.stamp" 2>/dev/null)" = "$pins" ] || missing+=("$name")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "Building the control plane for tests and the demo from its Go modules (Kubernetes $version, etcd $etcd_version, kwok $kwok_version)."
echo "This happens once; it needs the Go module proxy and, the first time, about 12 minutes on two cores for everything."
started=$SECONDS
for i in "${!missing[@]}"; do
  name=${missing[$i]}
  printf '  [%d/%d] %-24s the first time about %s … ' $((i + 1)) ${#missing[@]} "$name" "$(duration_of "$name")"
  t=$SECONDS
  CGO_ENABLED=0 go build -trimpath -ldflags "$ldflags" -o "$out/$name.new" "$(package_of "$name")"
  mv "$out/$name.new" "$out/$name"
  echo "$pins" >"$out/.$name.stamp"
  echo "$((SECONDS - t)) s"
done
echo "Built in $((SECONDS - started)) s into ${out}"

#!/usr/bin/env bash
# build.sh VERSION DIR [GOOS/GOARCH...]: builds a release into DIR, for all platforms unless some are named.
# The same commit, version and Go make the same bytes, wherever and whenever that is: docs/releasing.md.
set -euo pipefail
shopt -s inherit_errexit
[ $# -ge 2 ] || { echo "usage: $0 VERSION DIR [GOOS/GOARCH...]" >&2; exit 2; }
version=$1
[[ $version =~ ^[A-Za-z0-9][A-Za-z0-9.+_-]*$ ]] || { echo "$0: not a version: $version" >&2; exit 2; }
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
cd "$(dirname "$0")/../.."
if [ $# = 0 ]; then set -- linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; fi

# What would change the bytes is set here, whatever the environment has.
unset GOOS GOARCH
export CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath' GOAMD64=v1 GOARM64=v8.0 GOFIPS140=off GOEXPERIMENT='' GOWORK=off
export LC_ALL=C TZ=UTC
# The modification time of the files is the commit's.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

# The tool runs on this computer. It is built once, and every SBOM names it by its digest.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -modfile=testing/tools/go.mod -o "$work/cyclonedx-gomod" github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

rm -f "$out"/slipway_* "$out"/checksums.txt "$out"/LICENSE
for platform in "$@"; do
  name=slipway_${version}_${platform/\//_}
  echo "$name"
  GOOS=${platform%/*} GOARCH=${platform#*/} \
    go build -ldflags "-s -w -X main.version=$version" -o "$out/$name" ./cmd/slipway
  # A serial number and a time would differ each time.
  "$work/cyclonedx-gomod" bin -json -std -noserial -notimestamp -version "$version" -output "$out/$name.cdx.json" "$out/$name" 2>"$work/log" ||
    { cat "$work/log" >&2; exit 1; }
done
cp LICENSE "$out/"
cd "$out"
sha256sum LICENSE slipway_* >checksums.txt
chmod 644 LICENSE checksums.txt ./*.cdx.json
touch -d "@$SOURCE_DATE_EPOCH" LICENSE checksums.txt slipway_*

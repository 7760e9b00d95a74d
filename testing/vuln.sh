#!/usr/bin/env bash
# Runs govulncheck. Where the vulnerability database cannot be reached it says that nothing was checked, and why:
# an unreachable database is neither a finding nor a clean bill.
set -uo pipefail
cd "$(dirname "$0")/.."

err=$(mktemp)
trap 'rm -f "$err"' EXIT
go tool -modfile=testing/tools/go.mod govulncheck ./... 2> >(tee "$err" >&2)
code=$?
if [ $code = 1 ] && grep -q 'fetching vulnerabilities' "$err"; then
  echo "govulncheck: SKIPPED, nothing was checked: the vulnerability database is not reachable from here"
  exit 0
fi
exit $code

#!/usr/bin/env bash
# All that `make test` runs: set-up, format, clippy, build, unit and property tests,
# end-to-end tests against real servers. A part that fails does not hide the
# later ones, except that nothing is tested that was not built. The last line is
# the count of cargo's own result lines.
#
# All calls of cargo name the whole workspace: another choice of packages means
# other features of the dependencies, and they would be compiled again.
set -uo pipefail
cd "$(dirname "$0")/.."
logs=target/test-logs
mkdir -p "$logs"
rm -f "$logs"/*.log
table="" status=0

# part NAME COMMAND…: runs it, keeps its output, its time and whether it failed
part() {
  local name=$1 start=$SECONDS result=ok; shift
  echo; echo "=== $name"
  "$@" 2>&1 | tee "$logs/${name// /-}.log"
  if [ "${PIPESTATUS[0]}" != 0 ]; then result=FAILED status=1; fi
  table+=$(printf '%-28s %4d s  %s' "$name" $((SECONDS - start)) $result)$'\n'
  [ $result = ok ]
}

finish() {
  echo; printf '%s' "$table"
  cat "$logs"/*.log | awk '
    /^test result: / { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i } }
    END { printf "%d passed, %d failed\n", p, f }'
  exit $status
}

real=()
for file in tests/tests/*.rs; do real+=(--test "$(basename "$file" .rs)"); done
servers="--workspace --locked --features tidegate-e2e/real-servers"

part "set-up" scripts/setup.sh test || finish
part "format" cargo fmt --all --check
part "build" cargo build $servers --all-targets || finish
part "clippy" cargo clippy $servers --all-targets -- -D warnings
part "licences and sources" scripts/deny.sh
part "unit and property tests" cargo test --workspace --locked --no-fail-fast
part "end-to-end tests" cargo test $servers --no-fail-fast "${real[@]}"
part "64-bit ARM under qemu" scripts/emulated.sh
finish

#!/usr/bin/env bash
# What ships: built twice to the same bytes, not too large, run under qemu against a real
# Kafka, installed in booted systems. As root; one line for each at the end.
#   cross-test.sh [TARGET…]   all of them without a name
set -uo pipefail
cd "$(dirname "$0")/.."
table="" status=0
targets=("$@")
[ $# -gt 0 ] || targets=({aarch64,x86_64}-unknown-linux-{gnu,musl} armv7-unknown-linux-{gnu,musl}eabihf)

# of PATTERN: those of the targets that are meant
of() { printf '%s\n' "${targets[@]}" | grep -E "$1"; }

part() {
  local name=$1 start=$SECONDS result=ok; shift
  echo; echo "=== $name"
  "$@" || { result=FAILED status=1; }
  table+=$(printf '%-48s %5d s  %s' "$name" $((SECONDS - start)) $result)$'\n'
  [ $result = ok ]
}

finish() { echo; printf '%s' "$table"; exit $status; }

# In the same folder, and nothing of the first build in it.
again() {
  rm -rf target/first
  mv target/dist target/first
  for target in "${targets[@]}"; do rm -rf "target/$target/release"; done
  scripts/package.sh "${targets[@]}"
}

same() { diff target/first/SHA256SUMS target/dist/SHA256SUMS; }

# at_most BYTES FILE…
at_most() {
  local limit=$1 file size good=0; shift
  for file in "$@"; do
    size=$(stat -c %s "$file")
    echo "$file: $size bytes of $limit"
    [ "$size" -le "$limit" ] || good=1
  done
  return $good
}

clean() { lintian --fail-on error --no-tag-display-limit target/dist/*.deb; }

floor() {
  local target file newest
  for target in $(of gnu); do
    file=target/$target/release/ship/tidegate
    newest=$(readelf --dyn-syms -W "$file" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
    echo "$file: $newest"
    [ "$(printf '%s\nGLIBC_2.31\n' "$newest" | sort -V | tail -1)" = GLIBC_2.31 ] || return 1
  done
  for target in $(of musl); do
    ! readelf -l "target/$target/release/ship/tidegate" | grep INTERP || return 1
  done
}

scripts/setup.sh test && scripts/setup.sh roots || exit 1
rm -rf target/dist
part "packages: ${#targets[@]} targets" scripts/package.sh "${targets[@]}" || finish
small=() roots=()
for target in $(of '^(aarch64|armv7).*musl'); do small+=("target/$target/release/ship/tidegate"); done
[ ${#small[@]} = 0 ] || part "static ARM at most 12 MB" at_most 12000000 "${small[@]}"
if of gnu >/dev/null; then
  part "packages at most 6 MB" at_most 6000000 target/dist/*.deb
  part "lintian" clean
fi
part "glibc 2.31 or older, or none" floor
part "licences, sources, bans" scripts/deny.sh
for target in "${targets[@]}"; do
  part "run: $target" env PROFILE=release BUILT=1 scripts/emulated.sh "$target"
done
! of '^x86_64.*gnu' >/dev/null || roots+=(bookworm-amd64 trixie-amd64)
! of '^aarch64.*gnu' >/dev/null || roots+=(bookworm-arm64)
for root in "${roots[@]}"; do part "booted: $root" scripts/roots.sh "$root"; done
part "built again" again && part "the same bytes" same
finish

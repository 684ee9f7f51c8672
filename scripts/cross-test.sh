#!/usr/bin/env bash
# What ships, for every target: built twice to the same bytes, not too large, run under
# qemu against a real Kafka, installed in booted systems. As root; one line for each at
# the end.
set -uo pipefail
cd "$(dirname "$0")/.."
table="" status=0
targets=({aarch64,x86_64}-unknown-linux-{gnu,musl} armv7-unknown-linux-{gnu,musl}eabihf)

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
  local file newest
  for file in target/*-gnu*/release/ship/tidegate; do
    newest=$(readelf --dyn-syms -W "$file" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
    echo "$file: $newest"
    [ "$(printf '%s\nGLIBC_2.31\n' "$newest" | sort -V | tail -1)" = GLIBC_2.31 ] || return 1
  done
  for file in target/*-musl*/release/ship/tidegate; do
    ! readelf -l "$file" | grep INTERP || return 1
  done
}

scripts/setup.sh test && scripts/setup.sh roots || exit 1
part "packages of all targets" scripts/package.sh "${targets[@]}" || finish
part "static ARM at most 12 MB" at_most 12000000 target/{aarch64,armv7}-*-musl*/release/ship/tidegate
part "packages at most 6 MB" at_most 6000000 target/dist/*.deb
part "glibc 2.31 or older, or none" floor
part "lintian" clean
part "licences, sources, bans" scripts/deny.sh
for target in "${targets[@]}"; do part "run: $target" env PROFILE=release scripts/emulated.sh "$target"; done
for root in bookworm-amd64 trixie-amd64 bookworm-arm64; do part "booted: $root" scripts/roots.sh $root; done
part "built again" again && part "the same bytes" same
finish

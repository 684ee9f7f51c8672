#!/usr/bin/env bash
# The agent for another machine: built, and run under qemu. It checks every configuration
# in configs/, and goes the way from MQTT to Kafka, killed on it, with the harness and the
# judge of the end-to-end tests.
#   emulated.sh [TARGET]    aarch64-unknown-linux-gnu in the profile `emulated`; PROFILE=release: another
#   BUILT=1 emulated.sh …   the program that is there already
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-aarch64-unknown-linux-gnu}
# Fat LTO would take longer than everything else here.
export PROFILE=${PROFILE:-emulated}

[ -n "${BUILT:-}" ] || scripts/cross.sh "$target"
agent=$PWD/${CARGO_TARGET_DIR:-target}/$target/${PROFILE/#dev/debug}/tidegate

runner=""
case $target in
  "$(uname -m)"-*) ;;
  aarch64-*) runner=qemu-aarch64-static library=/usr/aarch64-linux-gnu loader=/lib/ld-linux-aarch64.so.1 ;;
  armv7-*) runner=qemu-arm-static library=/usr/arm-linux-gnueabihf loader=/lib/ld-linux-armhf.so.3 ;;
esac
# Where the machine has that architecture's own libraries installed they are found without
# a word, and with one the first thread hangs.
if [ -n "$runner" ] && [[ $target == *-gnu* ]] && [ ! -e "$loader" ]; then runner+=" -L $library"; fi

for file in configs/*.toml; do $runner "$agent" check --config "$file"; done

tests=(
  every_message_of_qos_1_arrives_once_over_cuts_and_a_kill_in_5
  over_tls_with_a_scram_login_it_is_the_same
)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
E2E_AGENT=$agent E2E_RUNNER=$runner cargo test --workspace --locked --features tidegate-e2e/real-servers \
  --test mqtt --test the_whole_way -- --exact "${tests[@]}" 2>&1 | tee "$log"
# A test that got another name would be none, and nobody would miss it.
[ "$(grep -c '^test .* ok$' "$log")" = ${#tests[@]} ] || { echo "emulated: not all of ${tests[*]} ran" >&2; exit 1; }

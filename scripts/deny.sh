#!/usr/bin/env bash
# What may be linked (deny.toml): licences, sources, crates that have no place here.
# Advisories are not asked for: that takes a database from the network each time.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh deny
. scripts/versions.sh
"$cargo_deny" --locked --all-features check bans licenses sources

# The tools for other machines and for packages, as they were tested together; setup.sh
# installs them into the cache, the scripts beside it find them there. To be sourced.
cache=${E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
# zig links against any glibc, and brings musl.
zig=0.17.1
zigbuild=0.24.1
zig_folder=$cache/zig-$zig-$zigbuild
# cargo install: Debian packages; which licences and sources may be linked.
deb=3.8.0
deny=0.20.2
cargo_deb=$cache/cargo-deb-$deb/bin/cargo-deb
cargo_deny=$cache/cargo-deny-$deny/bin/cargo-deny
# What the bench compares with, of just the plugins that it needs.
telegraf=1.39.1
telegraf_program=$cache/telegraf-$telegraf/bin/telegraf
# To build it, where there is no Go.
go=1.26.6
# Modbus devices of others, and what reads serial ports for the first of them. Node runs
# the last one where the machine has none.
pymodbus=3.16.1
pyserial=3.5
pymodbustcp=0.3.1
modbus_serial=8.0.25
node=24.19.0
modbus_peers=$cache/modbus-peers-$pymodbus-$pymodbustcp-$modbus_serial
# A second MQTT broker, and a Sparkplug edge node.
hivemq=2025.5
hivemq_folder=$cache/hivemq-$hivemq
tahu=1.0.19
tahu_folder=$cache/tahu-$tahu

#!/usr/bin/env bash
# The packages in whole systems, booted by systemd-nspawn: installed, READY, reloaded,
# killed, hung, upgraded, removed, purged (tests/roots/inside.sh). As root.
#   roots.sh [SUITE-ARCHITECTURE…]    bookworm-amd64 trixie-amd64 bookworm-arm64
# arm64 runs under qemu by binfmt_misc, which is given back as it was.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "roots: needs root, for systemd-nspawn" >&2; exit 1; }
roots=("$@")
[ $# -gt 0 ] || roots=(bookworm-amd64 trixie-amd64 bookworm-arm64)
built=${CARGO_TARGET_DIR:-target}
. scripts/versions.sh
scripts/setup.sh roots
cargo build --quiet --workspace --locked --features tidegate-e2e/real-servers --bin hold
work=$(mktemp -d "${TMPDIR:-/var/tmp}/tidegate-roots.XXXXXX")
misc=/proc/sys/fs/binfmt_misc
mounted="" registered=""

clean() {
  [ -z "$registered" ] || echo -1 >$misc/tidegate-aarch64
  [ -z "$mounted" ] || umount $misc
  rm -rf --one-file-system "$work"
}
trap clean EXIT

binfmt() {
  [ -e $misc/register ] || { mount -t binfmt_misc binfmt_misc $misc; mounted=yes; }
  # Whoever has registered it before keeps it.
  if ! grep -qs '^interpreter.*aarch64\(-\|$\)' $misc/*; then
    # F: the kernel holds qemu open, and the root needs none. P: what this qemu expects.
    sed 's/^:[^:]*:/:tidegate-aarch64:/; s/:[^:]*$/:OCPF/' /usr/lib/binfmt.d/qemu-aarch64.conf >$misc/register
    registered=yes
  fi
}

# base SUITE ARCHITECTURE: a small Debian, made once and kept in the cache
base() {
  local file=$cache/roots/$1-$2.tar
  if [ ! -e "$file" ]; then
    echo "roots: making $1 for $2 by mmdebstrap into $cache" >&2
    mkdir -p "$cache/roots"
    nice -n 5 mmdebstrap --quiet --format=tar --architectures="$2" --variant=minbase \
      --include=systemd,systemd-sysv,init-system-helpers,adduser "$1" "$file.part" >&2
    mv "$file.part" "$file"
  fi
  echo "$file"
}

# As the one before: the same with a lower version.
previous() {
  local tree=$work/previous
  rm -rf "$tree"
  dpkg-deb -R "$1" "$tree"
  sed -i 's/^Version: .*/Version: 0.0.9-1/' "$tree/DEBIAN/control"
  dpkg-deb --build --root-owner-group -Zgzip "$tree" "$2" >/dev/null
}

boot() {
  local suite=${1%-*} architecture=${1#*-} root=$work/$1 start=$SECONDS file
  file=$(base "$suite" "$architecture")
  mkdir "$root"
  tar -C "$root" -xf "$file"
  mkdir -p "$root/packages" "$root/srv"
  cp "$built"/dist/tidegate_*_"$architecture".deb "$root/packages/next.deb"
  previous "$root/packages/next.deb" "$root/packages/previous.deb"
  cp tests/roots/gateway.toml "$root/packages/"
  python3 - "$root/srv/machine.db" <<'END'
import os, sqlite3, sys
# 24 MiB that no compression makes smaller: more than the buffer of gateway.toml.
table = sqlite3.connect(sys.argv[1])
table.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, note TEXT)")
table.executemany("INSERT INTO log VALUES (?, ?)", [(row, os.urandom(512).hex()) for row in range(1, 49_153)])
table.commit()
END
  cp tests/roots/inside.sh "$root/inside.sh"
  # ptrace is not for emulated threads.
  if [ "$architecture" = "$(dpkg --print-architecture)" ]; then cp "$built/debug/hold" "$root/hold"; fi
  cat >"$root/etc/systemd/system/inside.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/inside.sh
# From the inside: killing nspawn would leave emulated processes.
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=multi-user.target
END
  ln -s ../inside.service "$root/etc/systemd/system/multi-user.target.wants/inside.service"
  mkdir -p "$root/var/log/journal"
  echo; echo "=== $1"
  timeout 900 systemd-nspawn -q -D "$root" --register=no --keep-unit --boot -M "tidegate-${1//_/-}" \
    --console=pipe --link-journal=no --private-network </dev/null >"$work/$1.console" 2>&1 || true
  cat "$root/outcome" "$root/figures" 2>/dev/null || true
  if [ "$(tail -1 "$root/outcome" 2>/dev/null)" != done ]; then
    tail -n 30 "$root/log" "$work/$1.console" >&2 || true
    journalctl -D "$root"/var/log/journal/* --no-pager -u tidegate -n 60 >&2 || true
    echo "roots: $1 FAILED after $((SECONDS - start)) s" >&2
    return 1
  fi
  echo "roots: $1 is well, $((SECONDS - start)) s"
  rm -rf --one-file-system "$root"
}

status=0
# Here and not in the shells below, which leave nothing to be given back by this one.
if [[ " ${roots[*]} " = *-arm64\ * ]]; then binfmt; fi
for root in "${roots[@]}"; do (boot "$root") || status=1; done
exit $status

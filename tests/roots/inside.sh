#!/bin/bash
# Runs in a booted root, started by systemd as the last thing of the boot: installs the
# package, works it and takes it off again. Each line of /outcome is a claim that held;
# the last one is "done". scripts/roots.sh reads them.
set -euo pipefail
exec >/log 2>&1
set -x
export DEBIAN_FRONTEND=noninteractive
holds() { echo "$*" >>/outcome; }
property() { systemctl show tidegate --property "$1" --value; }
until_true() { timeout 300 bash -c "until $1; do sleep 0.1; done"; }
full="tidegate buffer stats --json | grep -q '\"held_back\":true'"
# How many events are in the buffer, whole.
stored() { tidegate buffer verify | sed -n 's/.*: good, .* \([0-9]*\) events.*/\1/p'; }

dpkg -i /packages/previous.deb
[ "$(systemctl is-enabled tidegate)" = enabled ]
[ "$(property ActiveState)" = inactive ]
[ "$(property ConditionResult)" = no ]
holds "installed: enabled, and waiting for a configuration"

install -m 644 /packages/gateway.toml /etc/tidegate/gateway.toml
install -d -m 700 /etc/tidegate/credentials
printf 'secret-of-kafka' >/etc/tidegate/credentials/kafka
chmod 600 /etc/tidegate/credentials/kafka
if [ -x /hold ]; then
  credential="with its credential"
  install -D -m 644 /usr/share/doc/tidegate/examples/credentials.conf \
    /etc/systemd/system/tidegate.service.d/credentials.conf
  sed -i '/=mqtt:/d' /etc/systemd/system/tidegate.service.d/credentials.conf
else
  # qemu gives no process another namespace: no credentials of systemd, and no sandbox of
  # mounts. Both are seen on amd64.
  credential="its credential from a folder"
  chown -R tidegate: /etc/tidegate/credentials
  install -D /dev/stdin /etc/systemd/system/tidegate.service.d/emulated.conf <<END
[Service]
Environment=CREDENTIALS_DIRECTORY=/etc/tidegate/credentials
ProtectSystem=no
ProtectHome=no
PrivateTmp=no
PrivateMounts=no
ProtectKernelTunables=no
ProtectKernelModules=no
ProtectKernelLogs=no
ProtectControlGroups=no
ProtectClock=no
ProtectHostname=no
ProtectProc=default
ProcSubset=all
PrivateIPC=no
END
fi
systemctl daemon-reload
systemctl start tidegate
[ "$(property ActiveState)" = active ]
[ "$(property User)" = tidegate ]
[ "$(stat -c %U:%a /var/lib/tidegate)" = tidegate:750 ]
holds "started: READY, $credential, as its own user"
took=$(($(property ActiveEnterTimestampMonotonic) - $(property InactiveExitTimestampMonotonic)))
echo "start to READY: $((took / 1000)) ms" >>/figures

if [ -x /hold ]; then
  score=$(systemd-analyze security tidegate --no-pager | sed -n 's/.*exposure level.*: \([0-9.]*\) .*/\1/p')
  echo "systemd-analyze security: $score" >>/figures
  awk "BEGIN { exit !($score <= 1.5) }"
  holds "security: at most 1.5"
fi

until_true "$full"
holds "collected: for a Kafka that is not there, until the buffer was full"
echo "events in it: $(stored)" >>/figures

before=$(property MainPID)
systemctl reload tidegate
until_true '[ "$(systemctl is-active tidegate)" = active ]'
[ "$(property MainPID)" = "$before" ]
holds "reloaded: the same process goes on"

systemctl kill --kill-who=main --signal=KILL tidegate
until_true '[ "$(systemctl show tidegate --property NRestarts --value)" -ge 1 ] && systemctl is-active --quiet tidegate'
[ "$(property MainPID)" != "$before" ]
tidegate buffer verify
holds "killed -9: started again, with its buffer whole"

# A stage that hangs starves the watchdog. Where one thread cannot be held (under qemu), the
# whole process is: that is all stages.
install -D /dev/stdin /etc/systemd/system/tidegate.service.d/watchdog.conf <<END
[Service]
WatchdogSec=5
END
systemctl daemon-reload
systemctl restart tidegate
[ "$(property WatchdogUSec)" = 5s ]
restarts=$(property NRestarts) hung=$(property MainPID)
if [ -x /hold ]; then /hold "$hung" forward & else kill -STOP "$hung"; fi
until_true "[ \"\$(systemctl show tidegate --property NRestarts --value)\" -gt $restarts ] && systemctl is-active --quiet tidegate"
journalctl -u tidegate --no-pager | grep -i 'watchdog timeout'
if [ -x /hold ]; then journalctl -u tidegate --no-pager | grep -i 'forward.*hang\|hang.*forward'; fi
rm /etc/systemd/system/tidegate.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart tidegate
holds "hung: killed by the watchdog and started again"

until_true "$full"
before=$(stored)
[ "$before" -gt 10000 ]
cp /etc/tidegate/gateway.toml /kept.toml
echo 'KEPT=1' >>/etc/tidegate/environment
dpkg -i /packages/next.deb
until_true 'systemctl is-active --quiet tidegate'
cmp /etc/tidegate/gateway.toml /kept.toml
grep KEPT=1 /etc/tidegate/environment
until_true "$full"
[ "$(stored)" -ge "$before" ]
holds "upgraded: configuration and a full buffer are still there"

cp /etc/tidegate/gateway.toml /good.toml
echo '[kafka' >>/etc/tidegate/gateway.toml
systemctl restart tidegate || true
[ "$(property ExecMainStatus)" = 78 ]
[ "$(property ActiveState)" = failed ]
# Longer than the first pause before a restart.
sleep 3
[ "$(property NRestarts)" = 0 ]
[ "$(property ActiveState)" = failed ]
cp /good.toml /etc/tidegate/gateway.toml
systemctl start tidegate
holds "a wrong configuration: ended with 78, and not started again"

# Nobody answers as Kafka, so that it says what is left and ends with 1.
tidegate drain --for "2 s" && exit 1
until_true '[ "$(systemctl show tidegate --property ActiveState --value)" = inactive ]'
[ "$(property ExecMainStatus)" = 79 ]
sleep 3
[ "$(property NRestarts)" = 0 ]
[ "$(property ActiveState)" = inactive ]
systemctl start tidegate
holds "drained: ended with 79, and not started again"

# The administrator's own, which no package takes away.
rm -r /etc/systemd/system/tidegate.service.d
dpkg -r tidegate
[ -e /var/lib/tidegate/buffer.db ]
[ -e /etc/tidegate/gateway.toml ]
[ ! -e /usr/bin/tidegate ]
holds "removed: buffer and configuration stay"
dpkg -P tidegate
[ ! -e /var/lib/tidegate ]
[ ! -e /etc/tidegate ]
[ -z "$(find /etc/systemd /var/lib/systemd /usr -name '*tidegate*')" ]
! getent passwd tidegate
! getent group tidegate
holds "purged: nothing is left"
holds done

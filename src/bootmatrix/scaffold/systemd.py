"""A trial started by systemd: a package's unit must stay active."""

import re
from collections.abc import Mapping
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.model.spec import PID1

SYSTEMD = ("/sbin/init",)
SYSTEMD_PACKAGES = ("systemd", "systemd-sysv", "dbus")
PROBE_UNIT = "bootmatrix-probe.service"
SYSTEMD_FILES = (
    {"path": "etc/systemd/journald.conf.d/bootmatrix.conf", "contents": "[Journal]\nStorage=volatile\n"},
    {
        "path": f"etc/systemd/system/{PROBE_UNIT}",
        "contents": "[Unit]\nDescription=The probe of bootmatrix\n\n[Service]\nExecStart=/bin/sh /checks/unit\n",
    },
    {
        "path": f"etc/systemd/system/multi-user.target.wants/{PROBE_UNIT}",
        "symlink": f"/etc/systemd/system/{PROBE_UNIT}",
    },
    {"path": "etc/systemd/system/serial-getty@.service", "symlink": "/dev/null"},
)
"""The last one keeps a getty from the console, which it would hang up for all others."""
RUN = "/var/systemd/run"
"""Folder of the guest that systemd and the check have as /run. systemctl works in the root of systemd only."""
JOURNAL = "/journal.txt"
UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,200}")
SUFFIXES = (".service", ".socket", ".target", ".timer", ".path", ".mount")
PROBE = """\
# Run by systemd. The check in a container beside it waits for the status.
mkdir -p /run/bootmatrix
exec >/run/bootmatrix/output 2>&1
number=0
passed() { number=$((number + 1)); echo "ok $number - $1"; }
failed() {
  number=$((number + 1)); echo "not ok $number - $1"
  systemctl status --no-pager --lines=20 "${2:-$UNIT}"
  finish 1
}
finish() {
  journalctl --no-pager --boot >/run/bootmatrix/journal.txt 2>&1
  echo "$1" >/run/bootmatrix/status.new && mv /run/bootmatrix/status.new /run/bootmatrix/status
  exit 0
}
is_active() { [ "$(systemctl is-active "$UNIT" 2>/dev/null)" = active ]; }
is_starting() { case $(systemctl is-system-running 2>/dev/null) in initializing | starting) ;; *) false ;; esac; }
since() { systemctl show --property=ActiveEnterTimestampMonotonic "$UNIT"; }
now_s() { cut -d. -f1 /proc/uptime; }

UNIT='@UNIT@' STAYS_S=@STAYS_S@
echo "1..3"
end=
until is_active; do
  ! systemctl --quiet is-failed "$UNIT" || failed "$UNIT is active"
  is_starting || end=${end:-$(($(now_s) + @LIMIT_S@))}
  [ -z "$end" ] || [ "$(now_s)" -lt "$end" ] || failed "$UNIT is active"
  sleep 0.5
done
passed "$UNIT is active"
since=$(since)
sleep $STAYS_S
is_active && [ "$(since)" = "$since" ] || failed "$UNIT stays active for $STAYS_S s"
passed "$UNIT stays active for $STAYS_S s"
units=$(systemctl list-units --state=failed --plain --no-legend | cut -d' ' -f1)
[ -z "$units" ] || failed "no unit failed: $(echo $units)" "$(echo "$units" | head -n 1)"
passed "no unit failed"
finish 0
"""
WAIT = """\
until [ -s /run/bootmatrix/status ]; do sleep 0.5; done
cat /run/bootmatrix/output
cp /run/bootmatrix/journal.txt /journal.txt
exit "$(cat /run/bootmatrix/status)"
"""


def unit_name(service: str) -> str:
    """Return a unit's name with suffix. Raises InputError if invalid."""
    if not UNIT.fullmatch(service):
        raise InputError(f"--service {service[:100]!r} cannot be the name of a unit")
    return service if service.endswith(SUFFIXES) else f"{service}.service"


def systemd_parts(container: Mapping[str, Any], probe_image: str, unit: str, stays_s: float) -> dict[str, Any]:
    """Return services and files: systemd as process 1, its probe's check."""
    limit_s = 120
    places = {RUN: "run", "/checks": "checks"}
    system = {
        **container,
        "capabilities": ["all"],
        "annotations": {PID1: "true"},
        "runtime": {
            "mounts": [
                {"type": "bind", "source": source, "destination": target, "options": ["bind"]}
                for source, target in places.items()
            ]
        },
    }
    check = {
        "name": f"{container['name'][:50]}-unit",
        "image": probe_image,
        "command": ["/bin/busybox", "sh", "/checks/wait"],
        "env": ["PATH=/bin:/usr/bin"],
        "binds": [f"{RUN}:/run", "/checks:/checks:ro"],
        "annotations": {"bootmatrix.check": f"{stays_s + 3 * limit_s:.0f}s", "bootmatrix.results": JOURNAL},
    }
    script = PROBE
    for name, text in {"UNIT": unit, "STAYS_S": f"{stays_s:.0f}", "LIMIT_S": str(limit_s)}.items():
        script = script.replace(f"@{name}@", text)
    texts = {"checks/unit": script, "checks/wait": WAIT}
    files = [
        {"path": RUN.lstrip("/"), "directory": True},
        *({"path": path, "mode": "0644", "contents": text} for path, text in texts.items()),
    ]
    return {"services": [system, check], "files": files}

"""A trial started by systemd: a package's unit must stay active."""

import re
from collections.abc import Mapping
from math import ceil
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.model.spec import PID1
from bootmatrix.packaged import packaged

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
    script = packaged("scaffold/unit.sh", unit=unit, stays_s=ceil(stays_s), limit_s=limit_s)
    texts = {"checks/unit": script, "checks/wait": packaged("scaffold/wait.sh")}
    files = [
        {"path": RUN.lstrip("/"), "directory": True},
        *({"path": path, "mode": "0644", "contents": text} for path, text in texts.items()),
    ]
    return {"services": [system, check], "files": files}

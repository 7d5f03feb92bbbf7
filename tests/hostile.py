"""Hostile containers beside a check that fails: each with one capability, bind or namespace, or with two of them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

from bootmatrix.model.spec import CAPABILITIES

BINDS = (
    *("/:/b", "/:/b:ro", "/etc:/b", "/etc/bootmatrix:/b", "/containers:/b", "/containers/services:/b"),
    *("/bootmatrix:/b", "/usr:/b", "/usr/bin:/b", "/usr/lib:/b", "/bin:/b", "/lib:/b", "/run:/b", "/run/bootmatrix:/b"),
    *("/dev:/dev", "/dev:/b", "/proc:/b", "/proc/sys:/b", "/proc/sys/kernel:/b", "/proc/1/root:/b", "/proc/1/ns:/b"),
    *("/sys:/b", "/sys/fs/cgroup:/b", "/sys/kernel:/b", "/sys/module:/b", "/var:/b", "/tmp:/b", "/:/b:rbind,rshared"),
)
SPACES = tuple(
    (key, value)
    for key, values in {
        "pid": ("host", "new"),
        "net": ("host", "new", "none"),
        "ipc": ("host", "new"),
        "uts": ("host", "new"),
    }.items()
    for value in values
)
MAPPING = [{"containerID": 0, "hostID": 0, "size": 65536}]
DEVICES = {
    "/dev/mem": ("c", 1, 1),
    "/dev/port": ("c", 1, 4),
    "/dev/kmsg": ("c", 1, 11),
    "/dev/console": ("c", 5, 1),
    "/dev/ttyS0": ("c", 4, 64),
    "/dev/snapshot": ("c", 10, 231),
    "/dev/uinput": ("c", 10, 223),
    "/dev/loop-control": ("c", 10, 237),
    "/dev/msr": ("c", 202, 0),
    "/dev/sg0": ("c", 21, 0),
    "/dev/disk": ("b", 254, 0),
}
"""By fixed numbers (Documentation/admin-guide/devices.txt); a port of virtio-serial has others each time."""
KEYS: tuple[tuple[str, Any], ...] = (
    *(
        ("devices", [{"path": path, "type": kind, "major": major, "minor": minor, "mode": "0666"}])
        for path, (kind, major, minor) in DEVICES.items()
    ),
    *(
        ("devices", [{"path": "/dev/port0", "type": "c", "major": n, "minor": 1, "mode": "0666"}])
        for n in range(240, 255)
    ),
    ("devices", [{"path": "all", "type": "c"}]),
    ("resources", {"devices": [{"allow": True, "access": "rwm"}]}),
    ("resources", {"pids": {"limit": 3}}),
    ("sysctl", {"kernel.core_pattern": "|/bin/sh"}),
    ("sysctl", {"kernel.printk": "1 1 1 1"}),
    ("sysctl", {"net.ipv4.ip_forward": "1"}),
    *(("rootfsPropagation", value) for value in ("shared", "slave", "private", "unbindable")),
    *(("oomScoreAdj", value) for value in (-1000, 1000)),
    *(("rlimits", [value]) for value in ("core,unlimited", "nproc,1", "memlock,unlimited", "rtprio,99")),
    ("noNewPrivileges", False),
    ("maskedPaths", []),
    ("readonlyPaths", []),
    ("readonlyPaths", ["/proc/sys", "/proc/sysrq-trigger", "/sys"]),
    ("userns", "new"),
    ("uidMappings", MAPPING),
    *(("cgroupsPath", value) for value in ("real", "/real", "services/real", "real/below", "bootmatrix")),
    *(("pid", value) for value in ("/proc/1/ns/pid", "/proc/self/ns/pid")),
    *(("net", value) for value in ("/proc/1/ns/net", "/b/net")),
    ("runtime", {"mkdir": ["/etc/bootmatrix/x", "/containers/services/real/x", "/bootmatrix/x", "/b"]}),
    ("runtime", {"bindNS": {"net": "/etc/bootmatrix/checks"}}),
    ("runtime", {"bindNS": {"pid": "/containers/services/real/config.json"}}),
    ("runtime", {"interfaces": [{"name": "spoil", "add": "dummy", "createInRoot": True}]}),
    ("runtime", {"mounts": [{"type": "tmpfs", "source": "t", "destination": "/etc/bootmatrix"}]}),
    ("runtime", {"mounts": [{"type": "tmpfs", "source": "t", "destination": "/containers/services/real"}]}),
    ("runtime", {"mounts": [{"type": "bind", "source": "/", "destination": "/b", "options": ["bind"]}]}),
    ("runtime", {"cgroups": ["real", "/", "../x"]}),
    *(
        ("mounts", [{"type": kind, "source": kind, "destination": place, "options": options}])
        for kind, place, options in (
            ("proc", "/b", []),
            ("proc", "/b/proc", ["rw"]),
            ("proc", "/b/../b", ["rw"]),
            ("proc", "b", ["rw"]),
            ("proc", "/b", ["hidepid=0,rw"]),
            ("sysfs", "/b", ["rw"]),
            ("sysfs", "/sys", ["rw"]),
            ("sysfs", "/sys", ["ro,sync"]),
            ("cgroup", "/sys/fs/cgroup", ["ro,sync"]),
            ("tmpfs", "/proc", []),
            ("mqueue", "/b", []),
            ("devpts", "/b", []),
            ("cgroup2", "/b", ["rw"]),
            ("cgroup", "/b", ["ro"]),
        )
    ),
    *(
        ("mounts", [{"type": "bind", "source": source, "destination": "/b", "options": options}])
        for source in ("/", "/proc", "/sys", "/dev", "/containers")
        for options in (["rbind", "rslave"], ["rbind", "rshared"], ["bind", "private"], ["rbind,rw,rprivate"])
    ),
    ("mounts", [{"type": "bind", "source": "/", "destination": "/b", "options": ["rbind"], "uidmappings": MAPPING}]),
    ("mounts", [{"type": "proc", "source": "/proc", "destination": "/b", "options": ["bind"]}]),
    ("mounts", [{"type": "proc", "source": "/", "destination": "/b", "options": ["noatime,rbind"]}]),
    *(("ambient", [name]) for name in ("CAP_SETUID", "CAP_MKNOD", "CAP_NET_ADMIN", "CAP_SYS_PTRACE")),
)
"""Other keys of a container."""
ATTACK = r"""
me=$$
for proc in /proc /b/proc /b; do
  echo "|/bin/sh" >$proc/sys/kernel/core_pattern; echo /x >$proc/sys/kernel/modprobe; echo b >$proc/sysrq-trigger
  echo "|/bin/sh" >$proc/core_pattern; echo "|/bin/sh" >$proc/kernel/core_pattern
done
for sys in /sys /b/sys /b; do
  echo /x >$sys/kernel/uevent_helper
  for group in $sys/fs/cgroup $sys; do
    for to in $group/* $group/*/*; do echo 1 >$to/cgroup.freeze; echo 1 >$to/cgroup.kill; done
  done
done
spoil() {
  sed -i 's/exit 1/exit 0/' $1/services/real/config.json $1/real/config.json
  sed -i 's/exit 1/exit 0/' $1/bootmatrix/configs/services/real.json
  for to in "$1/bootmatrix" "$1"; do : >$to/checks; printf 'real 20\n' >$to/checks; done
  for to in $1/bootmatrix/containers $1/containers; do
    printf 'mount\t-\t/etc/bootmatrix/e\t/containers/services/real/config.json\tbind\n' >>$to/services/real
  done
  echo /x.so >$1/ld.so.preload
}
for root in /b /b/root /proc/1/root /b/1/root /b/proc/1/root; do
  spoil $root; spoil $root/etc; spoil $root/containers
done
for folder in /b /b/bin /b/sbin /b/usr/bin /b/usr/sbin /b/1/root /b/1/root/usr/bin /proc/1/root /proc/1/root/usr/bin; do
  for name in crun init; do
    [ -e $folder/$name ] || continue
    rm -f $folder/$name; printf '#!/bin/busybox sh\nexit 0\n' >$folder/$name; chmod 755 $folder/$name
  done
done
rm -rf /b/bootmatrix/hook /b/lib/bootmatrix
for to in /b/control /b/bootmatrix/control /run/bootmatrix/control /b/run/bootmatrix/control; do
  [ -p $to ] && { echo "check real 0"; echo "ended 1 0"; echo "restart real"; } >$to
done
for sys in /sys /b/sys /b; do echo 1 >$sys/module/rcupdate/parameters/rcu_cpu_stall_suppress; done
for port in /sys/class/virtio-ports/* /b/class/virtio-ports/* /b/sys/class/virtio-ports/*; do
  [ -e $port/dev ] || continue
  IFS=: read major minor <$port/dev; mknod /vport c $major $minor; echo junk >/vport; rm -f /vport
done
i=240; while [ $i -lt 255 ]; do mknod /vport c $i 1; echo junk >/vport; rm -f /vport; i=$((i+1)); done
for to in /dev/mem /dev/port /dev/port0 /dev/msr /dev/sg0 /dev/disk /dev/snapshot /dev/uinput; do
  dd if=/dev/zero of=$to bs=1k count=64 seek=512
done
mknod /mem c 1 1; mknod /disk b 254 0; dd if=/dev/zero of=/mem bs=1k count=64; dd if=/dev/zero of=/disk bs=1k count=64
for signal in STOP KILL; do for pid in $(cat /b/[0-9]*/status | sed -n 's/^Pid:.//p'); do kill -$signal $pid; done; done
ulimit -c unlimited
rm -f /dev/null && ln -s /etc/bootmatrix/checks /dev/null
(unshare -Urm sh -c 'mount -t proc p /tmp; echo x >/tmp/sys/kernel/core_pattern') &
mount -t binfmt_misc m /tmp; mount -o remount,rw /proc/sys; mount -t debugfs d /tmp
for signal in STOP KILL; do
  for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    [ "$pid" = 1 ] || [ "$pid" = "$me" ] || kill -$signal $pid
  done
done
sh -c 'kill -SEGV $$'
"""


@dataclass(frozen=True)
class Hostile:
    """A container's settings, and a name made of them."""

    number: int
    settings: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        """Its spec's."""
        return f"hostile-{self.number}"

    def spec(self, images: str = "@pkg:./images") -> str:
        """A spec in which it attacks before the check starts, and beside it."""
        settings = {"image": f"{images}/busybox", **dict(self.settings)}
        attack = {**settings, "command": ["/bin/sh", "-c", f"({ATTACK}) >/dev/null 2>&1; exit 0"]}
        again = {**settings, "command": ["/bin/sh", "-c", f"({ATTACK}) >/dev/null 2>&1; sleep 100"]}
        real = {
            "image": f"{images}/busybox",
            "command": ["/bin/sh", "-c", "sleep 4; exit 1"],
            "annotations": {"bootmatrix.check": "30s"},
        }
        spec = {
            "init": [f"{images}/init", f"{images}/crun"],
            "onboot": [{"name": "before", **attack}],
            "services": [{"name": "beside", **again}, {"name": "real", **real}],
        }
        return json.dumps(spec, indent=1)


def all_hostile() -> list[Hostile]:
    """Every single setting, and every pair of two different kinds."""
    kinds: Sequence[list[tuple[str, Any]]] = (
        [("capabilities", [name]) for name in (*CAPABILITIES, "all")],
        [("binds", [bind]) for bind in BINDS],
        list(SPACES),
        list(KEYS),
    )
    singles = [((*one,),) for kind in kinds for one in kind]
    pairs = [(one, other) for first, second in combinations(kinds, 2) for one, other in product(first, second)]
    return [Hostile(number, settings) for number, settings in enumerate([(), *singles, *pairs])]


def sample(count: int, seed: int) -> list[Hostile]:
    """Some of them: all without any power first, as these are promised to gain nothing, then any."""
    everyone = all_hostile()
    plain = [one for one in everyone if "capabilities" not in dict(one.settings) and len(one.settings) < 2]
    others = [one for one in everyone if one not in plain]
    random.Random(seed).shuffle(others)
    return [*plain, *others][:count]


def write_specs(folder: Path, hostile: Sequence[Hostile], images: Path) -> list[str]:
    """Write their specs; the names of the files."""
    (folder / "images").symlink_to(images)
    for one in hostile:
        (folder / f"{one.name}.yml").write_text(one.spec(), encoding="utf-8")
    return [f"{one.name}.yml" for one in hostile]

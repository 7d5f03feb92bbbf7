"""Privileges of containers: default restrictions, and those that a spec lifts."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bootmatrix.model import ContainerSettings
from bootmatrix.model.spec import CAPABILITIES, PID1, Device, Mount

Json = Mapping[str, Any]

MASKED_PROC = (
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
)
READONLY_PROC = ("bus", "fs", "irq", "sys", "sysrq-trigger")
MASKED_SYS = ("devices/virtual/powercap", "firmware")
"""Paths that Docker and containerd mask and make read-only (moby: oci/defaults.go; containerd: pkg/oci/spec.go)."""
SYSCTL = ("abi", "crypto", "debug", "dev", "fs", "kernel", "sunrpc", "user", "vm", "xen")
"""Folders of /proc/sys except `net`, which the configuration of a network writes to."""
NETWORK_SYSCTL = "CAP_NET_ADMIN"
OPEN = "CAP_SYS_ADMIN"
MAKE_DEVICES = "CAP_MKNOD"
"""This capability can remove any mount, so closing paths would not protect anything."""

POWERFUL = (
    "CAP_BPF",
    "CAP_DAC_READ_SEARCH",
    "CAP_MAC_ADMIN",
    "CAP_PERFMON",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYSLOG",
)
"""Capabilities that reach the kernel's memory, or files and processes outside of the container, or can silence the
kernel for a while (capabilities(7))."""
MEMORY = {(1, 1), (1, 2), (1, 4)}
"""Character devices that are memory and I/O ports: mem, kmem, port (Documentation/admin-guide/devices.txt)."""
ORDINARY = {"tmpfs", "ramfs", "devpts", "mqueue", "hugetlbfs", "proc", "sysfs"}
"""Types of file systems that give no access to the guest, once their usual paths are closed."""
CGROUP = {"cgroup", "cgroup2"}
MAGIC = re.compile(r"/proc/(\d+|self|thread-self)/|/dev/fd/")
RBIND, BIND = "rbind", "bind"


def is_bind(kind: str, options: Iterable[str]) -> bool:
    """Return whether a mount is a bind or may be one, whatever its type."""
    return kind in {"bind", "none"} or bool({BIND, RBIND} & set(words(options)))


def _is_surely_bind(kind: str, options: Iterable[str]) -> bool:
    """Return whether a runtime binds; some do not for `nosuid,bind`."""
    return kind in {"bind", "none"} or bool({BIND, RBIND} & set(options))


def words(options: Iterable[str]) -> list[str]:
    """Split mount options, several of which mount(8) accepts in one text."""
    return [word for option in options for word in option.split(",")]


def is_readonly(options: Iterable[str]) -> bool:
    """Return whether mount options end up as `ro`.

    Only whole options count: of `ro,sync` a runtime understands nothing. It passes it to the file system, which has
    been mounted before and stays writable.
    """
    access = [option for option in options if option in {"ro", "rw", "rrw"}]  # the last is of all mounts below, too
    return access[-1:] == ["ro"] and "rrw" not in access


def capability_names(settings: ContainerSettings) -> set[str]:
    """Return the capabilities of a container."""
    asked = (*(settings.capabilities or ()), *(settings.ambient or ()))
    return set(CAPABILITIES) if any(name.lower() == "all" for name in asked) else set(asked)


def is_open(settings: ContainerSettings) -> bool:
    """Return whether a container has no default restrictions on paths."""
    return OPEN in capability_names(settings)


def masked_paths(settings: ContainerSettings, mounts: Sequence[Json]) -> list[str]:
    """Return the paths hidden from a container: its own list, or the defaults."""
    if settings.masked_paths is not None:
        return list(settings.masked_paths)
    if is_open(settings):
        return []
    proc = [posixpath.join(place, name) for place in _places("/proc", mounts) for name in MASKED_PROC]
    sys = [posixpath.join(place, name) for place in _places("/sys", mounts) for name in MASKED_SYS]
    return [*proc, *sys]


def readonly_paths(settings: ContainerSettings, mounts: Sequence[Json]) -> list[str]:
    """Return the read-only paths of a container: its own list, or the defaults."""
    if settings.readonly_paths is not None:
        return list(settings.readonly_paths)
    if is_open(settings):
        return []
    names: tuple[str, ...] = READONLY_PROC
    if NETWORK_SYSCTL in capability_names(settings):
        names = (*(name for name in READONLY_PROC if name != "sys"), *(f"sys/{name}" for name in SYSCTL))
    proc = [posixpath.join(place, name) for place in _places("/proc", mounts) for name in names]
    return [*proc, *_bound(mounts), *_whole_sys(mounts)]


def _places(root: str, mounts: Sequence[Json]) -> Iterator[str]:
    """Return the paths where a container sees all of /proc or of /sys.

    They are mounts of that type, and binds of it or of the guest's root.
    """
    kind = {"/proc": "proc", "/sys": "sysfs"}[root]
    for mount in mounts:
        options = words(mount.get("options", ()))
        if mount["type"] == kind:  # also of a bind: runtimes do not split an option with a comma, which ours may be
            yield mount["destination"]
        if not is_bind(mount["type"], options):
            continue
        source = _normal(mount["source"])
        if MAGIC.match(source):  # leads anywhere: to the root, or to what is sought
            yield mount["destination"]
            yield posixpath.join(mount["destination"], root[1:])
        elif source == root:
            yield mount["destination"]
        elif source == "/" and RBIND in options:
            yield posixpath.join(mount["destination"], root[1:])


def _whole_sys(mounts: Sequence[Json]) -> Iterator[str]:
    """Return views of /sys beside the usual one, which is read-only."""
    for place in _places("/sys", mounts):
        if place != "/sys" or not _is_usual_sys(mounts):
            yield place
            yield posixpath.join(place, "fs/cgroup")


def _is_usual_sys(mounts: Sequence[Json]) -> bool:
    return any(
        mount["destination"] == "/sys" and mount["type"] == "sysfs" and is_readonly(mount.get("options", ()))
        for mount in mounts
    )


def _bound(mounts: Sequence[Json]) -> Iterator[str]:
    """Return binds of parts of /proc and /sys."""
    for mount in mounts:
        source = _normal(mount["source"])
        if is_bind(mount["type"], mount.get("options", ())) and source.startswith(("/proc/", "/sys/")):
            yield mount["destination"]
            if source == "/sys/fs":
                yield posixpath.join(mount["destination"], "cgroup")


def _normal(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/") if path.startswith("/") else path


def powers(settings: ContainerSettings) -> tuple[str, ...]:
    """Return the settings of a container with which it can reach the kernel or init."""
    first = ("process 1 of the guest",) if PID1 in (settings.annotations or {}) else ()
    more = (*_capabilities(settings), *_paths(settings), *_devices(settings), *_mounts(settings))
    return tuple(dict.fromkeys((*first, *more)))


def _capabilities(settings: ContainerSettings) -> Iterator[str]:
    names = capability_names(settings)
    if names == set(CAPABILITIES):
        yield "all capabilities"
        return
    yield from (name for name in POWERFUL if name in names)


def _paths(settings: ContainerSettings) -> Iterator[str]:
    if settings.readonly_paths is not None and not is_open(settings):
        closed = {_normal(path) for path in settings.readonly_paths}
        # The runtime closes what is mounted at a path, and not what is mounted below: `/` closes nothing of these.
        if not {"/proc/sys", "/proc/sysrq-trigger", "/sys"} <= closed or _has_second_views(settings):
            yield "readonlyPaths of its own"
    if (settings.pid or "").startswith("/"):
        yield f"pid: {settings.pid}"


def _has_second_views(settings: ContainerSettings) -> bool:
    """Return whether a container sees /proc or /sys at unusual places."""
    mounts = settings.mounts or ()
    sources = [text.partition(":")[0] for text in settings.binds or ()]
    sources += [mount.source for mount in mounts if is_bind(mount.usual_type, mount.options)]
    views = any(mount.usual_type in {"proc", "sysfs"} for mount in mounts)
    return views or any(
        (_normal(source) + "/").startswith(("/proc/", "/sys/")) or _normal(source) == "/" for source in sources
    )


def _devices(settings: ContainerSettings) -> Iterator[str]:
    for device in settings.devices or ():
        if device.path == "all" or device.type == "b" or _is_memory(device):
            yield f"the device {device.path}" if device.path != "all" else "all devices"
    for rule in (settings.resources and settings.resources.devices) or ():
        is_narrow = rule.type == "c" and rule.major is not None and rule.minor is not None
        if rule.allow and not (is_narrow and (rule.major, rule.minor) not in MEMORY):
            yield "all devices" if rule.major is None else f"devices {rule.major}:{rule.minor or '*'}"


def _is_memory(device: Device) -> bool:
    return device.type in {"c", "u"} and (device.major, device.minor) in MEMORY


def _mounts(settings: ContainerSettings) -> Iterator[str]:
    for mount in settings.mounts or ():
        yield from _mount(mount)
    for mount in (settings.runtime and settings.runtime.mounts) or ():
        yield from _runtime_mount(mount)


def _mount(mount: Mount) -> Iterator[str]:
    kind = mount.usual_type
    is_closed = kind in CGROUP and is_readonly(mount.options)
    if _is_surely_bind(kind, mount.options) or kind in ORDINARY or is_closed:
        return
    yield f"a mount of type {kind}"


def _runtime_mount(mount: Mount) -> Iterator[str]:
    """Yield mounts that init makes for a container, of which no path is closed."""
    kind = mount.usual_type
    is_inside = not mount.usual_destination.startswith("/")
    if is_bind(kind, mount.options):
        if is_inside:
            yield f"a runtime mount of {mount.source}"
    elif kind not in ORDINARY - {"proc", "sysfs"}:
        yield f"a runtime mount of type {kind}"

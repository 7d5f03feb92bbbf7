"""OCI runtime configurations (runtime-spec: config.json), as in LinuxKit."""

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from bootmatrix.assembly.initrd.privileges import is_bind, is_open, masked_paths, readonly_paths, words
from bootmatrix.assembly.tree_limits import MAX_NUMBER
from bootmatrix.errors import BuildError
from bootmatrix.model import Container, ContainerSettings, ImageConfig
from bootmatrix.model.base import Model, first_fault
from bootmatrix.model.image import LABEL
from bootmatrix.model.spec import CAPABILITIES, Device, Mount

OCI_VERSION = "1.0.2"
"""Newest version that Debian 12's crun supports."""
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

OURS = "bootmatrix."
"""Prefix of annotations that define checks."""
ALL_DEVICES = "all"
"""Path that means all devices of a type."""
DEVICE_TYPES = ("b", "c", "u", "p")
CHANGING = {"move", "remount"}
"""Options by which mount(8) mounts nothing new."""
RENAMED = {"blockio": "blockIO"}
"""Keys of `resources` that the OCI spells in another way."""
_RLIMITS = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
RLIMITS = tuple(f"RLIMIT_{name}" for name in _RLIMITS.split())
"""getrlimit(2)."""
UNLIMITED = (1 << 64) - 1
MAX_DIGITS = 20
"""Of any number; longer ones take long to read, and Python refuses some."""

Json = dict[str, Any]


def merged_settings(container: Container, image: ImageConfig) -> ContainerSettings:
    """Merge a container's settings: the spec replaces the label key by key.

    `capabilities.add` and `binds.add` of the spec extend the label's lists, unless the spec replaces them. In a
    label they have no effect, as in LinuxKit.

    Raises BuildError if the label is not JSON of the known keys.
    """
    label = label_settings(container, image).model_dump(by_alias=True, exclude_none=True, mode="json")
    values = container.model_dump(by_alias=True, exclude_none=True, exclude={"name", "image"}, mode="json")
    merged = {**label, **values}
    runtime = {**label.get("runtime", {}), **values.get("runtime", {})}
    spaces = {**label.get("runtime", {}).get("bindNS", {}), **values.get("runtime", {}).get("bindNS", {})}
    if runtime:
        merged["runtime"] = {**runtime, **({"bindNS": spaces} if spaces else {})}
    for key in ("capabilities", "binds"):
        more = merged.pop(f"{key}.add", []) if f"{key}.add" in values else []
        if more and key not in values:
            merged[key] = _added(label.get(key, []), more)
    return ContainerSettings.model_validate_json(json.dumps(merged))


def _added(names: list[str], more: list[str]) -> list[str]:
    """Extend a list without duplicates; `all` includes all, `none` is dropped."""
    whole = [name.lower() for name in names]
    if whole == ["all"]:
        return names
    return list(dict.fromkeys([*([] if whole == ["none"] else names), *more]))


def label_settings(container: Container, image: ImageConfig) -> ContainerSettings:
    """Return the settings of an image's label, without bootmatrix's annotations.

    Those affect the verdict: only the spec may set them.

    Raises BuildError if the label is not JSON of the known keys.
    """
    text = image.labels.get(LABEL, "")
    if not text:
        return ContainerSettings()
    try:
        settings = ContainerSettings.model_validate_json(text)
    except ValidationError as error:
        raise BuildError(f"the label {LABEL} of {container.image} is not valid: {first_fault(error)}") from error
    others = {key: value for key, value in (settings.annotations or {}).items() if not key.startswith(OURS)}
    return settings.model_copy(update={"annotations": others or None})


def runtime_config(
    container: Container, settings: ContainerSettings, image: ImageConfig, ids: Mapping[str, int]
) -> Json:
    """Return a container's config.json; as in LinuxKit, without the user.

    `ids` map container names in uid and gid to numbers.

    Raises BuildError if a setting is impossible, such as an unknown capability, or has a NUL: there a runtime's texts
    end, so that it would see another setting than the checks of privileges.
    """
    mounts = _mounts(container, settings)
    config: Json = {
        "ociVersion": OCI_VERSION,
        "process": _process(container, settings, image, ids),
        "root": {"path": "rootfs"},
        "mounts": mounts,
        "linux": _linux(container, settings, mounts),
    }
    _set(config["root"], "readonly", settings.readonly)
    _set(config, "hostname", settings.hostname)
    _set(config, "annotations", settings.annotations)
    if text := next((text for text in _texts(config) if "\0" in text), None):
        raise BuildError(f"container {container.name}: a NUL in {text[:80]!r}, of its image {container.image}")
    return config


def _texts(value: object) -> Iterator[str]:
    """Yield all keys and texts of a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for part in pair for text in _texts(part))
    elif isinstance(value, list | tuple):
        yield from (text for part in value for text in _texts(part))


def _process(container: Container, settings: ContainerSettings, image: ImageConfig, ids: Mapping[str, int]) -> Json:
    user = {"uid": _number(container, settings.uid or 0, ids), "gid": _number(container, settings.gid or 0, ids)}
    process: Json = {
        "user": user,
        "args": list(_arguments(container, settings, image)),
        "env": list(settings.env if settings.env is not None else image.env) or [DEFAULT_PATH],
        # An image's may be relative: engines resolve it from the root, crun refuses it.
        "cwd": settings.cwd or f"/{image.workdir.lstrip('/')}",
        "capabilities": _capabilities(container, settings),
    }
    _set(user, "additionalGids", [_number(container, gid, ids) for gid in settings.additional_gids or ()])
    _set(process, "noNewPrivileges", settings.no_new_privileges)
    if settings.oom_score_adj is not None:
        process["oomScoreAdj"] = settings.oom_score_adj
    _set(process, "rlimits", [_rlimit(container, text) for text in settings.rlimits or ()])
    return process


def _linux(container: Container, settings: ContainerSettings, mounts: list[Json]) -> Json:
    devices = settings.devices or ()
    linux: Json = {"resources": _resources(settings), "namespaces": _namespaces(container, settings)}
    _set(linux, "uidMappings", _dumped(settings.uid_mappings))
    _set(linux, "gidMappings", _dumped(settings.gid_mappings))
    _set(linux, "sysctl", settings.sysctl)
    _set(linux, "cgroupsPath", _cgroup_path(container, settings.cgroups_path or ""))
    _set(linux, "devices", [_device(container, device) for device in devices if device.path != ALL_DEVICES])
    _set(linux, "rootfsPropagation", settings.rootfs_propagation)
    _set(linux, "maskedPaths", masked_paths(settings, mounts))
    _set(linux, "readonlyPaths", readonly_paths(settings, mounts))
    return linux


def _resources(settings: ContainerSettings) -> Json:
    """Return `resources` with a rule for each device that it names."""
    values = settings.resources.model_dump(by_alias=True, exclude_none=True, mode="json") if settings.resources else {}
    renamed = {RENAMED.get(key, key): value for key, value in values.items()}
    if "hugepageLimits" in renamed:
        sizes = [{**limit, "pageSize": _page_size(limit["pageSize"])} for limit in renamed["hugepageLimits"]]
        renamed["hugepageLimits"] = sizes
    _set(renamed, "devices", [*renamed.get("devices", []), *map(_device_rule, settings.devices or ())])
    return renamed


def _page_size(size_bytes: int) -> str:
    """Format a size as the kernel's hugetlb controller does: `2MB`."""
    for shift, unit in ((30, "GB"), (20, "MB")):
        if size_bytes >> shift and size_bytes % (1 << shift) == 0:
            return f"{size_bytes >> shift}{unit}"
    return f"{size_bytes >> 10}KB"


def _device_rule(device: Device) -> Json:
    numbers = {} if device.path == ALL_DEVICES else {"major": device.major, "minor": device.minor}
    return {"allow": True, "type": device.type, **numbers, "access": "rwm"}


def _cgroup_path(container: Container, path: str) -> str:
    """Return a container's control group.

    Raises BuildError if it is the guest's own. The runtime kills all processes of a group when its container has ended.
    """
    if path and (posixpath.normpath(f"/{path.lstrip('/')}") == "/" or ".." in path.split("/")):
        problem = f"container {container.name}: cgroupsPath: expected a group below the guest's, found {path!r}"
        raise BuildError(problem, "Give it a name, or leave it out.")
    return path


def _dumped(values: Iterable[Model] | None) -> list[Json]:
    return [value.model_dump(by_alias=True, exclude_none=True, mode="json") for value in values or ()]


def _set(target: Json, key: str, value: object) -> None:
    """Set a key unless the value is empty, as in LinuxKit."""
    if value not in (None, "", [], {}, False):
        target[key] = value


def _arguments(container: Container, settings: ContainerSettings, image: ImageConfig) -> tuple[str, ...]:
    arguments = settings.command if settings.command is not None else (*image.entrypoint, *image.cmd)
    if not arguments:
        raise BuildError(f"container {container.name}: neither the spec nor the image {container.image} has a command")
    return arguments


def _number(container: Container, value: int | str, ids: Mapping[str, int]) -> int:
    if isinstance(value, str):
        is_number = value.isdecimal() and len(value) <= MAX_DIGITS
        number = 0 if value in {"", "root"} else ids.get(value, int(value) if is_number else -1)
    else:
        number = value
    if not 0 <= number <= MAX_NUMBER:
        raise BuildError(
            f"container {container.name}: {str(value)[:80]!r} is neither the number of a user or group "
            "nor the name of a container of the spec"
        )
    return number


def _capabilities(container: Container, settings: ContainerSettings) -> dict[str, list[str]]:
    """Return the non-empty sets; ambient ones are in the others too."""
    effective = _named(container, settings.capabilities or ())
    ambient = _named(container, settings.ambient or ())
    most = sorted({*effective, *ambient})
    sets = {"bounding": most, "effective": effective, "inheritable": most, "permitted": most, "ambient": ambient}
    return {name: names for name, names in sets.items() if names}


def _named(container: Container, names: tuple[str, ...]) -> list[str]:
    if {name.lower() for name in names} == {"all"}:
        return list(CAPABILITIES)
    if {name.lower() for name in names} == {"none"}:
        return []
    unknown = [name for name in names if name not in CAPABILITIES]
    if unknown:
        raise BuildError(f"container {container.name}: unknown capability {unknown[0]!r}")
    return list(names)


def _mounts(container: Container, settings: ContainerSettings) -> list[Json]:
    """Return default mounts and the spec's, which replace them; sorted.

    /sys is read-only, as in Docker, unless the container is open (privileges.py).
    """
    ro = ["ro"] if settings.readonly else []
    closed = [] if is_open(settings) or settings.readonly_paths is not None else ["ro"]
    default = (
        _mount("/proc", "proc", "proc", ["nosuid", "nodev", "noexec", "relatime"]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k", *ro]),
        _mount("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        _mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", *(ro or closed)]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
    )
    own = (
        *map(_tmpfs, settings.tmpfs or ()),
        *map(_bind, settings.binds or ()),
        *(full_mount(container, mount) for mount in settings.mounts or ()),
    )
    mounts = {mount["destination"]: mount for mount in (*default, *own)}
    return [mounts[destination] for destination in sorted(mounts)]


def full_mount(container: Container, mount: Mount) -> Json:
    """Return a mount as in the OCI, with the implied type and destination.

    Raises BuildError if one of these cannot be determined, or it changes a mount that is there.
    """
    changes = next((word for word in words(mount.options) if word in CHANGING), None)
    if changes is not None:
        raise BuildError(
            f"container {container.name}: a mount on {mount.destination} has the option {changes!r}, which changes "
            "another one, of init's or of a read-only folder",
            "Add a new mount, or a 'bind' of an existing one.",
        )
    kind, destination = mount.usual_type, mount.usual_destination
    if not kind or not destination:
        lack = "destination" if kind else "type"
        raise BuildError(f"container {container.name}: a mount has no {lack}: {mount.destination or mount.type}")
    source = mount.source or kind
    full = _mount(
        destination, kind, _without_parents(source) if is_bind(kind, mount.options) else source, list(mount.options)
    )
    _set(full, "uidMappings", _dumped(mount.uid_mappings))
    _set(full, "gidMappings", _dumped(mount.gid_mappings))
    return full


def _mount(destination: str, kind: str, source: str, options: list[str]) -> Json:
    return {"destination": destination, "type": kind, "source": source, **({"options": options} if options else {})}


def _tmpfs(text: str) -> Json:
    destination, colon, options = text.partition(":")
    if not destination.startswith("/") or ":" in options:
        raise BuildError(f"the tmpfs {text!r} is not of the form /destination[:options]")
    return _mount(destination, "tmpfs", "tmpfs", options.split(",") if colon else [])


def _bind(text: str) -> Json:
    parts = text.split(":")
    if len(parts) not in {2, 3} or not all(parts) or not parts[1].startswith("/"):
        raise BuildError(f"the bind {text!r} is not of the form source:/destination[:options]")
    options = [*parts[2].split(","), "rbind"] if len(parts) == 3 else ["rw", "rbind", "rshared"]
    return _mount(parts[1], "bind", _without_parents(parts[0]), options)


def _without_parents(source: str) -> str:
    """Resolve `..` in a path lexically.

    The kernel would resolve it after following links.
    """
    return posixpath.normpath(source) if ".." in source.split("/") else source


def _namespaces(container: Container, settings: ContainerSettings) -> list[Json]:
    kinds = (
        ("network", settings.net or "root"),
        ("ipc", settings.ipc or "root"),
        ("uts", settings.uts or "root"),
        ("pid", settings.pid or "new"),
        ("user", settings.userns or "root"),
    )
    others = ((kind, value) for kind, value in kinds if value not in {"host", "root"})
    return [*(_namespace(container, kind, value) for kind, value in others), {"type": "mount"}]


def _namespace(container: Container, kind: str, value: str) -> Json:
    """Return a namespace, new or by its absolute path."""
    # The runtime would look for a relative path beside the container's root.
    if value in {"new", "none"}:
        return {"type": kind}
    if not value.startswith("/"):
        raise BuildError(f"container {container.name}: the {kind} namespace {value[:80]!r} must be an absolute path")
    return {"type": kind, "path": value}


def _rlimit(container: Container, text: str) -> Json:
    parts = [part.strip() for part in text.split(",")]
    kind = "RLIMIT_" + parts[0].upper().removeprefix("RLIMIT_")
    if len(parts) not in {2, 3} or kind not in RLIMITS:
        raise BuildError(
            f"container {container.name}: the rlimit {text!r} is not of the form NAME,SOFT[,HARD]",
            f"The names are {', '.join(name.removeprefix('RLIMIT_').lower() for name in RLIMITS)}.",
        )
    soft, hard = (_limit(container, part) for part in (parts[1], parts[-1]))
    return {"type": kind, "hard": hard, "soft": soft}


def _limit(container: Container, text: str) -> int:
    if text.lower() == "unlimited":
        return UNLIMITED
    if text.isdecimal() and len(text) <= MAX_DIGITS and int(text) <= UNLIMITED:
        return int(text)
    raise BuildError(f"container {container.name}: {text[:80]!r} in an rlimit is neither a number nor 'unlimited'")


def _device(container: Container, device: Device) -> Json:
    if device.type not in DEVICE_TYPES:  # runtimes look at the first letter alone
        problem = f"container {container.name}: the type of {device.path}: expected {', '.join(DEVICE_TYPES)}"
        raise BuildError(f"{problem}, found {device.type[:20]!r}", "A disk is b, most others are c.")
    described = device.model_dump(exclude={"mode"})
    if device.mode:
        if not re.fullmatch("0*[0-7]{1,4}", device.mode):
            raise BuildError(f"container {container.name}: the mode {device.mode!r} of {device.path} is not octal")
        described["fileMode"] = int(device.mode, 8)
    return described

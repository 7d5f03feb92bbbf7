"""OCI runtime configurations (opencontainers/runtime-spec, config.json) as LinuxKit makes them from its YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bootmatrix.build.tree import MAX_NUMBER
from bootmatrix.errors import BuildError
from bootmatrix.model import Container, ContainerSettings, ImageConfig
from bootmatrix.model.capabilities import CAPABILITIES
from bootmatrix.model.spec import Device

OCI_VERSION = "1.0.2"
"""Nothing later is used, and Debian 12's crun takes nothing later."""
LABEL = "org.mobyproject.config"
"""Image label with a container's defaults, as JSON."""
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Json = dict[str, Any]


def merged_settings(container: Container, image: ImageConfig) -> ContainerSettings:
    """A container's settings: what the spec says replaces the label key by key, and runtime by its sub-keys.

    Only `capabilities.add` and `binds.add` add to what the label says.

    Raises:
        BuildError: the label is not JSON of the known keys.
    """
    label = _label(container, image)
    said = container.model_dump(by_alias=True, exclude_none=True, exclude={"name", "image"}, mode="json")
    merged = {**label, **said}
    if "runtime" in label and "runtime" in said:
        merged["runtime"] = {**label["runtime"], **said["runtime"]}
    for key in ("capabilities.add", "binds.add"):
        if key in label and key in said:
            merged[key] = [*label[key], *said[key]]
    return ContainerSettings.model_validate_json(json.dumps(merged))


def _label(container: Container, image: ImageConfig) -> Json:
    text = image.labels.get(LABEL, "")
    if not text:
        return {}
    try:
        settings = ContainerSettings.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BuildError(f"the label {LABEL} of {container.image} is not valid: {where}: {first['msg']}") from error
    return settings.model_dump(by_alias=True, exclude_none=True, mode="json")


def runtime_config(
    container: Container, settings: ContainerSettings, image: ImageConfig, ids: Mapping[str, int]
) -> Json:
    """The config.json of a container.

    `ids` are the numbers that stand for container names in uid and gid.

    Raises:
        BuildError: a setting that cannot be met, such as a capability that is none.
    """
    readonly = bool(settings.readonly)
    uid, gid = _user(container, settings, image, ids)
    config: Json = {
        "ociVersion": OCI_VERSION,
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": list(_arguments(container, settings, image)),
            "env": list(settings.env if settings.env is not None else image.env) or [DEFAULT_PATH],
            "cwd": settings.cwd or image.workdir or "/",
        },
        "root": {"path": "rootfs", "readonly": readonly},
        "mounts": _mounts(settings, readonly),
        "linux": {"namespaces": _namespaces(settings)},
    }
    process, linux = config["process"], config["linux"]
    process["capabilities"] = _capabilities(container, settings)
    if settings.additional_gids:
        process["user"]["additionalGids"] = [_number(container, gid, ids) for gid in settings.additional_gids]
    _set(process, "noNewPrivileges", settings.no_new_privileges)
    _set(process, "oomScoreAdj", settings.oom_score_adj)
    _set(process, "rlimits", [_rlimit(container, text) for text in settings.rlimits or ()])
    _set(config, "hostname", settings.hostname)
    _set(config, "annotations", settings.annotations)
    _set(linux, "maskedPaths", list(settings.masked_paths or ()))
    _set(linux, "readonlyPaths", list(settings.readonly_paths or ()))
    _set(linux, "rootfsPropagation", settings.rootfs_propagation)
    _set(linux, "cgroupsPath", settings.cgroups_path)
    _set(linux, "sysctl", settings.sysctl)
    _set(linux, "devices", [_device(container, device) for device in settings.devices or ()])
    return config


def _set(target: Json, key: str, value: object) -> None:
    if value not in (None, "", [], {}, False):
        target[key] = value


def _arguments(container: Container, settings: ContainerSettings, image: ImageConfig) -> tuple[str, ...]:
    arguments = settings.command if settings.command is not None else (*image.entrypoint, *image.cmd)
    if not arguments:
        raise BuildError(f"container {container.name}: neither the spec nor the image {container.image} has a command")
    return arguments


def _user(
    container: Container, settings: ContainerSettings, image: ImageConfig, ids: Mapping[str, int]
) -> tuple[int, int]:
    user, _, group = image.user.partition(":")
    uid = settings.uid if settings.uid is not None else (user or 0)
    gid = settings.gid if settings.gid is not None else (group or 0)
    return _number(container, uid, ids), _number(container, gid, ids)


def _number(container: Container, value: int | str, ids: Mapping[str, int]) -> int:
    if isinstance(value, str):
        number = 0 if value == "root" else ids.get(value, int(value) if value.isdecimal() else -1)
    else:
        number = value
    if not 0 <= number <= MAX_NUMBER:
        raise BuildError(
            f"container {container.name}: {value!r} is neither the number of a user or group "
            "nor the name of a container of the spec"
        )
    return number


def _capabilities(container: Container, settings: ContainerSettings) -> dict[str, list[str]]:
    """All sets, the empty ones too: without them a runtime might give what it takes for usual."""
    given = (*_named(container, settings.capabilities or ()), *_named(container, settings.capabilities_add or ()))
    ambient = _named(container, settings.ambient or ())
    sets = {name: list(dict.fromkeys(given)) for name in ("bounding", "effective", "inheritable", "permitted")}
    return {**sets, "ambient": ambient}


def _named(container: Container, names: tuple[str, ...]) -> list[str]:
    if {name.lower() for name in names} == {"all"}:
        return list(CAPABILITIES)
    if {name.lower() for name in names} == {"none"}:
        return []
    unknown = [name for name in names if name not in CAPABILITIES]
    if unknown:
        raise BuildError(f"container {container.name}: unknown capability {unknown[0]!r}")
    return list(dict.fromkeys(names))


def _mounts(settings: ContainerSettings, readonly: bool) -> list[Json]:
    """Default mounts, replaced by those of the spec with the same destination, in the order of their destinations."""
    ro = ["ro"] if readonly else []
    mounts: dict[str, Json] = {
        "/proc": _mount("/proc", "proc", "proc", ["nosuid", "nodev", "noexec", "relatime"]),
        "/dev": _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k", *ro]),
        "/dev/pts": _mount(
            "/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
        ),
        "/sys": _mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", *ro]),
        "/sys/fs/cgroup": _mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
    }
    for text in settings.tmpfs or ():
        destination, _, options = text.partition(":")
        given = [option for option in options.split(",") if option]
        if not destination.startswith("/"):
            raise BuildError(f"the tmpfs {text!r} is not of the form /destination[:options]")
        mounts[destination] = _mount(destination, "tmpfs", "tmpfs", given)
    for text in (*(settings.binds or ()), *(settings.binds_add or ())):
        bind = _bind(text)
        mounts[bind["destination"]] = bind
    for mount in settings.mounts or ():
        mounts[mount.destination] = mount.model_dump(mode="json")
    return [mounts[destination] for destination in sorted(mounts)]


def _mount(destination: str, kind: str, source: str, options: list[str]) -> Json:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _bind(text: str) -> Json:
    parts = text.split(":")
    if len(parts) not in {2, 3} or not all(parts) or not parts[1].startswith("/"):
        raise BuildError(f"the bind {text!r} is not of the form source:/destination[:options]")
    options = parts[2].split(",") if len(parts) == 3 else ["rw", "rshared"]
    if "rbind" not in options and "bind" not in options:
        options = [*options[:1], "rbind", *options[1:]]
    return _mount(parts[1], "bind", parts[0], options)


def _namespaces(settings: ContainerSettings) -> list[Json]:
    namespaces: list[Json] = [{"type": "mount"}]
    if settings.pid not in {"host", "root"}:
        namespaces.insert(0, _namespace("pid", settings.pid or "new"))
    for kind, value in (
        ("network", settings.net),
        ("ipc", settings.ipc),
        ("uts", settings.uts),
        ("user", settings.userns),
    ):
        if value not in {None, "", "host", "root"}:
            namespaces.append(_namespace(kind, str(value)))
    return namespaces


def _namespace(kind: str, value: str) -> Json:
    return {"type": kind} if value in {"new", "none"} else {"type": kind, "path": value}


def _rlimit(container: Container, text: str) -> Json:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in {2, 3} or not parts[0]:
        raise BuildError(f"container {container.name}: the rlimit {text!r} is not of the form NAME,SOFT[,HARD]")
    soft, hard = (_limit(container, part) for part in (parts[1], parts[-1]))
    return {"type": "RLIMIT_" + parts[0].upper().removeprefix("RLIMIT_"), "soft": soft, "hard": hard}


def _limit(container: Container, text: str) -> int:
    if text == "unlimited":
        return (1 << 64) - 1
    if text.isdecimal():
        return int(text)
    raise BuildError(f"container {container.name}: {text!r} in an rlimit is neither a number nor 'unlimited'")


def _device(container: Container, device: Device) -> Json:
    described = device.model_dump(exclude={"mode"})
    if device.mode:
        if not re.fullmatch("[0-7]{1,4}", device.mode):
            raise BuildError(f"container {container.name}: the mode {device.mode!r} of {device.path} is not octal")
        described["fileMode"] = int(device.mode, 8)
    return described

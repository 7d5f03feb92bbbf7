"""Settings of the label `org.mobyproject.config`, refused if they affect others.

An image is third-party. Its label may configure its own container, but not the verdict, init's files, or other
containers.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from bootmatrix.assembly.initrd.bundle_spec import BundleSpec
from bootmatrix.assembly.initrd.privileges import is_bind, is_readonly, powers
from bootmatrix.assembly.initrd.runtime_config import label_settings
from bootmatrix.assembly.initrd.world import is_within, normal
from bootmatrix.errors import BuildError
from bootmatrix.model import ContainerSettings
from bootmatrix.model.image import LABEL
from bootmatrix.model.spec import Mount

OWN_FOLDERS = ("/bootmatrix", "/containers", "/etc/bootmatrix", "/usr/lib/bootmatrix")
"""Init's and other containers' own: no label names a path in them."""
FOLDERS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")
PROGRAMS = ("/init", *(f"{folder}/{name}" for folder in FOLDERS for name in ("crun", "runc")))
"""Init, and what it runs: no label may bind these, or a folder above them, writable."""
LIBRARIES = ("/etc/ld.so.preload", "/lib", "/lib64", "/sbin", "/usr/lib64", "/usr/sbin")
SPACES = ("net", "ipc", "uts", "pid", "userns")
SHOWN = ("capabilities", "ambient", "binds", "mounts", "devices", "masked_paths", "readonly_paths", "sysctl", "runtime")
MAX_SHOWN = 400


def label_notes(bundles: Iterable[BundleSpec]) -> Iterator[str]:
    """Note each container whose image label grants more than the defaults."""
    for bundle in bundles:
        words = "; ".join(_powers(_effective(bundle)))
        if words:
            container = bundle.container
            yield f"{container.name}: by the label of its image {container.image} it has {words[:MAX_SHOWN]}"


def self_granted(bundles: Iterable[BundleSpec]) -> tuple[str, ...]:
    """Return containers whose power comes from their image's label, and which."""
    granted = []
    for bundle in bundles:
        settings = _effective(bundle)
        words = [*powers(settings), *(f"the device {device.path}" for device in settings.devices or ())]
        if words:
            granted.append(f"{bundle.container.name}: {', '.join(dict.fromkeys(words))}")
    return tuple(granted)


def check_labels(bundles: Iterable[BundleSpec]) -> None:
    """Refuse labels that reach files of others. Raises BuildError for one."""
    for bundle in bundles:
        for what in _reached(_effective(bundle)):
            raise BuildError(
                f"container {bundle.container.name}: the label {LABEL} of {bundle.container.image} asks for {what}, "
                "by which it would reach files of init or of other containers",
                "An image cannot grant itself such rights. If intended, set the whole key in the spec.",
            )


def _effective(bundle: BundleSpec) -> ContainerSettings:
    """Settings of the label that the spec does not replace."""
    label = label_settings(bundle.container, bundle.image.config).model_dump(
        by_alias=True, exclude_none=True, mode="json"
    )
    spec = bundle.container.model_dump(by_alias=True, exclude_none=True, mode="json")
    remaining: dict[str, Any] = {key: value for key, value in label.items() if key not in spec or key == "runtime"}
    if "runtime" in remaining:
        remaining["runtime"] = {
            key: value for key, value in remaining["runtime"].items() if key not in spec.get("runtime", {})
        }
    return ContainerSettings.model_validate(remaining, strict=False)


def _powers(settings: ContainerSettings) -> Iterator[str]:
    values = settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={"runtime": {"mkdir"}})
    for key in (*SHOWN, *SPACES):
        if key in values and values[key] not in ([], {}, "", "new"):
            yield f"{key} {_words(values[key])}"


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items() if each not in ([], {}, "", None))
    return str(value)


def _reached(settings: ContainerSettings) -> Iterator[str]:
    for text in settings.binds or ():
        source, _, rest = text.partition(":")
        if source.startswith("/") and is_reaching(source, not is_readonly(rest.partition(":")[2].split(","))):
            yield f"the bind {text}"
    yield from _reaching_mounts("mounts", settings.mounts or ())
    for kind in SPACES:
        path = getattr(settings, kind) or ""
        if path.startswith("/") and is_within(normal(path), "/proc"):
            yield f"{kind}: {path}"
    runtime = settings.runtime
    if runtime is None:
        return
    yield from _reaching_mounts("runtime.mounts", runtime.mounts or ())
    made = (*(mount.destination for mount in runtime.mounts or ()), *(runtime.mkdir or ()))
    spaces = runtime.bind_ns.model_dump(exclude_none=True).values() if runtime.bind_ns else ()
    for path in (*made, *spaces):
        if ".." in path.split("/") or (path.startswith("/") and is_reaching(path, can_write=True)):
            yield f"runtime: {path}"


def _reaching_mounts(key: str, mounts: Iterable[Mount]) -> Iterator[str]:
    for mount in mounts:
        if is_bind(mount.usual_type, mount.options):
            if is_reaching(mount.source, not is_readonly(mount.options)):
                yield f"the bind {mount.source} under {key}"
        elif mount.usual_type == "overlay":
            yield f"an overlay under {key}"


def is_reaching(path: str, can_write: bool) -> bool:
    """Return whether a guest path leads to files of init or of containers."""
    path = normal(path)
    if any(is_within(path, folder) for folder in OWN_FOLDERS):
        return True
    process = path.removeprefix("/proc/").partition("/")[0]
    if path.startswith("/proc/") and (process.isdigit() or process.endswith("self")):
        return True
    own = (*OWN_FOLDERS, *PROGRAMS, *LIBRARIES)
    return can_write and any(is_within(each, path) for each in own)

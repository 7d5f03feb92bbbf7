"""Specs: LinuxKit's YAML."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from bootmatrix.errors import Fault, FileError, InputError
from bootmatrix.load.data_paths import is_file, project_of, specs_folder
from bootmatrix.load.document import Document, Location, read_document
from bootmatrix.load.validate import suggest, validate
from bootmatrix.model import Container, FileEntry, PrebuiltGuest, Spec
from bootmatrix.model.durations import duration_s
from bootmatrix.model.guest_size import parse_size
from bootmatrix.model.spec import (
    ANNOTATIONS,
    CAPABILITIES,
    CHECK,
    CONSOLE,
    NETWORK,
    NETWORKS,
    PID1,
    PREFIX,
    RESOURCES,
    STOP,
)

SHOWN = re.compile(r"(?=.*\S)[^\x00-\x1f\x7f]{1,300}")
SECTIONS = ("onboot", "onshutdown", "services")
SUFFIXES = ("", ".yml", ".yaml")
MERGED = "+"
"""Separator between the files of a merged spec."""
UNUSED: dict[str, tuple[type, str]] = {
    "trust": (dict, "LinuxKit ignores it as well"),
    "outputs": (list, "use `bootmatrix build --format`"),
}
"""Accepted keys without effect: their type, and the reason."""
OLD_NAMES = "mobylinux/"
"""Prefix of LinuxKit's image names until 2017."""
GUEST_SUFFIXES = (".guest.yml", ".guest.yaml")
"""Suffixes of prebuilt guests: a kernel with an initrd, or a disk."""


def find_spec(name: str, base: Path = Path()) -> Path:
    """Find a spec by path (from `base`) or shipped name, in short or whole.

    Names joined by `+` are files to merge; so are their paths.

    Raises InputError if the spec is not found.
    """
    path = base / name
    try:
        if is_file(path):
            return path
        if MERGED in name:
            return Path(MERGED.join(str(find_spec(piece, base)) for piece in _pieces(name, base)))
        shipped = _shipped(name)
    except (OSError, ValueError) as error:
        raise InputError(f"{name!r} is not a valid file name") from error
    if shipped:
        return shipped
    if path.is_dir():
        raise InputError(f"{path}: a folder, not a spec", "Name a .yml file in it.")
    candidates = {file.name.removesuffix(".yml") for file in specs_folder().glob("*.yml")}
    beside = {str(file) for suffix in ("yml", "yaml") for file in path.parent.glob(f"*.{suffix}")}
    raise InputError(f"{path}: file not found, and no shipped spec has this name.{suggest(name, candidates | beside)}")


def _pieces(name: str, base: Path) -> list[str]:
    """Split the names of merged files; a `+` may occur in a name too."""
    pieces: list[str] = []
    rest = name.split(MERGED)
    while rest:
        ends = (end for end in range(len(rest), 0, -1) if is_file(base / MERGED.join(rest[:end])))
        end = next(ends, 1)
        pieces.append(MERGED.join(rest[:end]))
        rest = rest[end:]
    return pieces


def spec_files(path: Path) -> list[Path]:
    """List the file of a spec, or its merged files in order."""
    return [path] if MERGED not in str(path) or is_file(path) else [Path(piece) for piece in _pieces(str(path), Path())]


def _shipped(name: str) -> Path | None:
    plain = name.removeprefix("specs/")
    if not plain or "/" in plain:
        return None
    files = (specs_folder() / f"{plain}{suffix}" for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def spec_name(path: Path) -> str:
    """Return the part of a cell's id for a spec's file: its safe name without `.yml`.

    Merged specs are joined as `a+b`.
    """
    stem = MERGED.join(file.stem for file in spec_files(path))
    safe = re.sub(r"[^A-Za-z0-9_.+-]", "-", stem).lstrip("_.+-")
    return safe[:64] or "spec"


def check_foreign(specs: Iterable[Path], folder: Path) -> None:
    """Refuse invalid specs of others' projects, without quoting them.

    `folder` is that of a matrix or a saved run, which may be anybody's and name any file. Shipped specs are shown.

    Raises InputError if one cannot be read, or is invalid.
    """
    roots = (project_of(folder.resolve()), specs_folder().resolve())
    for file in (file for spec in specs for file in spec_files(spec)):
        if any(file.resolve().is_relative_to(root) for root in roots):
            continue
        try:
            load_one(file)
        except FileError as error:
            hint = f"bootmatrix validate {file} shows more"
            words = f"not a valid spec. It is outside of the project that names it; {hint}"
            raise FileError([Fault(str(file), error.faults[0].line, words)]) from None


def load_one(path: Path) -> tuple[Spec, Document]:
    """Load one spec file, and return its document with line numbers too.

    Raises InputError if the file cannot be read, or is invalid; all faults are listed.
    """
    document = read_document(path)
    if path.name.endswith(GUEST_SUFFIXES):
        return _prebuilt_spec(document, path), document
    if "specs" in document.data:
        words = f"'specs' is of a matrix, whose file is to be named {path.stem}.matrix.yml"
        raise FileError([Fault(str(path), document.line(("specs",)), words)])
    notes = tuple(_take_unused(document))
    spec = validate(document, Spec, name=spec_name(path), path=str(path), notes=notes, own=None, asked_by={})
    _check(document, spec)
    document.raise_faults()
    old = [name for name in _images(spec) if name.startswith(OLD_NAMES)]
    if old:
        new = f"linuxkit/{old[0].removeprefix(OLD_NAMES).split(':')[0]}"
        renamed = f"the image {old[0]} has been renamed to {new}"
        spec = spec.model_copy(update={"notes": (*spec.notes, renamed)})
    return spec, document


def _prebuilt_spec(document: Document, path: Path) -> Spec:
    console = document.data.get("console")
    if isinstance(console, str):
        document.data["console"] = {"text": console}
    guest = validate(document, PrebuiltGuest)
    _check_own(document, guest)
    notes = ("'expect: {console: …}' is deprecated: write 'console: {text: …}'",) if guest.expect else ()
    return Spec(name=spec_name(path), path=str(path), own=guest, notes=notes)


def _images(spec: Spec) -> list[str]:
    containers = (*spec.onboot, *spec.onshutdown, *spec.services)
    volumes = (volume.image for volume in spec.volumes)
    return [spec.kernel.image, *spec.init, *(container.image for container in containers), *volumes]


def _check_own(document: Document, own: PrebuiltGuest) -> None:
    if not (own.kernel or own.initrd or own.disk):
        document.complain((), "set at least one of 'kernel', 'initrd' and 'disk'")
    if own.console and own.expect:
        document.complain(("expect",), "'expect' is the deprecated form of 'console': remove it")
    if own.cmdline and not (own.kernel or own.initrd):
        document.complain(("cmdline",), "'cmdline' cannot be combined with a disk")
    document.raise_faults()


def _take_unused(document: Document) -> Iterator[str]:
    """Remove accepted, unused keys, and yield notes on them."""
    for key, (kind, reason) in UNUSED.items():
        value = document.data.pop(key, None)
        if value is not None and not isinstance(value, kind):
            document.complain((key,), f"{key!r} must be {'a mapping' if kind is dict else 'a list'}")
        elif value is not None:
            yield f"{key!r} is not used: {reason}"
    kernel = document.data.get("kernel")
    if isinstance(kernel, dict) and kernel.get("image"):
        yield f"the kernel image {kernel['image']} is used only by cells whose kernel is 'spec'"


def _check(document: Document, spec: Spec) -> None:
    _check_names(document, "services", [service.name for service in spec.services])
    _check_volumes(document, spec)
    for section in SECTIONS:
        for index, container in enumerate(getattr(spec, section)):
            _check_container(document, (section, index), container)
    if not spec.kernel.cmdline.isprintable():
        document.complain(("kernel", "cmdline"), "'cmdline' must be one line of printable text")
    for index, image in enumerate(spec.init):
        if not image.strip():
            document.complain(("init", index), "an image of 'init' is empty")
    for index, file in enumerate(spec.files):
        _check_file(document, ("files", index), file)


def _check_names(document: Document, section: str, names: list[str]) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            line = document.line((section, first[name], "name"))
            place = (section, index, "name")
            document.complain(place, f"two {section} are called {name!r}, the first one in line {line}")


def _check_volumes(document: Document, spec: Spec) -> None:
    _check_names(document, "volumes", [volume.name for volume in spec.volumes])
    for index, volume in enumerate(spec.volumes):
        if volume.format == "oci" and not volume.image:
            document.complain(("volumes", index, "format"), "a volume of format oci must have an image")


def _check_container(document: Document, place: Location, container: Container) -> None:
    if not container.image.strip():
        document.complain((*place, "image"), f"the container {container.name!r} has no image")
    for key, names in (
        ("capabilities", container.capabilities),
        ("capabilities.add", container.capabilities_add),
        ("ambient", container.ambient),
    ):
        _check_capabilities(document, (*place, key), names or ())
    for key in ("net", "ipc", "uts", "pid", "userns"):
        _check_namespace(document, (*place, key), getattr(container, key))
    _check_annotations(document, place, container)
    mounts = {("mounts",): container.mounts, ("runtime", "mounts"): container.runtime and container.runtime.mounts}
    for inner, several in mounts.items():
        for index, mount in enumerate(several or ()):
            lack = "" if mount.usual_destination and mount.usual_type else "destination" if mount.usual_type else "type"
            if lack:
                document.complain((*place, *inner, index), f"this mount has no {lack!r}")


def _check_capabilities(document: Document, place: Location, names: tuple[str, ...]) -> None:
    for index, name in enumerate(names):
        if name in {"all", "none"} and len(names) > 1:
            document.complain((*place, index), f"{name!r} cannot be combined with others, found {len(names)}")
        elif name not in {"all", "none", *CAPABILITIES}:
            document.complain((*place, index), f"unknown capability {name!r}.{_nearest_capability(name)}")


def _nearest_capability(name: str) -> str:
    upper = "CAP_" + name.upper().removeprefix("CAP_")
    hint = suggest(upper, CAPABILITIES)
    return hint if hint.startswith(" Did") else " capabilities(7) lists them; or use 'all' or 'none'"


def _check_namespace(document: Document, place: Location, value: str | None) -> None:
    words = ("root", "host", "new", *(("none",) if place[-1] == "net" else ()))
    if value and value not in words and not value.startswith("/"):
        document.complain(
            place, f"{str(place[-1])!r} must be one of {', '.join(words)}, or an absolute path, not {value!r}"
        )


def _check_annotations(document: Document, place: Location, container: Container) -> None:
    annotations = container.annotations or {}
    for name in annotations:
        if name.startswith(PREFIX) and name not in ANNOTATIONS:
            hint = suggest(name, ANNOTATIONS)
            document.complain((*place, "annotations", name), f"unknown annotation {name!r}.{hint}")
    if NETWORK in annotations and annotations[NETWORK] not in NETWORKS:
        document.complain((*place, "annotations", NETWORK), f"{NETWORK!r} must be none, guest or outbound")
    if CONSOLE in annotations and not SHOWN.fullmatch(annotations[CONSOLE]):
        document.complain(
            (*place, "annotations", CONSOLE), f"{CONSOLE!r} must be one line of text, with at most 300 characters"
        )
    if RESOURCES in annotations:
        try:
            parse_size(annotations[RESOURCES])
        except InputError as error:
            document.complain((*place, "annotations", RESOURCES), f"{RESOURCES!r}: {error.message}")
    if PID1 in annotations and (annotations[PID1] != "true" or place[0] != "services" or CHECK in annotations):
        fault = f"{PID1!r} must be true, of one service that is not a check"
        document.complain((*place, "annotations", PID1), fault)
    alone = f"a check must be under 'services'. Containers of {place[0]!r} decide without an annotation"
    _check_time(document, place, CHECK, annotations, alone)
    _check_time(document, place, STOP, annotations, f"{STOP!r} must be under 'services'. Others end by themselves")


def _check_time(document: Document, place: Location, name: str, annotations: Mapping[str, str], misplaced: str) -> None:
    """Check an annotation of services that has a time."""
    if name not in annotations:
        return
    where = (*place, "annotations", name)
    if place[0] != "services":
        document.complain(where, misplaced)
    try:
        duration_s(annotations[name])
    except InputError as error:
        document.complain(where, f"the time of {name!r}: {error.message}")


def _check_file(document: Document, place: Location, file: FileEntry) -> None:
    if not file.path.strip("/"):
        document.complain((*place, "path"), "the path is empty")
    if ".." in PurePosixPath(file.path).parts:
        document.complain((*place, "path"), f"the path {file.path!r} contains '..'")
    kinds = _kinds_of(file)
    if len(kinds) != 1:
        fault = f"both {' and '.join(kinds)}" if kinds else "no content"
        document.complain(
            place,
            f"the file {file.path!r} has {fault}. Set one of contents, source, symlink, metadata, directory: true",
        )
    if file.metadata not in {"", "yaml"}:
        document.complain((*place, "metadata"), f"'metadata' must be 'yaml', not {file.metadata!r}")


def _kinds_of(file: FileEntry) -> list[str]:
    fields: dict[str, Any] = {
        "directory": file.directory,
        "symlink": file.symlink,
        "contents": file.contents is not None,
        "source": file.source,
        "metadata": file.metadata,
    }
    return [name for name, value in fields.items() if value]

"""The guest's root: init images, containers with their OCI configurations, files; and what init has to know of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.build.image import image_tree
from bootmatrix.build.oci import merged_settings, runtime_config
from bootmatrix.build.tree import Node, Tree, directory, symlink, text_file
from bootmatrix.errors import BuildError
from bootmatrix.model import Container, ContainerSettings, File, Spec, StoredImage
from bootmatrix.model.durations import duration_s
from bootmatrix.model.spec import CHECK, MODULES, NETWORK, RESULTS
from bootmatrix.store import Store

FIRST_ID = 100
"""Containers that are named in a uid or gid get numbers from here on, as in LinuxKit."""
MAX_RESULTS = 16
SETUP_FOLDER = "etc/bootmatrix/containers"


@dataclass(frozen=True)
class Placed:
    """A container with its image and settings, and the folder of the guest where it is."""

    section: str
    folder: str
    container: Container
    settings: ContainerSettings
    image: StoredImage

    @property
    def path(self) -> str:
        """The bundle, below the root."""
        return f"containers/{self.section}/{self.folder}"

    @property
    def annotation_and_label(self) -> Mapping[str, str]:
        """Labels of the image and annotations of the container, which come first."""
        return {**self.image.config.labels, **(self.settings.annotations or {})}


def place(spec: Spec, images: Mapping[str, StoredImage]) -> tuple[Placed, ...]:
    """All containers of a spec, in the order in which they start."""
    placed = []
    for section in ("onboot", "services", "onshutdown"):
        for number, container in enumerate(getattr(spec, section)):
            image = images[container.image]
            folder = container.name if section == "services" else f"{number:03d}-{container.name}"
            settings = merged_settings(container, image.config)
            placed.append(Placed(section, folder, container, settings, image))
    return tuple(placed)


def check_seconds(placed: tuple[Placed, ...]) -> dict[str, float]:
    """Time limits of checks by name."""
    limits = {
        one.container.name: (one.settings.annotations or {}).get(CHECK) for one in placed if one.section == "services"
    }
    return {name: duration_s(limit) for name, limit in limits.items() if limit is not None}


def needed_modules(placed: Iterable[Placed], init: Iterable[StoredImage]) -> tuple[str, ...]:
    """Kernel modules that containers and init images need."""
    labels = [*(image.config.labels for image in init), *(one.annotation_and_label for one in placed)]
    named = [name for label in labels for name in label.get(MODULES, "").split()]
    overlay = ["overlay"] if any(not one.settings.readonly for one in placed) else []
    return tuple(dict.fromkeys([*named, *overlay]))


def needs_network(placed: Iterable[Placed], init: Iterable[StoredImage]) -> bool:
    """Whether a container or an init image asks for a network card."""
    labels = [*(image.config.labels for image in init), *(one.annotation_and_label for one in placed)]
    return any(NETWORK in label for label in labels)


def guest_tree(spec: Spec, images: Mapping[str, StoredImage], placed: tuple[Placed, ...], store: Store) -> Tree:
    """The guest's root, without what depends on the kernel.

    Raises:
        BuildError: an image, a setting or a file that the guest cannot have.
    """
    tree = Tree()
    for path in ("dev", "proc", "sys", "run", "var", "etc"):
        tree.put(path, directory())
    tree.put("tmp", directory(0o1777))
    tree.put("dev/console", Node("char", 0o600, device=(5, 1)))
    for reference in spec.init:
        tree.graft(image_tree(images[reference], store), "")
    if tree.get("init") is None:
        raise BuildError(f"{spec.path}: none of the images under 'init' has a file /init", "Add the image 'init'.")
    ids = {one.container.name: number for number, one in enumerate(_id_order(placed), start=FIRST_ID)}
    roots = {one.image.digest: _container_root(one.image, store) for one in placed}
    for one in placed:
        _add_container(one, roots[one.image.digest], ids, tree)
    checks = check_seconds(placed)
    limits = "".join(f"{name} {max(1, round(limit))}\n" for name, limit in checks.items())
    tree.put("etc/bootmatrix/checks", text_file(limits))
    for file in spec.files:
        _add_file(file, spec, ids, tree)
    return tree


def _id_order(placed: tuple[Placed, ...]) -> list[Placed]:
    order = {"onboot": 0, "onshutdown": 1, "services": 2}
    return sorted(placed, key=lambda one: order[one.section])


def _add_container(one: Placed, image_root: Tree, ids: Mapping[str, int], tree: Tree) -> None:
    config = runtime_config(one.container, one.settings, one.image.config, ids)
    tree.put(f"{one.path}/config.json", text_file(json.dumps(config, indent=1)))
    tree.put(f"{one.path}/runtime.json", text_file(json.dumps(_runtime(one), indent=1)))
    tree.put(f"{SETUP_FOLDER}/{one.section}/{one.folder}", text_file(_setup(one)))
    writable = not one.settings.readonly
    root = "lower" if writable else "rootfs"
    tree.graft(image_root, f"{one.path}/{root}")
    if writable:
        tree.put(f"{one.path}/tmp", directory())  # noqa: S108
        tree.put(f"{one.path}/rootfs", directory())


def _container_root(image: StoredImage, store: Store) -> Tree:
    """An image's files as a container sees them, with mount points. Containers of one image are hard links to it."""
    tree = image_tree(image, store)
    for path in (".dockerenv", "dev/console", "etc/hostname"):
        tree.remove(path)
    for path in ("dev", "dev/pts", "proc", "sys", "etc"):
        tree.put(path, directory())
    tree.put("etc/mtab", symlink("/proc/mounts"))
    if tree.get("etc/hosts") is None:
        tree.put("etc/hosts", text_file("127.0.0.1 localhost\n::1 localhost\n"))
    tree.put("etc/resolv.conf", text_file(""))
    return tree


def _runtime(one: Placed) -> dict[str, object]:
    runtime = one.settings.runtime
    return runtime.model_dump(by_alias=True, exclude_none=True, mode="json") if runtime else {}


def _setup(one: Placed) -> str:
    """What init does around a container, one step a line: `mkdir PATH`, `writable`, `result PATH`.

    Raises:
        BuildError: a step that init does not know.
    """
    runtime = one.settings.runtime
    if runtime and (runtime.interfaces or runtime.bind_ns or runtime.cgroups or runtime.mounts or runtime.namespace):
        raise BuildError(f"container {one.container.name}: of runtime's keys only mkdir is supported")
    steps = [f"mkdir {path}" for path in (runtime.mkdir if runtime else None) or ()]
    if any(set(step) & set("\n\0") for step in steps):
        raise BuildError(f"container {one.container.name}: a folder's name has a line end")
    results = [f"result {path}" for path in result_paths(one)]
    return "".join(step + "\n" for step in [*steps, *([] if one.settings.readonly else ["writable"]), *results])


def result_paths(one: Placed) -> tuple[str, ...]:
    """Files that the container leaves for the host.

    Raises:
        BuildError: a path is not absolute, or they are too many.
    """
    paths = tuple(dict.fromkeys((one.settings.annotations or {}).get(RESULTS, "").split()))
    if len(paths) > MAX_RESULTS:
        raise BuildError(f"container {one.container.name}: {len(paths)} results, and {MAX_RESULTS} at most can be sent")
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/") or path.endswith("/"):
            raise BuildError(f"container {one.container.name}: the result {path!r} is not the absolute path of a file")
    return paths


def results(placed: tuple[Placed, ...]) -> dict[str, tuple[str, ...]]:
    """Files that containers leave for the host, by container."""
    return {one.container.name: paths for one in placed if (paths := result_paths(one))}


def _add_file(file: File, spec: Spec, ids: Mapping[str, int], tree: Tree) -> None:
    uid, gid = _owner(file.uid, ids), _owner(file.gid, ids)
    mode = int(file.mode, 8) if file.mode else (0o700 if file.directory else 0o600)
    if file.directory:
        tree.put(file.path, Node("dir", mode, uid, gid))
    elif file.symlink:
        tree.put(file.path, Node("symlink", 0o777, uid, gid, file.symlink))
    else:
        data = _file_data(file, spec)
        if data is not None:
            tree.put(file.path, Node("file", mode, uid, gid, data=data))


def _owner(value: int | str | None, ids: Mapping[str, int]) -> int:
    if value is None or isinstance(value, int):
        return value or 0
    if value in ids:
        return ids[value]
    raise BuildError(f"{value!r} is neither a number nor the name of a container of the spec")


def _file_data(file: File, spec: Spec) -> bytes | None:
    if file.contents is not None:
        return file.contents.encode()
    if not file.source:
        raise BuildError(f"{spec.path}: the file {file.path} has no content", "Give it contents, source or symlink.")
    source = Path(spec.path).parent / file.source
    try:
        if source.is_file():
            return source.read_bytes()
    except OSError as error:
        raise BuildError(f"{spec.path}: the source {file.source!r} cannot be read: {error.strerror}") from error
    if file.optional:
        return None
    raise BuildError(f"{spec.path}: there is no file {source}", f"It is the source of {file.path}.")

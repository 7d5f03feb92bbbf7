"""Several specs as one, as `linuxkit build` merges those that are named together: `a.yml+b.yml`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.recipe import PACKAGE
from bootmatrix.load.spec import load_one, spec_files, spec_name
from bootmatrix.model import Container, FileEntry, Spec, Volume
from bootmatrix.model.spec import KernelSection
from bootmatrix.source.image_sources import find_type


def load_spec(path: Path) -> Spec:
    """Read a spec, or several that are one: a later file's kernel settings replace, and all its lists add.

    What the files name beside themselves is found from each one's own folder.

    Raises:
        InputError: one cannot be read, or is faulty; or they do not go together.
    """
    files = spec_files(path)
    if len(files) == 1:
        return load_one(path)[0]
    specs = [load_one(file)[0] for file in files]
    for spec in specs:
        if spec.own:
            raise InputError(f"{spec.path}: a guest that is brought along cannot be merged with a spec")
    placed = [_placed(spec, files[0].parent) for spec in specs]
    merged = Spec(
        name=spec_name(path),
        path=str(files[0]),
        kernel=_kernel(spec.kernel for spec in placed),
        init=tuple(image for spec in placed for image in spec.init),
        onboot=tuple(one for spec in placed for one in spec.onboot),
        onshutdown=tuple(one for spec in placed for one in spec.onshutdown),
        services=tuple(one for spec in placed for one in spec.services),
        files=tuple(one for spec in placed for one in spec.files),
        volumes=tuple(one for spec in placed for one in spec.volumes),
        notes=tuple(note for spec in placed for note in spec.notes),
        asked_by={name: spec.path for spec in reversed(placed) for name in _asked(spec)},
    )
    _check_unique(merged, path)
    return merged


def _asked(spec: Spec) -> Iterator[str]:
    """Names of the images and the sources that a spec asks for."""
    yield from (spec.kernel.image, *spec.init)
    yield from (container.image for container in spec.containers)
    yield from (volume.image for volume in spec.volumes)
    yield from (file.source for file in spec.files)


def _kernel(sections: Iterable[KernelSection]) -> KernelSection:
    """The last one that says a thing is right about it."""
    said: dict[str, object] = {}
    for section in sections:
        said |= {key: value for key, value in section.model_dump().items() if value not in {"", None}}
    return KernelSection.model_validate(said)


def _check_unique(spec: Spec, path: Path) -> None:
    for what, things in (("services", spec.services), ("volumes", spec.volumes)):
        names = [thing.name for thing in things]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{path}: two {what} are called {twice!r}, in different files")


def _placed(spec: Spec, folder: Path) -> Spec:
    """A spec whose paths are from another folder than its own."""
    own = Path(spec.path).parent
    if own == folder:
        return spec
    way = os.path.relpath(own, folder)

    def image(name: str) -> str:
        kind = find_type(name)
        prefix = PACKAGE if name.startswith(PACKAGE) else kind.PREFIX if kind and kind.IS_PATH else ""
        rest = name.removeprefix(prefix)
        return f"{prefix}{os.path.normpath(f'{way}/{rest}')}" if prefix and not rest.startswith("/") else name

    def container(one: Container) -> Container:
        return one.model_copy(update={"image": image(one.image)})

    def file(one: FileEntry) -> FileEntry:
        local = one.source and not Path(one.source).expanduser().is_absolute()
        return one.model_copy(update={"source": f"{way}/{one.source}"}) if local else one

    def volume(one: Volume) -> Volume:
        return one.model_copy(update={"image": image(one.image)})

    return spec.model_copy(
        update={
            "kernel": spec.kernel.model_copy(update={"image": image(spec.kernel.image)}),
            "init": tuple(map(image, spec.init)),
            "onboot": tuple(map(container, spec.onboot)),
            "onshutdown": tuple(map(container, spec.onshutdown)),
            "services": tuple(map(container, spec.services)),
            "files": tuple(map(file, spec.files)),
            "volumes": tuple(map(volume, spec.volumes)),
        }
    )

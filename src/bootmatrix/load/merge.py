"""Merging of specs as `linuxkit build` does: `a.yml+b.yml`."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from bootmatrix.errors import InputError
from bootmatrix.load.recipe import PACKAGE
from bootmatrix.load.spec import load_one, spec_files, spec_name
from bootmatrix.model import Container, FileEntry, Spec, Volume
from bootmatrix.model.spec import KernelSection
from bootmatrix.source.image_sources import find_type

WithImage = TypeVar("WithImage", Container, Volume)


def load_spec(path: Path) -> Spec:
    """Load a spec, or merge several: lists grow, kernel settings replace.

    Relative names are resolved from the folder of each file.

    Raises InputError if a file cannot be read or is invalid, or the files cannot be merged.
    """
    files = spec_files(path)
    if len(files) == 1:
        return load_one(path)[0]
    specs = [load_one(file)[0] for file in files]
    for spec in specs:
        if spec.own:
            raise InputError(f"{spec.path}: a prebuilt guest cannot be merged with a spec")
    placed = [_placed(spec, files[0].parent) for spec in specs]
    merged = Spec(
        name=spec_name(path),
        path=str(files[0]),
        kernel=_kernel(spec.kernel for spec in placed),
        init=tuple(image for spec in placed for image in spec.init),
        onboot=tuple(container for spec in placed for container in spec.onboot),
        onshutdown=tuple(container for spec in placed for container in spec.onshutdown),
        services=tuple(container for spec in placed for container in spec.services),
        files=tuple(file for spec in placed for file in spec.files),
        volumes=tuple(volume for spec in placed for volume in spec.volumes),
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
    """The last value of each setting counts."""
    values: dict[str, object] = {}
    for section in sections:
        values |= {key: value for key, value in section.model_dump().items() if value not in {"", None}}
    return KernelSection.model_validate(values)


def _check_unique(spec: Spec, path: Path) -> None:
    for section, entries in (("services", spec.services), ("volumes", spec.volumes)):
        names = [entry.name for entry in entries]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{path}: two {section} are called {twice!r}, in different files")


def _placed(spec: Spec, folder: Path) -> Spec:
    """Rewrite a spec's relative paths for another folder."""
    own = Path(spec.path).parent
    if own == folder:
        return spec
    way = os.path.relpath(own, folder)

    def image(name: str) -> str:
        kind = find_type(name)
        prefix = PACKAGE if name.startswith(PACKAGE) else kind.PREFIX if kind and kind.IS_PATH else ""
        rest = name.removeprefix(prefix)
        return f"{prefix}{os.path.normpath(f'{way}/{rest}')}" if prefix and not rest.startswith("/") else name

    def with_image(entry: WithImage) -> WithImage:
        return entry.model_copy(update={"image": image(entry.image)})

    def file(entry: FileEntry) -> FileEntry:
        local = entry.source and not Path(entry.source).expanduser().is_absolute()
        return entry.model_copy(update={"source": f"{way}/{entry.source}"}) if local else entry

    return spec.model_copy(
        update={
            "kernel": spec.kernel.model_copy(update={"image": image(spec.kernel.image)}),
            "init": tuple(map(image, spec.init)),
            "onboot": tuple(map(with_image, spec.onboot)),
            "onshutdown": tuple(map(with_image, spec.onshutdown)),
            "services": tuple(map(with_image, spec.services)),
            "files": tuple(map(file, spec.files)),
            "volumes": tuple(map(with_image, spec.volumes)),
        }
    )

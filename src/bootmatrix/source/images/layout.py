"""Images in files: an OCI layout (opencontainers/image-spec, image-layout.md) as a folder or a tar archive, and what
`docker save` writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootmatrix.errors import BuildError, InputError
from bootmatrix.source.images.blobs import (
    JSON_LIMIT_BYTES,
    MAX_LAYERS,
    Descriptor,
    Place,
    descriptor,
    parsed,
    read_bytes,
)
from bootmatrix.source.images.reference import parse_reference
from bootmatrix.source.safe_archive import FAULTS, PaxArchive

REF_NAME = "org.opencontainers.image.ref.name"
INDEX, DOCKER = "index.json", "manifest.json"


@dataclass
class Layout:
    """An image's files, which are left where they are. Nothing of a tar archive is written anywhere."""

    path: Path
    parts: dict[str, Place]
    _made: dict[str, Place] = field(default_factory=dict)

    def fetch(self, parts: Sequence[Descriptor]) -> list[Place]:
        """Where these parts are.

        Raises:
            BuildError: one is not there.
        """
        return [self._place(part.sha256) for part in parts]

    def document(self, name: str) -> bytes:
        """The index or the manifest of the image of this name; of the only one, if the name is empty.

        Raises:
            BuildError: there is none of this name, or there are several.
        """
        if INDEX in self.parts:
            return self._index(name)
        return self._of_docker(name)

    def _json(self, name: str) -> bytes:
        place = self.parts.get(name)
        if place is None:
            raise BuildError(f"{self.path} has no {name}, and is no image")
        if place.size_bytes > JSON_LIMIT_BYTES:
            raise BuildError(f"{self.path}: {name} has {place.size_bytes} bytes; {JSON_LIMIT_BYTES} at most are read")
        return place.read()

    def _place(self, sha256: str) -> Place:
        place = self._made.get(sha256) or self.parts.get(f"blobs/sha256/{sha256}")
        if place is None:
            raise BuildError(f"{self.path} lacks its part sha256:{sha256}")
        return place

    def _index(self, name: str) -> bytes:
        data = self._json(INDEX)
        entries = parsed(data, f"{self.path}: {INDEX}").get("manifests")
        entries = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
        names = sorted({tag for one in entries if (tag := _tag(one))})
        if name:
            chosen = [one for one in entries if _is_named(_tag(one), name)]
        else:
            chosen = entries if len(names) < 2 or all(one.get("platform") for one in entries) else []
        if not entries:
            raise BuildError(f"{self.path}: its {INDEX} names no image")
        if not chosen:
            raise _no_such(self.path, name, names)
        if len(chosen) == 1:
            return read_bytes(descriptor(chosen[0], f"the image in {self.path}"), self, f"the image in {self.path}")
        return json.dumps({"manifests": chosen}).encode()

    def _of_docker(self, name: str) -> bytes:
        """A manifest such as a registry would have for what `docker save` writes."""
        try:
            images = json.loads(self._json(DOCKER))
            tags = [[str(tag) for tag in image.get("RepoTags") or ()] for image in images]
            chosen = [one for one, own in zip(images, tags, strict=True) if not name or _is_any(own, name)]
            if len(chosen) != 1:
                raise _no_such(self.path, name, sorted(tag for own in tags for tag in own))
            config, layers = str(chosen[0]["Config"]), [str(layer) for layer in chosen[0]["Layers"]]
            if len(layers) > MAX_LAYERS:
                raise BuildError(f"{self.path} has an image of more than {MAX_LAYERS} layers")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BuildError(f"{self.path}: its {DOCKER} is not what `docker save` writes: {error}") from error
        described = {"config": self._described(config), "layers": [self._described(layer) for layer in layers]}
        return json.dumps({"schemaVersion": 2, **described}).encode()

    def _described(self, name: str) -> dict[str, Any]:
        """The descriptor of a file that has none."""
        place = self.parts.get(name)
        if place is None:
            raise BuildError(f"{self.path} lacks its part {name[:200]!r}")
        digest = place.sha256()
        self._made[digest] = place
        return {"digest": f"sha256:{digest}", "size": place.size_bytes}


def open_layout(path: Path) -> Layout:
    """The files of an image.

    Raises:
        BuildError: it is damaged, or no image.
        InputError: it is not there, or cannot be read.
    """
    with _faults(path):
        if path.is_dir():
            return Layout(path, {file.relative_to(path).as_posix(): _whole(file) for file in files_of(path)})
        with PaxArchive.open(path, mode="r:") as archive:
            links = []
            parts = {}
            for one in archive:
                name = one.name.removeprefix("./")
                if one.isreg() and not one.issparse():
                    parts[name] = Place(path, one.offset_data, one.size)
                elif one.issym() or one.islnk():
                    links.append((name, one.linkname))
        # `docker save` of old engines makes a layer that occurs twice a link to the first one.
        parts |= {name: parts[end] for name, end in ((n, _target(n, t)) for n, t in links) if end in parts}
        return Layout(path, parts)


def files_of(folder: Path) -> list[Path]:
    """The files of an OCI layout; links are not followed."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def digest_of_layout(path: Path) -> str:
    """What differs when another image is there: an index's digest, as all else hangs on it, or a tar archive's.

    Raises:
        InputError: it cannot be read.
    """
    with _faults(path), (path / INDEX if path.is_dir() else path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _whole(file: Path) -> Place:
    return Place(file, 0, file.stat().st_size)


def _target(name: str, target: str) -> str:
    done: list[str] = name.split("/")[:-1] if target.startswith(".") else []
    for part in target.split("/"):
        done = done[:-1] if part == ".." else [*done, part] if part != "." else done
    return "/".join(done)


def _tag(entry: dict[str, Any]) -> str:
    annotations = entry.get("annotations")
    return str(annotations.get(REF_NAME) or "") if isinstance(annotations, dict) else ""


def _is_named(tag: str, name: str) -> bool:
    """Whether a name in a layout is the one that is asked for: the same text, its tag, or the same image."""
    return _whole_name(tag) == _whole_name(name)


def _is_any(tags: list[str], name: str) -> bool:
    return any(_is_named(tag, name) for tag in tags)


def _whole_name(name: str) -> str:
    try:
        return str(parse_reference(name))
    except InputError:
        return name


def _no_such(path: Path, name: str, names: list[str]) -> BuildError:
    there = ", ".join(names)[:500] or "none that has a name"
    if name:
        return BuildError(f"{path} has no image {name!r}; it has {there}")
    return BuildError(f"{path} has several images: {there}", "Say which one, with its name behind a colon.")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
        raise BuildError(f"{path} is no image, or a damaged one: {error}") from error

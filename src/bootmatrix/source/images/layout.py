"""Images in files: an OCI layout (opencontainers/image-spec, image-layout.md) as a folder or a tar archive, and what
`docker save` writes. An archive may be compressed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from bootmatrix.errors import BuildError, InputError
from bootmatrix.source.images.artifacts import annotations_of, is_artifact, is_artifact_entry
from bootmatrix.source.images.blobs import (
    CHUNK_BYTES,
    JSON_LIMIT_BYTES,
    MAX_LAYERS,
    BlobLocation,
    Descriptor,
    Digested,
    descriptor,
    load_json,
    parsed,
    read_bytes,
)
from bootmatrix.source.images.platforms import name_of
from bootmatrix.source.images.reference import parse_reference
from bootmatrix.source.safe_archive import (
    FAULTS,
    MAGIC_BYTES,
    Bounded,
    DamagedArchive,
    FileSlice,
    PaxArchive,
    suffix_of,
)
from bootmatrix.store import Store

REF_NAME = "org.opencontainers.image.ref.name"
"""Annotation with an image's name, or only its tag."""
CONTAINERD_NAME = "io.containerd.image.name"
"""Annotation with an image's whole name, by containerd and by Docker's engine from version 25 on."""
INDEX, DOCKER = "index.json", "manifest.json"
MAX_IMAGES = 4096
"""Images in one layout."""

Json = dict[str, Any]


@dataclass(frozen=True)
class _Saved:
    """An image of manifest.json: paths in the archive, and its names."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass
class Layout:
    """An image's files, which are left where they are. `path` is what messages call it."""

    path: Path
    parts: dict[str, BlobLocation]
    _made: dict[str, BlobLocation] = field(default_factory=dict)

    def fetch(self, parts: Sequence[Descriptor]) -> list[BlobLocation]:
        """Where these parts are.

        Raises:
            BuildError: one is not there.
        """
        return [self._place(part.sha256) for part in parts]

    def document(self, name: str) -> bytes:
        """The index or the manifest of the image of this name; of the only one, if the name is empty.

        All else of the image follows from it by digests.

        Raises:
            BuildError: there is none of this name, or there are several; or the archive contradicts itself.
        """
        if INDEX not in self.parts:
            return self._synthesized(_select_saved(self.path, self._saved(), name))
        entries = self._select(self._images(), name)
        if len(entries) > 1:
            return json.dumps({"manifests": entries}).encode()
        what = f"the image in {self.path}"
        data = read_bytes(descriptor(entries[0], what), self, what)
        return self._reconciled(data, name) if DOCKER in self.parts else data

    def _json(self, name: str) -> bytes:
        place = self.parts.get(name)
        if place is None:
            raise BuildError(f"{self.path} has no {name}, and is no image")
        if place.size_bytes > JSON_LIMIT_BYTES:
            raise BuildError(f"{self.path}: {name} has {place.size_bytes} bytes; {JSON_LIMIT_BYTES} at most are read")
        return place.read()

    def _place(self, sha256: str) -> BlobLocation:
        place = self._made.get(sha256) or self.parts.get(f"blobs/sha256/{sha256}")
        if place is None:
            raise BuildError(f"{self.path} lacks its part sha256:{sha256}")
        return place

    def _images(self) -> list[Json]:
        """The entries of index.json, without signatures and attestations."""
        entries = parsed(self._json(INDEX), f"{self.path}: {INDEX}").get("manifests")
        entries = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
        if not entries:
            raise BuildError(f"{self.path}: its {INDEX} names no image")
        if len(entries) > MAX_IMAGES:
            raise BuildError(f"{self.path}: its {INDEX} has {len(entries)} entries; {MAX_IMAGES} at most are read")
        if len(entries) == 1:  # whatever it is, it is what is meant, and its manifest shows why it will not do
            return entries
        images = [one for one in entries if not is_artifact_entry(one, _names(one)) and not self._is_artifact(one)]
        if not images:
            raise BuildError(f"{self.path} has no image, only signatures, attestations or other artifacts")
        return images

    def _is_artifact(self, entry: Json) -> bool:
        """Return whether an entry that names no platform is no image, which only its manifest shows."""
        if name_of(entry.get("platform")):
            return False
        with suppress(BuildError):  # what is damaged is told when it is chosen
            part = descriptor(entry, f"an entry of {self.path}")
            return is_artifact(parsed(read_bytes(part, self, f"an entry of {self.path}"), f"an entry of {self.path}"))
        return False

    def _select(self, images: list[Json], name: str) -> list[Json]:
        """The entries of one image: one, or one for each platform.

        Raises:
            BuildError: there is none of this name, or there are several images.
        """
        chosen = [one for one in images if _is_any(_names(one)[:1], name)] if name else images
        # A tag alone, or a name that stands beside the whole one.
        chosen = chosen or [one for one in images if _is_any(_names(one), name)]
        chosen = chosen or self._by_saved_tag(images, name)
        names = sorted({whole for one in images for whole in _names(one)[:1]})
        if not chosen:
            raise _no_such(self.path, name, names)
        distinct = {json.dumps([one.get("digest"), name_of(one.get("platform"))]): one for one in chosen}
        platforms = {name_of(one.get("platform")) for one in distinct.values()}
        owners = {tuple(_names(one)[:1]) for one in distinct.values()}
        if len(owners) > 1 or (len(distinct) > 1 and (len(platforms) < len(distinct) or "" in platforms)):
            raise _no_such(self.path, "", names, "" if not name else f" that fit {name!r}")
        return list(distinct.values())

    def _by_saved_tag(self, images: list[Json], name: str) -> list[Json]:
        """Entries of the image that manifest.json has under a name which index.json does not say."""
        if DOCKER not in self.parts:
            return []
        wanted = {self._digest_of(one.config) for one in self._saved() if _is_any(one.tags, name)}
        return [one for one in images if wanted & self._configs(one)]

    def _configs(self, entry: Json, depth: int = 0) -> set[str]:
        """Digests of the configurations of all images that an entry leads to, as far as they are there."""
        with suppress(BuildError):
            what = f"an entry of {self.path}"
            return self._configs_of(parsed(read_bytes(descriptor(entry, what), self, what), what), depth)
        return set()

    def _configs_of(self, document: Json, depth: int = 0) -> set[str]:
        config, entries = document.get("config"), document.get("manifests")
        found = {str(config.get("digest")).removeprefix("sha256:")} if isinstance(config, dict) else set()
        if isinstance(entries, list) and depth < 2:
            for one in entries[:MAX_IMAGES]:
                found |= self._configs(one, depth + 1) if isinstance(one, dict) else set()
        return found

    def _reconciled(self, data: bytes, name: str) -> bytes:
        """The manifest, held against manifest.json, by which older engines load the same archive.

        Raises:
            BuildError: they are of different images.
        """
        found, saved = parsed(data, f"the manifest of {self.path}"), self._saved()
        named = [one for one in saved if _is_any(one.tags, name)] if name else saved
        if len(named) != 1:
            return data
        image = named[0]
        config = self._digest_of(image.config)
        if config not in self._configs_of(found):
            raise BuildError(f"{self.path}: its {INDEX} and its {DOCKER} are of different images")
        if "manifests" in found or not image.layers:
            return data
        if not found.get("layers"):  # Docker's engine 25.0.0 wrote manifests without layers (moby/moby#47150)
            return self._synthesized(image)
        listed = [str(one.get("digest")) for one in found["layers"] if isinstance(one, dict)]
        if [f"sha256:{self._digest_of(one)}" for one in image.layers] != listed:
            raise BuildError(f"{self.path}: its {INDEX} and its {DOCKER} have different layers")
        return data

    def _digest_of(self, name: str) -> str:
        """The digest of a file of the archive: as it is called, since whoever reads it checks that, or its own."""
        folder, _, last = name.rpartition("/")
        return last if folder == "blobs/sha256" else str(self._described(name)["digest"]).removeprefix("sha256:")

    def _saved(self) -> list[_Saved]:
        """The images of manifest.json."""
        try:
            images = [_saved_image(one) for one in load_json(self._json(DOCKER))]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BuildError(f"{self.path}: its {DOCKER} is not what `docker save` writes: {error}") from error
        if any(len(one.layers) > MAX_LAYERS for one in images):
            raise BuildError(f"{self.path} has an image of more than {MAX_LAYERS} layers")
        return images

    def _synthesized(self, image: _Saved) -> bytes:
        """A manifest such as a registry would have for what `docker save` writes."""
        described = {"config": self._described(image.config), "layers": [self._described(one) for one in image.layers]}
        return json.dumps({"schemaVersion": 2, **described}).encode()

    def _described(self, name: str) -> Json:
        """The descriptor of a file that has none."""
        place = self.parts.get(name)
        if place is None:
            raise BuildError(f"{self.path} lacks its part {name[:200]!r}")
        digest = place.sha256()
        self._made[digest] = place
        return {"digest": f"sha256:{digest}", "size": place.size_bytes}


def open_layout(path: Path, shown: Path | None = None) -> Layout:
    """The files of an image. `shown` is what messages call it, if not by its path.

    Raises:
        BuildError: it is damaged, or no image.
        InputError: it is not there, or cannot be read.
    """
    with _faults(shown or path):
        if path.is_dir():
            return Layout(path, {file.relative_to(path).as_posix(): _whole(file) for file in files_of(path)})
        with PaxArchive.open(path, mode="r:") as archive:
            links = []
            parts = {}
            for one in archive:
                name = one.name.removeprefix("./")
                if (one.isreg() and not one.issparse()) or one.issym() or one.islnk():
                    if name in parts:
                        raise DamagedArchive(f"it has two files {name[:200]!r}")
                    if one.isreg():
                        parts[name] = BlobLocation(path, one.offset_data, one.size)
                    else:
                        links.append((name, one.linkname))
        # `docker save` of old engines makes a layer that occurs twice a link to the first one.
        parts |= {name: parts[end] for name, end in ((n, _target(n, t)) for n, t in links) if end in parts}
        return Layout(shown or path, parts)


def plain_archive(path: Path, store: Store) -> Path:
    """An archive that can be read at any place: itself, or, if it is compressed, what it unpacks to, in the store.

    Raises:
        BuildError: it is damaged, or a bomb.
        InputError: it cannot be read.
    """
    with _faults(path):
        if path.is_dir():
            return path
        with path.open("rb") as file:
            suffix = suffix_of(file.read(MAGIC_BYTES))
        if not suffix:
            return path
        known = store.memo("archive", digest_of_layout(path))
        if known is None or not store.has(known.decode()):
            known = _unpack(path, suffix, store)
    return store.verified(known.decode())


def _unpack(path: Path, suffix: str, store: Store) -> bytes:
    """Unpack an archive into the store. Its digest is of the bytes that were unpacked, in the same reading."""
    with path.open("rb") as file, store.writer() as writer:
        digested = Digested(file)
        part = FileSlice(cast(BinaryIO, digested), 0, path.stat().st_size)
        plain = Bounded(part, suffix)
        while data := plain.read(CHUNK_BYTES):
            writer.write(data)
        while part.read(CHUNK_BYTES):
            pass
        known = writer.commit().encode()
    store.set_memo("archive", digested.sha256.hexdigest(), known)
    return known


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


def _whole(file: Path) -> BlobLocation:
    return BlobLocation(file, 0, file.stat().st_size)


def _target(name: str, target: str) -> str:
    done: list[str] = name.split("/")[:-1] if target.startswith(".") else []
    for part in target.split("/"):
        done = done[:-1] if part == ".." else [*done, part] if part != "." else done
    return "/".join(done)


def _saved_image(value: Any) -> _Saved:
    config, layers, tags = value["Config"], value.get("Layers") or (), value.get("RepoTags") or ()
    if not isinstance(config, str) or isinstance(layers, str) or isinstance(tags, str):
        raise TypeError("a name is missing")
    return _Saved(config, tuple(map(str, layers)), tuple(map(str, tags)))


def _select_saved(path: Path, images: list[_Saved], name: str) -> _Saved:
    """The image of this name in manifest.json; the only one, if the name is empty."""
    chosen = [one for one in images if not name or _is_any(one.tags, name)]
    if len({(one.config, one.layers) for one in chosen}) != 1:
        raise _no_such(path, name, sorted(tag for one in images for tag in one.tags))
    return chosen[0]


def _names(entry: Json) -> list[str]:
    """The names of an entry, the whole one first."""
    notes = annotations_of(entry)
    return list(dict.fromkeys(name for key in (CONTAINERD_NAME, REF_NAME) if (name := notes.get(key))))


def _is_any(names: Sequence[str], wanted: str) -> bool:
    """Return whether one of the names is the wanted one: the same text, its tag, or the same image."""
    return _whole_name(wanted) in map(_whole_name, names)


def _whole_name(name: str) -> str:
    try:
        return str(parse_reference(name))
    except InputError:
        return name


def _no_such(path: Path, name: str, names: list[str], which: str = "") -> BuildError:
    there = ", ".join(names)[:500] or "none that has a name"
    if name:
        return BuildError(f"{path} has no image {name!r}; it has {there}")
    return BuildError(f"{path} has several images{which}: {there}", "Say which one, with its name behind a colon.")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
        raise BuildError(f"{path} is no image, or a damaged one: {error}") from error

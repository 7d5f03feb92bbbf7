"""Images in files: OCI layouts, as folders or tar archives, and `docker save`.

The format is image-layout.md of opencontainers/image-spec. An archive may be compressed.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from bootmatrix.errors import BuildError, InputError
from bootmatrix.source.compressed import MAGIC_BYTES, DamagedArchive, suffix_of
from bootmatrix.source.images.artifacts import annotations_of, is_artifact, is_artifact_entry
from bootmatrix.source.images.blobs import (
    CHUNK_BYTES,
    JSON_LIMIT_BYTES,
    MAX_LAYERS,
    BlobLocation,
    Descriptor,
    Digested,
    check_spelling,
    descriptor,
    load_json,
    parsed,
    read_bytes,
)
from bootmatrix.source.images.platforms import name_of
from bootmatrix.source.images.reference import parse_reference
from bootmatrix.source.safe_archive import FAULTS, Bounded, FileSlice, PaxArchive
from bootmatrix.store import Store

REF_NAME = "org.opencontainers.image.ref.name"
"""Annotation of an image's name or tag."""
CONTAINERD_NAME = "io.containerd.image.name"
"""Annotation of an image's full name, by containerd and Docker's engine from version 25 on."""
INDEX, DOCKER = "index.json", "manifest.json"
_SAVED_KEYS = {key.casefold(): key for key in ("Config", "Layers", "RepoTags")}
"""Keys of manifest.json that are read."""
NO_IMAGE_HINT = (
    "Such as `docker save`, `podman save`, or skopeo's oci:, oci-archive: and docker-archive: write one. "
    "What `docker export` writes is not an image."
)
MAX_IMAGES = 4096
"""Limit of images in a layout."""
MAX_NAMES = 20
"""Names that a message lists."""

Json = dict[str, Any]


@dataclass(frozen=True)
class _Saved:
    """An image of manifest.json: paths in the archive, and its names."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass
class Layout:
    """The files of images, not copied. `path` names the layout in messages."""

    path: Path
    parts: dict[str, BlobLocation]
    _made: dict[str, BlobLocation] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)
    _below: dict[tuple[str, str, int], set[str]] = field(default_factory=dict)

    def fetch(self, parts: Sequence[Descriptor]) -> list[BlobLocation]:
        """Return the locations of blobs. Raises BuildError if one is missing."""
        return [self._locate(part.sha256) for part in parts]

    def document(self, name: str) -> bytes:
        """Return the index or manifest of the image of this name.

        An empty name means the only image. The document determines the rest by digests.

        Raises BuildError if the name is missing or ambiguous, or the archive contradicts itself.
        """
        if INDEX not in self.parts:
            return self._synthesized(_select_saved(self.path, self._saved(), name))
        entries = self._select(self._images(), name)
        if len(entries) > 1:
            data = json.dumps({"manifests": entries}).encode()
        else:
            label = f"the image in {self.path}"
            data = read_bytes(descriptor(entries[0], label), self, label)
        return self._reconciled(data, name) if DOCKER in self.parts else data

    def _json(self, name: str) -> bytes:
        location = self.parts.get(name)
        if location is None:
            raise BuildError(f"{self.path} is not an image: no {name}", NO_IMAGE_HINT)
        if location.size_bytes > JSON_LIMIT_BYTES:
            raise BuildError(f"{self.path}: {name} has {location.size_bytes} bytes, the limit is {JSON_LIMIT_BYTES}")
        return location.read()

    def _locate(self, sha256: str) -> BlobLocation:
        location = self._made.get(sha256) or self.parts.get(f"blobs/sha256/{sha256}")
        if location is None:
            raise BuildError(f"{self.path} lacks the blob sha256:{sha256}")
        return location

    def _images(self) -> list[Json]:
        """Return the entries of index.json, without signatures and attestations."""
        entries = parsed(self._json(INDEX), f"{self.path}: {INDEX}").get("manifests")
        entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        if not entries:
            raise BuildError(f"{self.path}: its {INDEX} lists no image")
        if len(entries) > MAX_IMAGES:
            raise BuildError(f"{self.path}: its {INDEX} has {len(entries)} entries, the limit is {MAX_IMAGES}")
        if len(entries) == 1:  # unambiguous; its manifest is checked later
            return entries
        images = [
            entry for entry in entries if not is_artifact_entry(entry, _names(entry)) and not self._is_artifact(entry)
        ]
        if not images:
            raise BuildError(f"{self.path} has no image, only signatures, attestations or other artifacts")
        return images

    def _is_artifact(self, entry: Json) -> bool:
        """Return whether the manifest of an entry without a platform is an artifact."""
        if name_of(entry.get("platform")):
            return False
        with suppress(BuildError):  # damage is reported when the entry is chosen
            part = descriptor(entry, f"an entry of {self.path}")
            return is_artifact(parsed(read_bytes(part, self, f"an entry of {self.path}"), f"an entry of {self.path}"))
        return False

    def _select(self, images: list[Json], name: str) -> list[Json]:
        """Select the entries of one image: one, or one per platform.

        Raises BuildError if the name is missing, or several images match.
        """
        chosen = [entry for entry in images if _is_any(_names(entry)[:1], name)] if name else images
        # A tag, or a second name.
        chosen = chosen or [entry for entry in images if _is_any(_names(entry), name)]
        chosen = chosen or self._by_saved_tag(images, name)
        names = [next(iter(_names(entry)), "") for entry in images]
        if not chosen:
            raise _ambiguous_or_missing(self.path, name, names)
        distinct = {json.dumps([entry.get("digest"), name_of(entry.get("platform"))]): entry for entry in chosen}
        platforms = {name_of(entry.get("platform")) for entry in distinct.values()}
        owners = {tuple(_names(entry)[:1]) for entry in distinct.values()}
        if len(owners) > 1 or (len(distinct) > 1 and (len(platforms) < len(distinct) or "" in platforms)):
            raise _ambiguous_or_missing(self.path, "", names, "" if not name else f" that fit {name!r}")
        return list(distinct.values())

    def _by_saved_tag(self, images: list[Json], name: str) -> list[Json]:
        """Select entries by a name that only manifest.json has."""
        if DOCKER not in self.parts:
            return []
        configs = {self._digest_of(image.config) for image in self._saved() if _is_any(image.tags, name)}
        return [entry for entry in images if configs & self._configs(entry)]

    def _configs(self, entry: Json, depth: int = 0) -> set[str]:
        """Return digests of the available configurations below an entry.

        Each document is read once, as thousands of entries may name it.
        """
        key = (str(entry.get("digest")), str(entry.get("size")), depth)
        if key not in self._below:
            self._below[key] = set()
            with suppress(BuildError):
                label = f"an entry of {self.path}"
                document = parsed(read_bytes(descriptor(entry, label), self, label), label)
                self._below[key] = self._configs_of(document, depth)
        return self._below[key]

    def _configs_of(self, document: Json, depth: int = 0) -> set[str]:
        config, entries = document.get("config"), document.get("manifests")
        digests = {str(config.get("digest")).removeprefix("sha256:")} if isinstance(config, dict) else set()
        if isinstance(entries, list) and depth < 2:
            for entry in entries[:MAX_IMAGES]:
                digests |= self._configs(entry, depth + 1) if isinstance(entry, dict) else set()
        return digests

    def _reconciled(self, data: bytes, name: str) -> bytes:
        """Check the manifest against manifest.json, which older engines load.

        Raises BuildError if they describe different images.
        """
        document, saved = parsed(data, f"the manifest of {self.path}"), self._saved()
        named = [image for image in saved if not name or _is_any((*image.tags, *map(_tag, image.tags)), name)]
        if not named:
            return data
        image = named[0]
        if any((other.config, other.layers) != (image.config, image.layers) for other in named):
            raise BuildError(f"{self.path}: its {INDEX} has one image {name!r}, its {DOCKER} several")
        config = self._digest_of(image.config)
        if config not in self._configs_of(document):
            raise BuildError(f"{self.path}: its {INDEX} and its {DOCKER} describe different images")
        if "manifests" in document or not image.layers:
            return data
        if not document.get("layers"):  # Docker's engine 25.0.0 wrote manifests without layers (moby/moby#47150)
            return self._synthesized(image)
        listed = [str(layer.get("digest")) for layer in document["layers"] if isinstance(layer, dict)]
        if [f"sha256:{self._digest_of(layer)}" for layer in image.layers] != listed:
            raise BuildError(f"{self.path}: its {INDEX} and its {DOCKER} have different layers")
        return data

    def _digest_of(self, name: str) -> str:
        """Return a file's digest: from its path, which the reader checks, else computed."""
        folder, _, last = name.rpartition("/")
        return last if folder == "blobs/sha256" else str(self._described(name)["digest"]).removeprefix("sha256:")

    def _saved(self) -> list[_Saved]:
        """Return the images of manifest.json."""
        try:
            document = load_json(self._json(DOCKER))
            if isinstance(document, dict):
                raise BuildError(f"{self.path}: its {DOCKER} is a registry's, as in skopeo's dir:", NO_IMAGE_HINT)
            check_spelling(document, f"{self.path}: {DOCKER}", _SAVED_KEYS)
            images = [_saved_image(value) for value in document]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BuildError(f"{self.path}: invalid {DOCKER} of `docker save`: {error}") from error
        if not images:
            raise BuildError(f"{self.path}: its {DOCKER} lists no image")
        if any(len(image.layers) > MAX_LAYERS for image in images):
            raise BuildError(f"{self.path} has an image of more than {MAX_LAYERS} layers")
        return images

    def _synthesized(self, image: _Saved) -> bytes:
        """Make a registry's manifest of an image of `docker save`."""
        described = {
            "config": self._described(image.config),
            "layers": [self._described(layer) for layer in image.layers],
        }
        return json.dumps({"schemaVersion": 2, **described}).encode()

    def _described(self, name: str) -> Json:
        """Make the descriptor of a file."""
        location = self.parts.get(name)
        if location is None:
            raise BuildError(f"{self.path} lacks the file {name[:200]!r}")
        digest = self._digests.get(name) or location.sha256()  # a name may come a hundred thousand times
        self._digests[name] = digest
        self._made[digest] = location
        return {"digest": f"sha256:{digest}", "size": location.size_bytes}


def open_layout(path: Path, alias: Path | None = None) -> Layout:
    """Open the files of an image. `alias` replaces the path in messages.

    Raises BuildError if it is damaged, or not an image; InputError if it cannot be read.
    """
    with _faults(alias or path):
        if path.is_dir():
            return Layout(path, {file.relative_to(path).as_posix(): _whole(file) for file in files_of(path)})
        with PaxArchive.open(path, mode="r:") as archive:
            links, names = dict[str, str](), set()
            parts = {}
            for member in archive:
                if member.isdir():
                    continue
                name = _normalized(member.name)
                if name in names:
                    raise DamagedArchive(f"duplicate file {name[:200]!r}")
                names.add(name)
                if member.isreg() and not member.issparse():
                    parts[name] = BlobLocation(path, member.offset_data, member.size)
                elif member.issym() or member.islnk():
                    links[name] = _target(name, member)
        # `docker save` of old engines writes a repeated layer as a link to the first.
        parts |= {name: parts[end] for name in links if (end := _end(name, links)) in parts}
        return Layout(alias or path, parts)


def plain_archive(path: Path, store: Store) -> Path:
    """Return an uncompressed archive: itself, or a decompressed copy in the store.

    Raises BuildError if it is damaged, or a bomb; InputError if it cannot be read.
    """
    with _faults(path):
        if path.is_dir():
            return path
        with path.open("rb") as file:
            suffix = suffix_of(file.read(MAGIC_BYTES))
        if not suffix:
            return path
        record = store.memo("archive", digest_of_layout(path))
        if record is None or not store.has(record.decode()):
            record = _unpack(path, suffix, store)
    return store.verified(record.decode())


def _unpack(path: Path, suffix: str, store: Store) -> bytes:
    """Decompress an archive into the store. The key is the digest of the bytes read."""
    with path.open("rb") as file, store.writer() as writer:
        digested = Digested(file)
        part = FileSlice(cast(BinaryIO, digested), 0, path.stat().st_size)
        writer.take(Bounded(part, suffix))
        while part.read(CHUNK_BYTES):
            pass
        record = writer.commit().encode()
    store.set_memo("archive", digested.sha256.hexdigest(), record)
    return record


def files_of(folder: Path) -> list[Path]:
    """List the files of an OCI layout. Links are not followed."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def digest_of_layout(path: Path) -> str:
    """Return the images' digest. Raises InputError if it cannot be read."""
    file_path = path / INDEX if path.is_dir() else path
    if file_path.exists() and not file_path.is_file():
        raise InputError(f"{file_path}: not a regular file")
    with _faults(path), file_path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _whole(file: Path) -> BlobLocation:
    return BlobLocation(file, 0, file.stat().st_size)


def _normalized(name: str) -> str:
    """Return a member's path as a program that unpacks the archive would have it.

    Raises DamagedArchive if it leads out of the archive.
    """
    if ".." in name.split("/"):
        raise DamagedArchive(f"{name[:200]!r} leads out of its folder")
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def _tag(name: str) -> str:
    return name.rpartition(":")[2]


def _end(name: str, links: dict[str, str], left: int = 8) -> str:
    """Return the path to which a link leads, through a few others."""
    return _end(links[name], links, left - 1) if left and name in links else name


def _target(name: str, link: tarfile.TarInfo) -> str:
    """Return where an archive's link leads; symbolic ones begin in a folder."""
    is_relative = link.issym() and not link.linkname.startswith("/")
    done: list[str] = name.split("/")[:-1] if is_relative else []
    for part in link.linkname.split("/"):
        done = done[:-1] if part == ".." else [*done, part] if part not in {"", "."} else done
    return "/".join(done)


def _saved_image(value: Any) -> _Saved:
    config, layers, tags = value["Config"], value.get("Layers") or (), value.get("RepoTags") or ()
    if not isinstance(config, str) or isinstance(layers, str) or isinstance(tags, str):
        raise TypeError("a name is missing")
    return _Saved(config, tuple(map(str, layers)), tuple(map(str, tags)))


def _select_saved(path: Path, images: list[_Saved], name: str) -> _Saved:
    """Select the image of this name in manifest.json; "" selects the only one."""
    chosen = [image for image in images if not name or _is_any(image.tags, name)]
    if len({(image.config, image.layers) for image in chosen}) != 1:
        raise _ambiguous_or_missing(path, name, [tag for image in images for tag in image.tags or ("",)])
    return chosen[0]


def _names(entry: Json) -> list[str]:
    """Return the names of an entry, the full name first."""
    notes = annotations_of(entry)
    return list(dict.fromkeys(name for key in (CONTAINERD_NAME, REF_NAME) if (name := notes.get(key))))


def _is_any(names: Sequence[str], name: str) -> bool:
    """Return whether a name is among others as their full name."""
    return _whole_name(name) in map(_whole_name, names)


def _whole_name(name: str) -> str:
    try:
        return str(parse_reference(name))
    except InputError:
        return name


def _ambiguous_or_missing(path: Path, name: str, names: list[str], which: str = "") -> BuildError:
    named = sorted(set(names) - {""})
    unnamed = [f"{names.count('')} without a name"] if named and "" in names else []
    available = ", ".join([*named[:MAX_NAMES], *unnamed]) or "no named images"
    if name:
        return BuildError(f"{path} has no image {name!r}; available: {available}")
    return BuildError(f"{path} has several images{which}: {available}", "Append a colon and the image's name.")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
        raise BuildError(f"{path} is not an image, or damaged: {error}") from error

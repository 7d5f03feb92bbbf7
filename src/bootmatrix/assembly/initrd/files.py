"""The `files` of a spec in the guest's root."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bootmatrix.assembly.slices import Slice
from bootmatrix.assembly.tree import Node, Tree
from bootmatrix.assembly.user_files import take
from bootmatrix.errors import BuildError
from bootmatrix.model import FileEntry, Spec
from bootmatrix.store import Store, sha256_of


@dataclass(frozen=True)
class SpecSources:
    """Digests of `source_digests`, and the store to which sources are copied."""

    store: Store
    digests: Mapping[str, str]


def add_files(spec: Spec, ids: Mapping[str, int], tree: Tree, sources: SpecSources) -> None:
    """Add all files in order.

    As in LinuxKit, parent folders get the file's owner and mode, plus execute permission for readers.

    Raises BuildError if an owner or a source does not exist.
    """
    done: set[str] = set()
    for file in spec.files:
        node = _node(file, spec, ids, sources)
        if node is None:
            continue
        path = file.path.strip("/")
        for folder in reversed(PurePosixPath(path).parents[:-1]):
            if str(folder) not in done:
                tree.put(str(folder), Node("dir", _enterable(_mode(file)), node.uid, node.gid))
                done.add(str(folder))
        tree.put(path, node)
        done.add(path)


def source_path(spec: Spec, source: str) -> Path:
    """Return the path of a `source`, relative to the spec; `~` is the home folder."""
    return Path(spec.path).parent / Path(source).expanduser()


def source_digests(spec: Spec) -> dict[str, str]:
    """Digest the sources of `files`; empty for missing ones.

    Raises BuildError if a source cannot be read.
    """
    return {file.source: _source_digest(spec, file.source) for file in spec.files if file.source}


def _source_digest(spec: Spec, source: str) -> str:
    path = source_path(spec, source)
    try:
        return sha256_of(path) if path.is_file() else ""
    except OSError as error:
        raise BuildError(f"{spec.asker(source)}: the source {source!r} cannot be read: {error.strerror}") from error


def _mode(file: FileEntry) -> int:
    return int(file.mode, 8) if file.mode else (0o700 if file.directory else 0o600)


def _enterable(mode: int) -> int:
    return mode | sum(0o1 << shift for shift in (0, 3, 6) if mode >> shift & 0o7)


def _node(file: FileEntry, spec: Spec, ids: Mapping[str, int], sources: SpecSources) -> Node | None:
    """None for a missing optional file."""
    uid, gid = _owner(file.uid, ids), _owner(file.gid, ids)
    if file.directory:
        return Node("dir", _mode(file), uid, gid)
    if file.symlink:
        return Node("symlink", 0o777, uid, gid, file.symlink)
    data = _data(file, spec, sources)
    return None if data is None else Node("file", _mode(file), uid, gid, data=data)


def _owner(value: int | str | None, ids: Mapping[str, int]) -> int:
    if isinstance(value, int):
        return value
    if value in {None, "", "root"}:
        return 0
    if value in ids:
        return ids[value]
    raise BuildError(f"{value!r} is neither a number nor the name of a container of the spec")


def _data(file: FileEntry, spec: Spec, sources: SpecSources) -> bytes | Slice | None:
    if file.contents is not None:
        return file.contents.encode()
    if file.metadata:
        return _metadata(spec)
    source = source_path(spec, file.source)
    try:
        if digest := sources.digests[file.source]:
            taken = take(source, digest, sources.store)
            return Slice(taken, 0, taken.stat().st_size)
    except OSError as error:
        raise BuildError(
            f"{spec.asker(file.source)}: the source {file.source!r} cannot be read: {error.strerror}"
        ) from error
    if file.optional:
        return None
    raise BuildError(f"{spec.asker(file.source)}: file not found: {source}", f"It is the source of {file.path}.")


def _metadata(spec: Spec) -> bytes:
    """The spec itself as JSON, which is YAML too."""
    values = spec.model_dump(mode="json", by_alias=True, exclude={"name", "path", "notes"}, exclude_none=True)
    return (json.dumps({key: value for key, value in values.items() if value}, indent=2) + "\n").encode()

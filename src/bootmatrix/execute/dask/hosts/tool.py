"""The tool as an archive: bootmatrix, and what a worker imports."""

import gzip
import hashlib
import io
import json
import re
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import BinaryIO, cast

from packaging.requirements import Requirement

from bootmatrix import __version__
from bootmatrix.execute.dask.security import dask_version
from bootmatrix.load.data_paths import CHECKOUT, PACKAGE
from bootmatrix.store import Store

ROOTS = ("bootmatrix", "distributed", "fsspec")
SKIPPED_PARTS = {"tests", "__pycache__", "dataframe", "static", "templates"}
"""Folders of Dask that a worker does not import. `templates` of our report are not used there either."""
SKIPPED = {"docker", "bokeh", "prometheus-client", "rich", "securesystemslib", "shtab"}
"""Packages that only building, reporting and the command line import."""
UNUSED_FILE = re.compile(r"zstandard/(_cffi\.|backend_cffi)|.*\.(pth|pyc|pyi)$|\.\.")
"""Files without use there: zstandard's other backend, which is as large as a tenth of all."""
COMPRESSION = 1
"""Packing and unpacking take longer than sending a few megabytes more."""

PROBE = (
    "import json,sys,sysconfig\n"
    "found=''\n"
    "try:\n"
    " import importlib.metadata as m\n"
    " found=m.version('bootmatrix')+' '+m.version('distributed')\n"
    "except Exception: pass\n"
    "print(json.dumps([list(sys.version_info[:2]),sysconfig.get_platform(),found]))\n"
)
"""Prints Python's version, its platform, and the versions that are installed, as JSON."""


def own_platform() -> tuple[list[int], str]:
    """Return this Python's version and platform, as the probe prints them."""
    return list(sys.version_info[:2]), sysconfig.get_platform()


def own_versions() -> str:
    """Return the versions that a host must have to be used without sending the tool."""
    return f"{__version__} {dask_version()}"


@cache
def _distributions() -> tuple[Distribution, ...]:
    """List the installed packages of the tool, with their requirements."""
    names, waiting = {}, list(ROOTS)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in names or name in SKIPPED:
            continue
        names[name] = distribution(name)
        for text in names[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    names["cryptography"] = distribution("cryptography")
    return tuple(names[name] for name in sorted(names))


def tool_files() -> Iterator[tuple[str, Path]]:
    """List the tool's files, by their paths in the archive."""
    for package in _distributions():
        for file in package.files or ():
            name = str(file)
            if UNUSED_FILE.match(name) or SKIPPED_PARTS & set(file.parts):
                continue
            path = Path(str(package.locate_file(file)))
            if path.is_file():
                yield name, path
    yield from _below(PACKAGE, "bootmatrix")
    if not (PACKAGE / "data" / "arch").is_dir():
        yield from _below(CHECKOUT / "arch", "bootmatrix/data/arch")


def _below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{name}/{path.relative_to(folder)}", path


def tool_archive(store: Store) -> tuple[str, Path]:
    """Return digest and path of the tool's archive, made anew if changed.

    Raises HostError if the disk is full.
    """
    files = dict(tool_files())
    states = [(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in sorted(files.items())]
    key = hashlib.sha256(json.dumps([states, COMPRESSION]).encode()).hexdigest()
    digest = store.cached_digest("worker-tool", key, lambda: _pack(store, files))
    return digest, store.verified(digest)


def _pack(store: Store, files: dict[str, Path]) -> str:
    with store.writer() as writer:
        packed = gzip.GzipFile("", "wb", COMPRESSION, cast("BinaryIO", writer), mtime=0)
        with packed, tarfile.open(fileobj=packed, mode="w|") as archive:
            for name, path in sorted(files.items()):
                member = tarfile.TarInfo(name)
                data = path.read_bytes()
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return writer.commit()

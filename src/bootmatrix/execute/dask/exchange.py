"""Files by a shared folder or object store (fsspec)."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread
import fsspec

from bootmatrix.errors import InfraError, InputError

ARTEFACTS, BUNDLES = "artefacts", "bundles"


class WorkerExchange(Protocol):
    """The worker's end."""

    async def get(self, sha256: str, target: Path) -> None:
        """Write an artefact to a new file. Raises InfraError if it is unavailable."""

    async def put(self, bundle: Path) -> None:
        """Hand over a bundle, which may be moved. Raises InfraError on failure."""


class Depot(Protocol):
    """The client's end."""

    async def publish(self, files: Mapping[str, Path]) -> None:
        """Offer artefacts, by digest, to all workers."""

    async def collect(self, instance: str, bundle: str, target: Path) -> None:
        """Take a worker's bundle as a new file. Raises InfraError on failure."""


class SharedFolder:
    """Both ends of an exchange through a folder or URL that client and workers reach."""

    def __init__(self, url: str, own: Path | None = None) -> None:
        """Open it; files below `own`, the shared store, are not copied.

        Raises InputError if the protocol is unknown, or its package is not installed.
        """
        try:
            self._system, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InputError(f"exchange {url!r}: {error}", "Use a folder, or a URL that fsspec knows.") from error
        self._own = own
        self._published: set[str] = set()

    async def publish(self, files: Mapping[str, Path]) -> None:
        """Copy artefacts that are not there yet."""
        own = self._own
        for sha256, path in files.items():
            if sha256 not in self._published and not (own and path.is_relative_to(own)):
                await self._put(path, f"{self._root}/{ARTEFACTS}/{sha256}")
            self._published.add(sha256)

    async def get(self, sha256: str, target: Path) -> None:
        """Copy an artefact from there."""
        await self._call("get_file", f"{self._root}/{ARTEFACTS}/{sha256}", str(target))

    async def put(self, bundle: Path) -> None:
        """Move a bundle there."""
        path = f"{self._root}/{BUNDLES}/{bundle.name}"
        if not self._renamed(bundle, path):
            await self._put(bundle, path)
            bundle.unlink()

    async def collect(self, instance: str, bundle: str, target: Path) -> None:  # noqa: ARG002  (names are unique)
        """Move a bundle from there."""
        path = f"{self._root}/{BUNDLES}/{bundle}"
        if not self._renamed(path, target):
            await self._call("get_file", path, str(target))
            await self._call("rm_file", path)

    async def prepare(self) -> None:
        """Make the folders."""
        for name in (ARTEFACTS, BUNDLES):
            await self._call("makedirs", f"{self._root}/{name}", True)

    async def remove(self) -> None:
        """Remove the folder with all its files."""
        await self._call("rm", self._root, True)

    async def _put(self, source: Path, target: str) -> None:
        """Copy a file there whole or not at all; a link is replaced, not followed.

        Another run's worker may read the file that it replaces.
        """
        if not self._is_local:
            await self._call("put_file", str(source), target)
            return
        part = f"{target}.{secrets.token_hex(8)}.part"
        await self._call("put_file", str(source), part)
        if not self._renamed(part, target):
            raise InfraError(f"the exchange {self._root} failed: cannot rename {part}")

    @property
    def _is_local(self) -> bool:
        return "file" in self._system.protocol

    def _renamed(self, source: str | Path, target: str | Path) -> bool:
        """Rename a file, which is possible within one file system only."""
        if not self._is_local:
            return False
        try:
            Path(source).replace(target)
        except OSError:
            return False
        return True

    async def _call(self, name: str, *arguments: Any) -> None:
        method = getattr(self._system, name)
        try:
            await anyio.to_thread.run_sync(method, *arguments)
        except Exception as error:  # each file system has its own errors
            text = f"{type(error).__name__}: {error}"
            raise InfraError(f"the exchange {self._root} failed ({name}): {text[:300]}") from error

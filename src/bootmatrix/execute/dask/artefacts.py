"""A worker's artefacts: fetched once, verified, kept in a bounded store."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio.to_thread

from bootmatrix.errors import UntrustedError
from bootmatrix.execute.dask.exchange import WorkerExchange
from bootmatrix.model import Artefact
from bootmatrix.store import Store, host_faults, sha256_of, touch

RECENT_S = 600.0
"""Files used within this time may belong to another worker's cell, and stay."""
TOUCH_S = 60.0
"""Interval at which a file that is in use is marked as used."""


class Artefacts:
    """Fetches artefacts by digest. Concurrent requests for one are joined.

    `limit_mib` bounds the store, 0 for no bound: files that no cell uses are removed, the least recently used first.
    """

    def __init__(self, store: Store, exchange: WorkerExchange, limit_mib: int = 0) -> None:
        self._store, self._exchange, self._limit_bytes = store, exchange, limit_mib << 20
        self._under_way: dict[str, asyncio.Task[Path]] = {}
        self._in_use: Counter[str] = Counter()
        self._used_s: dict[str, float] = {}
        self.fetched = 0

    @contextmanager
    def held(self, artefacts: Iterable[Artefact]) -> Iterator[None]:
        """Keep artefacts from being removed within the context."""
        digests = [artefact.sha256 for artefact in artefacts]
        self._in_use.update(digests)
        try:
            yield
        finally:
            self._in_use.subtract(digests)

    async def fetch(self, artefacts: Iterable[Artefact]) -> Mapping[str, Path]:
        """Return the paths of artefacts by digest, fetched if they are missing.

        Raises InfraError if one cannot be had, or is not what its digest says.
        """
        digests = dict.fromkeys(artefact.sha256 for artefact in artefacts)
        return {sha256: self._recent(sha256) or await self._get(sha256) for sha256 in digests}

    def _recent(self, sha256: str) -> Path | None:
        """Return a file that was verified a short time ago and is unchanged."""
        is_recent = time.monotonic() - self._used_s.get(sha256, -RECENT_S) < TOUCH_S
        return self._store.blob(sha256) if is_recent and self._store.is_sound(sha256) else None

    async def _get(self, sha256: str) -> Path:
        task = self._under_way.get(sha256)
        if task is None:
            task = self._under_way[sha256] = asyncio.create_task(self._have(sha256))
            task.add_done_callback(lambda _task: self._under_way.pop(sha256, None))
        # Shielded: a cell that is cancelled must not take the file from the others that wait for it.
        return await asyncio.shield(task)

    async def _have(self, sha256: str) -> Path:
        if await anyio.to_thread.run_sync(self._store.is_sound, sha256):
            path = self._store.blob(sha256)
            self._used_s[sha256] = time.monotonic()
            touch(path)
            return path
        with self._store.workspace() as folder:
            target = folder / sha256
            with host_faults(self._store.folder):
                await self._exchange.get(sha256, target)
                digest = await anyio.to_thread.run_sync(sha256_of, target)
            if digest != sha256:
                raise UntrustedError(f"an artefact was damaged on its way: expected {sha256}, got {digest}")
            path = await anyio.to_thread.run_sync(self._store.keep, target, sha256)
        self.fetched += 1
        if self._limit_bytes:
            await anyio.to_thread.run_sync(self._evict)
        return path

    def _evict(self) -> None:
        oldest_s = time.time() - RECENT_S
        taken_bytes = 0
        for used_s, size_bytes, path in sorted(self._files(), reverse=True):
            taken_bytes += size_bytes
            if taken_bytes > self._limit_bytes and used_s < oldest_s and not self._in_use[path.name]:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for path in self._store.folder.glob("blobs/sha256/*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                yield max(status.st_atime, status.st_mtime), status.st_size, path

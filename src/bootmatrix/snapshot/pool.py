"""Snapshots shared by a run's copies, booted once or cached."""

import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import anyio
import anyio.to_thread

from bootmatrix.errors import HostError
from bootmatrix.model import Bootable, Machine
from bootmatrix.operating_system import is_portable
from bootmatrix.qemu.command import Descriptors, ForkFiles, for_fork
from bootmatrix.qemu.version import find_qemu, qemu_version
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.snapshot.snapshot import FORMAT, Snapshot
from bootmatrix.snapshot.template import NoTemplate, SuspendedTemplate, make_template


class ResourceLease(Protocol):
    """Holds cores and memory for a machine's guest; waits until they are free."""

    def __call__(self, machine: Machine, memory_mib: int | None = None, /) -> AbstractAsyncContextManager[None]:
        """Hold them for as long as the context lasts."""


def no_limit(_machine: Machine, _memory_mib: int | None = None) -> nullcontext[None]:
    """Reserve no resources of the host: one guest is booted, or none."""
    return nullcontext()


MORE = 1.5
"""A copy may take this many times the memory of the largest copy so far, since specs differ."""


@dataclass
class _Origin:
    """The origin of copies; `fault` says why its snapshot is missing.

    `private_mib` is the largest private memory of a copy.
    """

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    snapshot: Snapshot | None = None
    fault: str = ""
    users: int = 0
    private_mib: int = 0


def _nothing_to_check() -> None:
    """Check nothing: all files were verified."""


class SnapshotPool:
    """Snapshots of a run. Unused ones take at most `memory_mib` of memory.

    `check` is called before files of a guest are used that a copy needs not, such as its kernel. It blocks, and raises
    BootmatrixError for one that is damaged.
    """

    def __init__(
        self,
        cache: SnapshotCache,
        memory_mib: int,
        note: Callable[[str], None],
        check: Callable[[], None] = _nothing_to_check,
    ) -> None:
        self._cache = cache
        self._note = note
        self._check = check
        self._memory_bytes = memory_mib << 20
        self._origins: OrderedDict[str, _Origin] = OrderedDict()

    @asynccontextmanager
    async def origin(self, machine: Machine, bootable: Bootable, turn: ResourceLease) -> AsyncIterator[Snapshot]:
        """Provide a bootable's snapshot, booted within a `turn` if needed.

        Raises NoTemplate if it is not available, HostError if QEMU cannot be started.
        """
        if is_portable():
            self._check()
            raise NoTemplate("copies of guests need files in memory, which only Linux seals")
        key = key_of(machine, bootable)
        origin = self._origins.setdefault(key, _Origin())
        self._origins.move_to_end(key)
        origin.users += 1
        try:
            async with origin.lock:
                if origin.fault:
                    raise NoTemplate(origin.fault)
                snapshot = origin.snapshot or await self._get(key, origin, (machine, bootable, turn))
            yield snapshot
        finally:
            origin.users -= 1
            self._make_room()

    def adopt(self, key: str, snapshot: Snapshot) -> None:
        """Take over a snapshot that was read already, under its key."""
        self._origins[key] = _Origin(snapshot=snapshot)

    def copy_mib(self, machine: Machine, bootable: Bootable) -> int | None:
        """Return the expected memory of the next copy; None for the first one."""
        most_mib = self._origins[key_of(machine, bootable)].private_mib
        return int(most_mib * MORE) if most_mib else None

    def learn(self, machine: Machine, bootable: Bootable, private_mib: int | None) -> None:
        """Record the private memory of a copy."""
        origin = self._origins[key_of(machine, bootable)]
        origin.private_mib = max(origin.private_mib, private_mib or 0)

    def discard(self, machine: Machine, bootable: Bootable, fault: str) -> None:
        """Discard a snapshot without working copies; its cells boot cold."""
        self._check()
        key = key_of(machine, bootable)
        self._cache.discard(key)
        self._origins[key].fault = fault

    def close(self) -> None:
        """Release all memory."""
        for origin in self._origins.values():
            if origin.snapshot:
                origin.snapshot.close()
        self._origins.clear()

    async def _get(self, key: str, origin: _Origin, request: tuple[Machine, Bootable, ResourceLease]) -> Snapshot:
        machine, bootable, turn = request
        origin.snapshot = await anyio.to_thread.run_sync(self._cache.get, key)
        if origin.snapshot is None:
            await anyio.to_thread.run_sync(self._check)
            try:
                async with turn(machine):
                    origin.snapshot = await _made(machine, bootable)
            except NoTemplate as error:
                origin.fault = str(error)
                raise
            try:
                await anyio.to_thread.run_sync(self._cache.put, key, origin.snapshot)
            except HostError as error:
                self._note(f"cannot keep a snapshot for later runs: {error.message}")
        return origin.snapshot

    def _make_room(self) -> None:
        idle = [origin for origin in self._origins.values() if origin.snapshot and not origin.users]
        taken_bytes = sum(origin.snapshot.used_bytes for origin in idle if origin.snapshot)
        for origin in idle:
            if taken_bytes <= self._memory_bytes:
                return
            if origin.snapshot:
                taken_bytes -= origin.snapshot.used_bytes
                origin.snapshot.close()
                origin.snapshot = None


async def _made(machine: Machine, bootable: Bootable) -> Snapshot:
    """Boot the guest to be copied; once more, if it was stopped meanwhile.

    Raises NoTemplate, HostError as `make_template` does.
    """
    try:
        return await make_template(machine, bootable)
    except SuspendedTemplate:
        return await make_template(machine, bootable)


def key_of(machine: Machine, bootable: Bootable) -> str:
    """Return a key of all inputs: QEMU's build and arguments, kernel, initrd, format.

    The machine's CPU model, memory and command line are among the arguments.
    """
    assert bootable.forkable
    program = find_qemu(machine)
    build = program.stat()
    base = bootable.model_copy(update={"initrd": bootable.forkable.initrd})
    arguments = for_fork(machine, base, Descriptors(0, 0, agent=0 if base.agent else None), ForkFiles(0, 0)).arguments
    artefacts = (base.kernel, base.initrd, base.dtb)
    digests = {artefact.path: artefact.sha256 for artefact in artefacts if artefact}
    return json.dumps(
        {
            "format": FORMAT,
            "qemu": [str(program), qemu_version(machine), build.st_size, build.st_mtime_ns],
            "arguments": [digests.get(word, word) for word in arguments],
        }
    )

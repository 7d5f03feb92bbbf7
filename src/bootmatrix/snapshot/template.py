"""Template guests: boot to the point where copies start, and take a snapshot.

A template's output counts for no cell: it has no nonce, and its messages are not kept.
"""

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

import anyio
from anyio.abc import Process

from bootmatrix.console.log import PanicWatch
from bootmatrix.model import Bootable, Machine
from bootmatrix.model.outcome import SUSPENDED_S
from bootmatrix.qemu.cgroup import bounded
from bootmatrix.qemu.command import Descriptors, ForkFiles, for_fork
from bootmatrix.qemu.monitor import MONITOR_ERRORS, Monitor
from bootmatrix.qemu.process import exit_words, read_stderr, running
from bootmatrix.qemu.suspension import STEP_S, SuspensionMeter, suspension_of, within
from bootmatrix.qemu.transport import PACE_S, Wires, open_wires, read_wire, socket_pairs
from bootmatrix.qemu.version import find_qemu
from bootmatrix.snapshot.snapshot import MAX_CONSOLE_BYTES, MAX_STATE_BYTES, Snapshot, new_memory, taken

READY = b"bootmatrix template 1\n"
BOOT_S = 60.0
"""Limit for the guest's way to its waiting point, on the fastest machine."""
SETTLE_S = 0.2
"""Time for kernel work behind init, which each copy would have to repeat."""
SAVE_S = 60.0
SEAL_TRIES, SEAL_PAUSE_S = 100, 0.02
CHUNK_BYTES = 256 << 10
DISK_BYTES = 4 << 30
"""Size of the disk as guests see it, larger than any copy's. It takes no memory, since it is a hole."""


class NoTemplate(Exception):
    """The template did not come up, or cannot be saved."""


class SuspendedTemplate(NoTemplate):
    """We or QEMU were suspended, which copies' clocks would show."""


@dataclass
class _Seen:
    """Output of the guest so far."""

    console: bytearray = field(default_factory=bytearray)
    result: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    panic: PanicWatch = field(default_factory=PanicWatch)


async def make_template(machine: Machine, bootable: Bootable) -> Snapshot:
    """Boot a template, and return its snapshot.

    Raises NoTemplate if it did not come up, or QEMU could not save it; HostError if QEMU cannot be started.
    """
    assert bootable.forkable
    base = bootable.model_copy(update={"initrd": bootable.forkable.initrd})
    seen = _Seen()
    with ExitStack() as stack:
        memory, disk = new_memory(machine.memory_mib), os.memfd_create("bootmatrix-disk", os.MFD_CLOEXEC)
        stack.callback(os.close, disk)
        keep = stack.enter_context(ExitStack())
        keep.callback(os.close, memory)
        os.ftruncate(disk, DISK_BYTES)
        wires, theirs = stack.enter_context(open_wires(own_result=True, agent=bool(bootable.agent)))
        monitor, result, *agent = (end.fileno() for end in theirs)
        descriptors = Descriptors(monitor, result, agent=agent[0] if agent else None)
        line = for_fork(machine, base, descriptors, ForkFiles(memory, disk), str(find_qemu(machine)))
        inherited = [monitor, result, *agent, memory, disk]
        bound = stack.enter_context(bounded(machine))
        async with running(line.arguments, inherited, machine, bound, wires.console) as process:
            for end in theirs:
                end.close()
            state = await _TemplateBuilder(machine, process, wires, seen).make()
        snapshot = await _taken(memory, machine.memory_mib, state, bytes(seen.console))
        keep.pop_all()
        return snapshot


async def _taken(memory: int, memory_mib: int, state: bytes, console: bytes) -> Snapshot:
    """Take the snapshot when QEMU's mapping is gone; /proc's readers hold it.

    Raises NoTemplate if it stays mapped.
    """
    for _ in range(SEAL_TRIES):
        with suppress(OSError):
            return taken(memory, memory_mib, state, console)
        await anyio.sleep(SEAL_PAUSE_S)
    raise NoTemplate("another process still maps its memory")


class _TemplateBuilder:
    """One boot of a template."""

    def __init__(self, machine: Machine, process: Process, wires: Wires, seen: _Seen) -> None:
        self._machine, self._process, self._wires, self._seen = machine, process, wires, seen
        self._state = bytearray()
        self._ready = anyio.Event()
        self._meter = SuspensionMeter()
        self._monitor = Monitor(wires.monitor, anyio.current_time, lambda _: None)
        self._fault = ""

    async def make(self) -> bytes:
        """Boot, stop and save; return the state of the devices."""
        state = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(read_wire, self._wires.console.printed, self._from_console, pace_s=PACE_S))
            assert self._wires.result
            tasks.start_soon(read_wire, self._wires.result, self._from_result)
            tasks.start_soon(read_stderr, self._process, self._seen.stderr)
            tasks.start_soon(self._fail_on_exit, tasks.cancel_scope)
            tasks.start_soon(self._measure)
            state = await self._save()
            tasks.cancel_scope.cancel()
        self._meter.sample(self._process.pid)
        if self._meter.total_s >= SUSPENDED_S:
            raise SuspendedTemplate(f"it was suspended for {self._meter.total_s:.1f} s while it booted")
        if state is None:
            raise NoTemplate(self._complaint())
        return state

    async def _save(self) -> bytes | None:
        try:
            async with self._monitor.connected():
                return await self._stop_and_migrate()
        except MONITOR_ERRORS as error:
            self._fault = f"QEMU's monitor: {type(error).__name__}: {error}"[:500]
        return None

    async def _stop_and_migrate(self) -> bytes | None:
        await self._monitor.execute("cont")
        await within(BOOT_S * self._machine.time_factor, self._ready.wait, lambda: suspension_of(self._process.pid))
        if not self._ready.is_set() or self._seen.panic.seen:
            return None
        await anyio.sleep(SETTLE_S)
        await self._monitor.execute("stop")
        with anyio.move_on_after(SAVE_S):
            return await self._migrate()
        return None

    async def _migrate(self) -> bytes | None:
        await self._monitor.ignore_shared()
        with socket_pairs(1) as ((saved,), (out,)):
            self._monitor.send_descriptor(out.fileno())
            await self._monitor.execute("getfd", {"fdname": "state"})
            out.close()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read_wire, saved, self._from_saved, CHUNK_BYTES)
                status = await self._migrated()
                if status != "completed":
                    tasks.cancel_scope.cancel()
        return bytes(self._state) if status == "completed" and len(self._state) <= MAX_STATE_BYTES else None

    async def _migrated(self) -> str:
        try:
            await self._monitor.execute("migrate", {"uri": "fd:state"})
            while (status := await self._monitor.migration_status()) not in {"completed", "failed", "cancelled"}:
                await anyio.sleep(0.01)
        except MONITOR_ERRORS as error:
            self._fault = f"QEMU's monitor: {type(error).__name__}: {error}"[:500]
            return "failed"
        return status

    async def _measure(self) -> None:
        while True:
            self._meter.sample(self._process.pid)
            await anyio.sleep(STEP_S)

    async def _fail_on_exit(self, scope: anyio.CancelScope) -> None:
        await self._process.wait()
        scope.cancel()

    def _from_console(self, data: bytes) -> None:
        self._seen.console += data[: MAX_CONSOLE_BYTES - len(self._seen.console)]
        self._seen.panic.feed(data)
        if self._seen.panic.seen:
            self._ready.set()

    def _from_result(self, data: bytes) -> None:
        self._seen.result += data[: len(READY) - len(self._seen.result)]
        if bytes(self._seen.result) == READY:
            self._ready.set()

    def _from_saved(self, data: bytes) -> None:
        self._state += data[: MAX_STATE_BYTES + 1 - len(self._state)]

    def _complaint(self) -> str:
        if self._seen.panic.seen:
            return "its kernel panicked"
        if self._process.returncode is not None:
            output = self._seen.stderr.decode("utf-8", "replace").strip()[-300:]
            return f"QEMU {exit_words(self._process.returncode)}: {output or 'no output'}"
        if self._fault:
            return self._fault
        return "cannot be saved" if self._ready.is_set() else "it did not come up in time"

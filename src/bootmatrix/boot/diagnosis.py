"""Diagnosis of a stuck or broken guest, by QEMU and the guest before both end."""

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread

from bootmatrix.console.hang import describe_init
from bootmatrix.fsio import create_plain
from bootmatrix.model import Diagnostic, Machine
from bootmatrix.qemu.monitor import Monitor, Unanswered
from bootmatrix.runs.run_store import CONSOLE_FILE

Kind = Literal["screen", "registers", "tasks", "memory", "hang", "places"]

FOLDER = "diagnosis"
ASK_S = 5.0
"""Limit for QEMU's answer to one command. It takes milliseconds; a stuck QEMU never answers."""
ANSWER_S = 2.0
"""Limit for the start of a sysrq's answer, on the fastest machine. A kernel that takes interrupts answers at once."""
QUIET_S = 0.4
MOST_S = 8.0
"""Limit for the whole answer to one sysrq."""
TASKS_S = 20.0
"""Limit on all sysrq requests: the guest's console may never be silent."""
SYSRQ = "9lwmt"
"""All levels on the console, running CPUs, blocked tasks, memory, all tasks (Documentation/admin-guide/sysrq.rst)."""
CTRL_O = b"\x0f"
ANSWER_BYTES = 2 << 20
SCREEN_LINES = 100
SCREEN_BYTES = 64 << 10
BETWEEN_S = 0.3
DUMP_S = 120.0
DUMP_BEYOND_MIB = 64
"""Size of a dump beyond the guest's memory: headers, and the memory of the firmware and the devices."""
CHUNK_BYTES = 16 << 10
"""Size of a dump's chunks; those with zeros only are left out."""
TICK_S = 0.2


class Diagnosis:
    """Query one QEMU and its guest.

    `send` types on the guest's console; `hear` takes its output.
    """

    def __init__(self, folder: Path, machine: Machine, monitor: Monitor, send: Callable[[bytes], None]) -> None:
        self._folder = folder / FOLDER
        self._machine = machine
        self._monitor = monitor
        self._send = send
        self._answers = bytearray()
        self._heard_s = 0.0

    def hear(self, data: bytes) -> None:
        """Take what the console shows from now on."""
        self._heard_s = time.monotonic()
        self._answers += data[: ANSWER_BYTES - len(self._answers)]

    async def run(self, panicked: bool, dump: bool) -> tuple[Diagnostic, ...]:
        """Collect diagnostics in files, with a note for each missing one.

        Bounded in time.
        """
        registers = await self._registers()
        if not registers.file:
            return (registers,)
        dead = Diagnostic(kind="tasks", note="a panicked kernel does not answer")
        tasks = dead if panicked else await self._tasks()
        return (registers, tasks, *((await self._memory(),) if dump else ()))

    async def _registers(self) -> Diagnostic:
        """Twice, so that it can be seen whether the CPUs move."""
        try:
            cpus = await self._ask("query-cpus-fast")
            if not isinstance(cpus, list):
                raise Unanswered("QEMU does not say which CPUs there are")
            first = await self._human("info registers -a")
            await anyio.sleep(BETWEEN_S)
            second = await self._human("info registers -a")
        except Unanswered as error:
            return Diagnostic(kind="registers", note=str(error))
        text = f"{first}\n\n--- {BETWEEN_S} s later ---\n\n{second}\n"
        return self._kept("registers", "registers.txt", text.encode("utf-8", "replace"))

    async def _tasks(self) -> Diagnostic:
        began = time.monotonic()
        for key in SYSRQ:
            if time.monotonic() < began + TASKS_S:
                await self._press(key)
            if not self._answers:
                return Diagnostic(kind="tasks", note="the guest does not answer to sysrq")
        answers = bytes(self._answers)
        kept = self._kept("tasks", "tasks.log", answers)
        return kept.model_copy(update={"note": kept.note or describe_init(answers)})

    async def _press(self, key: str) -> None:
        """A sysrq, and all that the guest says to it."""
        if self._machine.sysrq == "ctrl-o":
            self._send(CTRL_O)
        else:
            with suppress(Unanswered):
                await self._ask("chardev-send-break", id="console")
        before = len(self._answers)
        self._send(key.encode("ascii"))
        pressed = time.monotonic()
        while time.monotonic() < pressed + MOST_S:
            await anyio.sleep(QUIET_S / 4)
            begun = len(self._answers) > before
            if begun and time.monotonic() > self._heard_s + QUIET_S:
                return
            if not begun and time.monotonic() > pressed + ANSWER_S * self._machine.time_factor:
                return

    async def _memory(self) -> Diagnostic:
        """Write an ELF core of the guest's memory for gdb and crash.

        Through a pipe, since QEMU cannot open files.
        """
        path = self._folder / "memory.elf"
        most_bytes = (self._machine.memory_mib + DUMP_BEYOND_MIB) << 20
        try:
            await self._dump(path, most_bytes)
        except (Unanswered, OSError, ExceptionGroup) as error:
            path.unlink(missing_ok=True)
            return Diagnostic(kind="memory", note=_words(error))
        return Diagnostic(kind="memory", file=f"{FOLDER}/{path.name}", size_bytes=path.stat().st_size)

    async def _dump(self, path: Path, most_bytes: int) -> None:
        reader, writer = os.pipe()
        copy = SparseCopy(reader, path, most_bytes)
        try:
            try:
                await self._monitor.pass_descriptor("dump", writer)
            finally:
                os.close(writer)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, copy.run)
                try:
                    await self._ask("dump-guest-memory", DUMP_S, paging=False, protocol="fd:dump")
                except BaseException:
                    copy.stop()
                    raise
        finally:
            os.close(reader)

    async def _human(self, command: str) -> str:
        answer = await self._ask("human-monitor-command", ASK_S, **{"command-line": command})
        return str(answer).replace("\r\n", "\n")

    async def _ask(self, command: str, limit_s: float = ASK_S, **arguments: Any) -> object:
        with anyio.move_on_after(limit_s):
            return await self._monitor.ask(command, arguments)
        raise Unanswered(f"QEMU does not answer to {command}")

    def _kept(self, kind: Kind, name: str, data: bytes) -> Diagnostic:
        return keep(self._folder / name, kind, data)


def keep(path: Path, kind: Kind, data: bytes) -> Diagnostic:
    """Write a file. A full disk does not cost the verdict."""
    try:
        path.parent.mkdir(exist_ok=True)
        with create_plain(path) as file:
            file.write(data)
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return Diagnostic(kind=kind, note=f"cannot write it: {error.strerror}")
    return Diagnostic(kind=kind, file=f"{path.parent.name}/{path.name}", size_bytes=len(data))


class SparseCopy:
    """Copy a pipe to a file as a sparse file. Blocking; `stop` ends it early."""

    def __init__(self, reader: int, path: Path, most_bytes: int) -> None:
        self._reader = reader
        self._path = path
        self._most_bytes = most_bytes
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the copy; the file is then not whole."""
        self._stopped.set()

    def run(self) -> None:
        """Copy. Raises OSError if there is more than expected, or the disk is full."""
        total = 0
        with create_plain(self._path) as file:
            while data := self._read():
                total += len(data)
                if total > self._most_bytes:
                    raise OSError(f"the dump is larger than {self._most_bytes} bytes")
                if data.count(0) == len(data):
                    file.seek(total)
                else:
                    file.write(data)
            file.truncate(total)

    def _read(self) -> bytes:
        """Read available data, up to a few pages; empty at the end."""
        while not select.select([self._reader], [], [], TICK_S)[0]:
            if self._stopped.is_set():
                return b""
        return os.read(self._reader, CHUNK_BYTES)


def keep_screen(folder: Path) -> Diagnostic:
    """The last lines of the console, for those who want to see no more than a screen."""
    with (folder / CONSOLE_FILE).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - SCREEN_BYTES))
        lines = file.read().splitlines()[-SCREEN_LINES:]
    return keep(folder / FOLDER / "screen.log", "screen", b"\n".join(lines) + b"\n")


def _words(error: Exception) -> str:
    return _words(error.exceptions[0]) if isinstance(error, ExceptionGroup) else str(error)

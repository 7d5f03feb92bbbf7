"""The process that owns a kept guest, and runs commands of other processes in it."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from bootmatrix import __version__
from bootmatrix.errors import BootmatrixError, HostError
from bootmatrix.guest.attach import CommandStreams, Control
from bootmatrix.guest.requests import TerminalSize
from bootmatrix.model.durations import duration_s
from bootmatrix.progress import LineObserver
from bootmatrix.store.locks import lock_unused_folder
from bootmatrix.workspace.exec_job import OUR_STATUS, ExecJob, ExecResult, GuestFiles, run_job
from bootmatrix.workspace.guest import Guest
from bootmatrix.workspace.kept_answer import Answer, read_reply
from bootmatrix.workspace.kept_client import (
    INFO,
    LENGTH,
    MAX_MESSAGE_BYTES,
    NEW_SOCKET,
    SOCKET,
    connect,
    guests_folder,
    socket_folder,
)
from bootmatrix.workspace.selection import Selection
from bootmatrix.workspace.workspace import Workspace

MODULE = "bootmatrix.cli.kept_process"
STREAMS = 3
END_S, LAST_WORDS_S = 5.0, 2.0
"""For a process that was interrupted while it boots its guest."""
POLL_S = 0.05


@dataclass(frozen=True)
class KeptSettings:
    """Settings of a kept guest as JSON, as of `Workspace` and its `guest`."""

    id: str
    name: str
    arch: str
    kernel: str
    keep_s: float
    workspace: Mapping[str, Any] = field(default_factory=dict)
    selection: Mapping[str, Any] = field(default_factory=dict)
    modules: Sequence[str] = ()


def start(settings: KeptSettings, tell: Callable[[str], None] = lambda _text: None) -> Path:
    """Start a kept guest's process; return its folder when ready.

    Several processes may do so at once: one of them starts it. `tell` gets lines on what takes time.

    Raises BootmatrixError if it cannot be booted.
    """
    folder = guests_folder() / settings.id
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as answer:
        fields = {**vars(settings), "answer": writing}
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(writing,),
            )
        finally:
            os.close(writing)
        assert process.stdin
        with process.stdin as pipe, suppress(BrokenPipeError):
            pipe.write(json.dumps(fields).encode())
        try:
            reply = read_reply(answer, tell)
        except BaseException:  # interrupted while it boots
            _end(process)
            raise
    if reply != b"ready":
        _end(process)
        text = reply.decode("utf-8", "replace") or "it ended unexpectedly"
        raise HostError(f"cannot keep a guest: {text}")
    process.returncode = 0  # it goes on by itself
    return folder


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """The process: settings are read from the standard input."""
    fields = json.loads(sys.stdin.buffer.read(MAX_MESSAGE_BYTES))
    answer = Answer(int(fields.pop("answer")))
    settings = KeptSettings(**fields)
    folder = guests_folder() / settings.id
    while lock_unused_folder(folder) is None:  # another process starts it, or has it, or removes it
        if answer.is_abandoned():
            return
        if end := connect(folder):
            end.close()
            answer.send("ready")
            return
        time.sleep(POLL_S)
    try:
        anyio.run(_serve, settings, folder, answer)
    except BaseException as error:
        answer.send(_described(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _described(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, BootmatrixError) else f"{type(error).__name__}: {error}"


async def _serve(settings: KeptSettings, folder: Path, answer: Answer) -> None:
    """Boot and serve until its end, a signal, or its starter's early end."""
    selection = Selection(**{name: _frozen(value) for name, value in settings.selection.items()})
    workspace = Workspace(**{name: _workspace_value(name, value) for name, value in settings.workspace.items()})
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_by_signal, signals, tasks.cancel_scope)
            tasks.start_soon(_end_with_starter, answer, tasks.cancel_scope)
            async with workspace.guest(
                settings.name,
                arch=settings.arch,
                kernel=settings.kernel,
                selection=selection,
                modules=settings.modules,
                observer=LineObserver(answer.note),
            ) as guest:
                await KeptServer(settings, folder, guest).run(lambda: answer.send("ready"))
            tasks.cancel_scope.cancel()


async def _end_by_signal(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


async def _end_with_starter(answer: Answer, scope: anyio.CancelScope) -> None:
    while not answer.is_abandoned():
        await anyio.sleep(POLL_S)
    scope.cancel()


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _workspace_value(name: str, value: Any) -> Any:
    return Path(value) if value is not None and name in {"cache", "reports", "lock"} else _frozen(value)


class KeptServer:
    """A kept guest with its commands."""

    def __init__(self, settings: KeptSettings, folder: Path, guest: Guest) -> None:
        self._settings, self._folder, self._guest = settings, folder, guest
        self._files = GuestFiles()
        self._keep_s = settings.keep_s
        self._info: dict[str, Any] = {}
        self._used = 0
        self._idle_since = anyio.current_time()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until unused for its time, its end, or a stop.

        `on_ready` is called when others can find it.
        """
        release = self._guest.facts.partition(" ")[0]
        self._info = {**vars(self._settings), "version": __version__, "pid": os.getpid(), "started": time.time()}
        self._info["release"] = release
        self._write_info()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
            with socket_folder(self._folder) as place:
                listener.bind(f"{place}/{NEW_SOCKET}")
            listener.listen(64)
            (self._folder / NEW_SOCKET).rename(self._folder / SOCKET)
            on_ready()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._end_when_idle, tasks.cancel_scope)
                tasks.start_soon(self._end_with_guest, tasks.cancel_scope)
                while True:
                    await anyio.wait_readable(listener)
                    with suppress(BlockingIOError):
                        end, _ = listener.accept()
                        tasks.start_soon(self._serve_client, end, tasks.cancel_scope)

    def keep(self, text: str) -> None:
        """Keep the guest for this duration after its last use.

        Raises InputError if it is not a duration.
        """
        self._keep_s = duration_s(text, "--keep-alive")
        self._info["keep_s"] = self._keep_s
        self._write_info()

    def _write_info(self) -> None:
        draft = self._folder / f"{INFO}.new"
        draft.write_text(json.dumps(self._info), encoding="utf-8")
        draft.rename(self._folder / INFO)

    async def _end_when_idle(self, scope: anyio.CancelScope) -> None:
        while self._used or anyio.current_time() < self._idle_since + self._keep_s:
            await anyio.sleep(0.2)
        scope.cancel()

    async def _end_with_guest(self, scope: anyio.CancelScope) -> None:
        await self._guest.ended()
        with anyio.move_on_after(LAST_WORDS_S):
            while self._used:
                await anyio.sleep(POLL_S)
        scope.cancel()

    async def _serve_client(self, end: socket.socket, scope: anyio.CancelScope) -> None:
        self._used += 1
        try:
            with end:
                end.setblocking(False)
                if _user_of(end) == os.getuid():
                    await _Client(end, self._guest, self._files, scope, self.keep).serve()
        finally:
            self._used -= 1
            self._idle_since = anyio.current_time()


def _user_of(end: socket.socket) -> int:
    _, uid, _ = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


class _Client:
    """A process that runs a command."""

    def __init__(
        self,
        end: socket.socket,
        guest: Guest,
        files: GuestFiles,
        scope: anyio.CancelScope,
        keep: Callable[[str], None],
    ) -> None:
        self._end, self._guest, self._files, self._scope, self._keep = end, guest, files, scope, keep
        self._descriptors: list[int] = []

    async def serve(self) -> None:
        """Serve its first message."""
        try:
            message = await self._receive()
            if message and message.get("stop"):
                self._scope.cancel()
            elif message and "job" in message and len(self._descriptors) == STREAMS:
                await self._run(ExecJob.from_json(message["job"]))
            elif message and "copy" in message:
                await self._answer(self._copy(**message["copy"]))
            elif message and "own" in message:
                await self._be_owned()
            elif message and "describe" in message:
                await self._send({"status": 0, "description": self._guest.description})
            elif message and "list_only" in message:
                self._guest.list_only([str(name) for name in message["list_only"]])
                await self._send({"status": 0})
            elif message and "forward" in message:
                await self._answer(self._forward(message["forward"]))
        except (ValueError, TypeError, KeyError):
            return
        finally:
            for descriptor in self._descriptors:
                with suppress(OSError):
                    os.close(descriptor)

    async def _run(self, job: ExecJob) -> None:
        result = ExecResult(OUR_STATUS, ("the guest was stopped",), is_fault=True)
        async with anyio.create_task_group() as tasks:
            controls, received = anyio.create_memory_object_stream[Control](64)
            tasks.start_soon(self._read_controls, controls, tasks.cancel_scope)
            stdin, stdout, stderr = self._descriptors
            try:
                if job.keep:
                    self._keep(job.keep)
                streams = CommandStreams(stdin, stdout, stderr)
                result = await run_job(
                    self._guest, job, streams, received, self._files, partial(self._send, {"started": True})
                )
            except BootmatrixError as error:
                result = ExecResult(OUR_STATUS, (str(error),), is_fault=True)
            await self._send({"status": result.status, "messages": result.messages, "fault": result.is_fault})
            tasks.cancel_scope.cancel()

    async def _be_owned(self) -> None:
        """Stop the guest when the other end is closed, however its process ends."""
        await self._send({"status": 0})
        while await self._receive():
            pass
        self._scope.cancel()

    async def _answer(self, work: Awaitable[tuple[str, ...]]) -> None:
        try:
            messages, status = await work, 0
        except BootmatrixError as error:
            messages, status = (str(error),), OUR_STATUS
        await self._send({"status": status, "messages": messages})

    async def _copy(self, direction: str, here: str, there: str, exact: bool = False) -> tuple[str, ...]:
        if direction == "get":
            return tuple(await self._guest.get(there, here, exact=exact))
        await self._guest.put(here, there, exact=exact)
        return ()

    async def _forward(self, ports: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """Forward ports until the other end is closed."""
        async with AsyncExitStack() as stack:
            for port in ports:
                made = self._guest.forward(port["there"], local_port=int(port["local"]))
                address = await stack.enter_async_context(made)
                await self._send({"messages": [f"{address} leads to {port['there']} of the guest"]})
            while await self._receive():
                pass
        return ()

    async def _read_controls(self, controls: Any, scope: anyio.CancelScope) -> None:
        """Pass signals and sizes on; a client that is gone cancels its command."""
        while message := await self._receive():
            size = TerminalSize(int(message["rows"]), int(message["columns"])) if "rows" in message else None
            with suppress(anyio.WouldBlock):
                controls.send_nowait(Control(int(message.get("signal", 0)), size))
        scope.cancel()

    async def _receive(self) -> dict[str, Any] | None:
        head = await self._read(LENGTH.size)
        size = LENGTH.unpack(head)[0] if head else 0
        data = await self._read(size) if 0 < size <= MAX_MESSAGE_BYTES else b""
        return dict(json.loads(data)) if data else None

    async def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            await anyio.wait_readable(self._end)
            try:
                part, descriptors, _, _ = socket.recv_fds(self._end, size - len(data), STREAMS)
            except BlockingIOError:
                continue
            except OSError:
                return b""
            self._descriptors += descriptors
            if not part:
                return b""
            data += part
        return bytes(data)

    async def _send(self, message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode("utf-8", "surrogateescape")
        view = memoryview(LENGTH.pack(len(data)) + data)
        with suppress(OSError):
            while view:
                await anyio.wait_writable(self._end)
                view = view[self._end.send(view) :]

"""Large result files, which the agent sends after services have stopped."""

from __future__ import annotations

import base64
import binascii
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import AgentError, GuestFileError, InputError
from bootmatrix.guest import commands
from bootmatrix.guest.archive import ArchiveReceiver
from bootmatrix.guest.client import AgentClient
from bootmatrix.guest.frames import AgentFault
from bootmatrix.guest.requests import GuestRequest
from bootmatrix.model import Bootable, CollectedFile, GuestMessage, Machine
from bootmatrix.runs.result_names import FILES_FOLDER, harmless_name, plain_name

MAX_MATCHES = 256
"""Paths of one pattern."""
MAX_FILES = 10_000
"""Of all; what is beyond them counts as not fetched."""
MAX_ENTRIES = 100_000
"""Files, folders and links of all trees: their headers take room beside what the limits count."""
PATTERN = re.compile(r"[*?\[]")
CONTAINERS = "/containers"


@dataclass(frozen=True)
class CollectLimits:
    """Bytes of one file that the spec names, and of all files of a cell."""

    file_bytes: int = 64 << 20
    total_bytes: int = 1 << 30

    @classmethod
    def of(cls, limit_bytes: int | None) -> CollectLimits:
        """Make the limits of a user's one limit."""
        return cls() if limit_bytes is None else cls(limit_bytes, limit_bytes)


def with_collection(bootable: Bootable, machine: Machine) -> Bootable:
    """Give a guest an agent at its end, if it has result files and a port."""
    if not bootable.results or not bootable.reports or bootable.agent or machine.result != "virtio-serial":
        return bootable
    return bootable.model_copy(update={"agent": "collect"})


@dataclass(frozen=True)
class _Wanted:
    """An incomplete result file. `number` is that of its message."""

    number: int
    container: str
    path: str
    root: str
    is_file: bool


def _wanted(messages: Sequence[GuestMessage]) -> Iterator[_Wanted]:
    """Yield the files to fetch.

    Messages of init are authentic, but containers choose none of their words.
    """
    number, is_file = -1, False
    for message in messages:
        if message.kind == "file" and len(message.words) > 2:
            number, is_file = number + 1, message.words[2] != "tree"
        elif message.kind == "more" and len(message.words) == 3:
            container, path64, folder = message.words
            with suppress(binascii.Error):  # of a guest whose kernel was taken over: the file is missing then
                path = base64.b64decode(path64, validate=True).decode("utf-8", "surrogateescape")
                yield _Wanted(number, container, path, f"{CONTAINERS}/{folder}/rootfs", is_file)


class Collector:
    """Fetch what init has announced. `heard` is called as data come."""

    def __init__(self, client: AgentClient, folder: Path, limits: CollectLimits, heard: Callable[[], None]) -> None:
        self.files: list[CollectedFile] = []
        self._client, self._folder, self._limits, self._heard = client, folder, limits, heard
        self._left, self._entries = limits.total_bytes, MAX_ENTRIES

    async def run(self, messages: Sequence[GuestMessage]) -> None:
        """Fetch all and let the guest go on, again if its agent starts again.

        A guest that has ended is judged: what is missing is known.

        Raises OSError if it cannot write it.
        """
        while await self._is_there():
            with suppress(AgentError):
                await self._collect_all(messages)
                break

    async def _is_there(self) -> bool:
        with suppress(AgentError):
            await self._client.ready()
            return True
        return False

    async def _collect_all(self, messages: Sequence[GuestMessage]) -> None:
        shutil.rmtree(self._folder / FILES_FOLDER, ignore_errors=True)
        self.files.clear()
        self._left, self._entries = self._limits.total_bytes, MAX_ENTRIES
        for wanted in _wanted(messages):
            if len(self.files) < MAX_FILES:
                await self._collect(wanted)
        await self._client.shutdown()

    async def _collect(self, wanted: _Wanted) -> None:
        paths = [wanted.path] if wanted.is_file or not PATTERN.search(wanted.path) else await self._matches(wanted)
        for index, path in enumerate(paths[:MAX_MATCHES]):
            number = f"{wanted.number}" if len(paths) == 1 else f"{wanted.number}.{index}"
            self.files.append(await self._fetch(wanted, path, f"{number}-{plain_name(wanted.container, path)}"))
        if not paths:
            self._lack(wanted, "nothing matches it")
        elif len(paths) > MAX_MATCHES:
            self._lack(wanted, f"more than {MAX_MATCHES} files match it")

    def _lack(self, wanted: _Wanted, fault: str) -> None:
        self.files.append(
            CollectedFile(container=wanted.container, asked=_text(wanted.path), path=_text(wanted.path), fault=fault)
        )

    async def _matches(self, wanted: _Wanted) -> list[str]:
        output = await commands.run_command(self._client, GuestRequest("glob", [wanted.path], wanted.root))
        self._heard()
        paths = output.out.decode("utf-8", "surrogateescape").split("\0")[:-1]
        return [path for path in paths if path.startswith("/")]

    async def _fetch(self, wanted: _Wanted, path: str, name: str) -> CollectedFile:
        limit = min(self._left, self._limits.file_bytes) if wanted.is_file else self._left
        folder = self._folder / FILES_FOLDER
        folder.mkdir(exist_ok=True)
        plain, tar = folder / harmless_name(name), folder / f"{name}.tar"
        receiver = ArchiveReceiver(_text(path), plain, tar, limit, self._entries)
        fault = ""
        try:
            await self._receive(receiver, GuestRequest("get", [str(limit), path], wanted.root))
        except (GuestFileError, InputError) as error:
            fault = error.message
        except AgentFault as error:
            fault = f"the guest's agent does not keep to its protocol: {error}"
        finally:
            receiver.close()
        self._left -= receiver.size_bytes
        self._entries -= receiver.entries
        saved = receiver.path
        return CollectedFile(
            container=wanted.container,
            asked=_text(wanted.path),
            path=_text(path),
            file=f"{FILES_FOLDER}/{saved.name}" if saved else "",
            is_tree=receiver.is_tree,
            size_bytes=receiver.size_bytes,
            files=receiver.files,
            cut=receiver.cut or (fault if saved else ""),
            fault=receiver.lack if saved else fault or "it was not sent",
            notes=tuple(map(_text, receiver.notes)),
        )

    async def _receive(self, receiver: ArchiveReceiver, request: GuestRequest) -> None:
        async with commands.channel_of(self._client, request) as channel:
            while data := await channel.receive():
                self._heard()
                receiver.feed(data)
            end = await channel.wait()
        if end.status:
            raise GuestFileError(f"its end has status {end.status}")
        receiver.finish()


def _text(text: str) -> str:
    """Return a text of the guest as one that can be written anywhere."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")[:4096]

"""`extends:` in profiles: an architecture or a machine that shares most of another says only what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.load.document import Document, Location, read_document
from bootmatrix.load.flavours import apply_flavours
from bootmatrix.load.validate import suggest

EXTENDS = "extends"
NULLS = ("null", "~")
"""What is written where a value is not to be taken over; to write nothing may be an oversight, and stays a fault."""
NOT_SHARED = ("machines", "aliases", "description", "efi", "bios", "card", "without_disk")
"""What an architecture has for itself, whatever it extends."""
MAX_EXTENDS = 32
"""Profiles that extend each other in a chain, and their machines."""
JOINED = ("names",)
"""What an architecture takes over key by key; all else is taken over whole or not at all."""


def extend(document: Document, files: Mapping[str, Path]) -> None:
    """Put into a profile's document what it takes over from others. Faults are noted in it.

    `files` has the profiles by name. A profile's `extends` names another one; a machine's names a machine of the same
    file, or `arch/machine`. What was taken over stands at the line of its `extends`. A key that is null is not taken
    over: it is as if neither of them said it.
    """
    _Extender(files).profile(document)


class _Extender:
    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self.documents: dict[str, Document] = {}
        self.begun: list[Location] = []

    def profile(self, document: Document) -> None:
        with self.once(document, (), (EXTENDS,)):
            name = document.data.pop(EXTENDS, None)
            other = None if name is None else self.document(document, (EXTENDS,), name)
            for key, value in other.data.items() if other else ():
                if key not in NOT_SHARED:
                    self.share(document, (EXTENDS,), (key,), value)
            for board, machine in _machines(document).items():
                if isinstance(machine, dict):
                    self.machine(document, board)
            apply_flavours(document)

    def machine(self, document: Document, board: str) -> None:
        place: Location = ("machines", board, EXTENDS)
        with self.once(document, place[:2], place):
            name = document.data["machines"][board].pop(EXTENDS, None)
            other = {} if name is None else self.other_machine(document, place, name)
            for key, value in other.items():
                self.share(document, place, (*place[:2], key), value)

    def other_machine(self, document: Document, place: Location, name: Any) -> dict[str, Any]:
        """A machine that one of the document extends, complete with what it extends itself."""
        arch, slash, board = str(name).rpartition("/")
        other = self.document(document, place, arch) if slash else document
        if other is None:
            return {}
        machines = _machines(other)
        if not isinstance(machines.get(board), dict):
            document.complain(place, f"there is no machine {name!r} to extend.{suggest(board, machines)}")
            return {}
        if other is document:
            self.machine(document, board)
        return dict(machines[board])

    def document(self, document: Document, place: Location, name: Any) -> Document | None:
        """Another profile's document, complete with what it extends itself."""
        if str(name) not in self.files:
            document.complain(place, f"there is no architecture {name!r} to extend.{suggest(str(name), self.files)}")
            return None
        if name not in self.documents:
            try:
                other = self.documents[name] = read_document(self.files[name])
                self.profile(other)
                other.raise_faults()
            except InputError as error:
                document.complain(place, f"what it extends is faulty:\n{error.message}")
        return self.documents.get(name)

    @contextmanager
    def once(self, document: Document, what: Location, place: Location) -> Iterator[None]:
        """Complain, and stop, where something extends itself by a detour."""
        thing = (document.path, *what)
        if thing in self.begun:
            document.complain(place, "what it extends extends it in turn")
        if len(self.begun) >= MAX_EXTENDS:
            document.complain(place, f"it extends others that extend others, more than {MAX_EXTENDS} deep")
            document.raise_faults()
        self.begun.append(thing)
        yield
        self.begun.pop()

    def share(self, document: Document, place: Location, target: Location, value: Any) -> None:
        """Take a value over, unless the document has its own at that place, or a null: then neither counts."""
        around: Any = document.data
        for key in target[:-1]:
            around = around[key]
        own = around.get(target[-1])
        if target[-1] not in around:
            around[target[-1]] = value
            document.lines[target] = document.line(place)
        elif document.texts.get(target, "").lower() in NULLS:
            del around[target[-1]], document.faults[target]
        elif target[0] in JOINED and isinstance(own, dict) and isinstance(value, dict):
            around[target[-1]] = value | own


def _machines(document: Document) -> dict[str, Any]:
    machines = document.data.get("machines")
    return machines if isinstance(machines, dict) else {}

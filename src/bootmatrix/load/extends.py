"""Profiles that share definitions: `extends:`, and `flavour:` of kernels."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.load.document import Document, Location, read_document
from bootmatrix.load.validate import suggest

EXTENDS = "extends"
NULLS = ("null", "~")
"""Words for null. An empty value may be an oversight, and remains a fault."""
NOT_SHARED = ("machines", "aliases", "description", "efi", "bios", "card", "without_disk")
"""Keys of a profile that are never inherited."""
MAX_EXTENDS = 32
"""Limit of nested `extends`, for profiles and machines."""
JOINED = ("names",)
"""Keys of a profile that are merged key by key; others are inherited as a whole."""


def extend(document: Document, files: Mapping[str, Path]) -> None:
    """Merge extended definitions into a profile's document; note faults.

    `files` has the profiles by name. A profile's `extends` names another profile; a machine's names a machine of
    the same file, or `arch/machine`. Inherited values have the line of their `extends`. A null key is not
    inherited: it counts as absent.
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
        """Return a machine to extend, with its own `extends` resolved."""
        arch, slash, board = str(name).rpartition("/")
        other = self.document(document, place, arch) if slash else document
        if other is None:
            return {}
        machines = _machines(other)
        if not isinstance(machines.get(board), dict):
            document.complain(place, f"unknown machine {name!r} to extend.{suggest(board, machines)}")
            return {}
        if other is document:
            self.machine(document, board)
        return dict(machines[board])

    def document(self, document: Document, place: Location, name: Any) -> Document | None:
        """Return another profile's document, with its own `extends` resolved."""
        if str(name) not in self.files:
            document.complain(place, f"unknown architecture {name!r} to extend.{suggest(str(name), self.files)}")
            return None
        if name not in self.documents:
            try:
                other = self.documents[name] = read_document(self.files[name])
                self.profile(other)
                other.raise_faults()
            except InputError as error:
                document.complain(place, f"the extended definition is invalid:\n{error.message}")
        return self.documents.get(name)

    @contextmanager
    def once(self, document: Document, target: Location, place: Location) -> Iterator[None]:
        """Note a fault, and stop, at a circular `extends`."""
        thing = (document.path, *target)
        if thing in self.begun:
            document.complain(place, "circular 'extends'")
        if len(self.begun) >= MAX_EXTENDS:
            document.complain(place, f"'extends' is nested more than {MAX_EXTENDS} deep")
            document.raise_faults()
        self.begun.append(thing)
        yield
        self.begun.pop()

    def share(self, document: Document, place: Location, target: Location, value: Any) -> None:
        """Inherit a value, unless the document has its own, or a null, which is removed."""
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


FLAVOUR, KERNELS = "flavour", "kernels"


def apply_flavours(document: Document) -> None:
    """Apply the default `flavour` of a machine or profile to kernels without one.

    A machine with a flavour and without kernels inherits the profile's kernels that have none. Faults are noted in
    the document.
    """
    profile_kernels = document.data.get(KERNELS)
    default = _take(document, (), document.data)
    machines = document.data.get("machines")
    for board, machine in machines.items() if isinstance(machines, dict) else ():
        if isinstance(machine, dict):
            place: Location = ("machines", board)
            flavour = _take(document, place, machine)
            if flavour:
                machine.setdefault(KERNELS, _without_flavour(profile_kernels))
            _fill(document, place, machine, flavour or default)
    _fill(document, (), document.data, default)


def _take(document: Document, place: Location, owner: dict[str, Any]) -> str:
    """Remove and return the flavour of a machine or profile; empty if it has none."""
    flavour = owner.pop(FLAVOUR, "")
    if isinstance(flavour, str):
        return flavour
    if (*place, FLAVOUR) not in document.faults:
        document.complain((*place, FLAVOUR), f"{FLAVOUR!r} should be text. Put it in quotes if it is a number")
    return ""


def _without_flavour(kernels: Any) -> Any:
    if not isinstance(kernels, dict):
        return kernels
    return {name: kernel for name, kernel in kernels.items() if not (isinstance(kernel, dict) and FLAVOUR in kernel)}


def _fill(document: Document, place: Location, owner: dict[str, Any], flavour: str) -> None:
    """Replace the kernels: machines that extend each other share theirs."""
    kernels = owner.get(KERNELS)
    if not (flavour and isinstance(kernels, dict)):
        return
    line = document.line((*place, FLAVOUR))
    document.lines.setdefault((*place, KERNELS), line)
    for name, kernel in kernels.items():
        if isinstance(kernel, dict) and FLAVOUR not in kernel:
            document.lines[(*place, KERNELS, name, FLAVOUR)] = line
    owner[KERNELS] = {
        name: {FLAVOUR: flavour, **kernel} if isinstance(kernel, dict) else kernel for name, kernel in kernels.items()
    }

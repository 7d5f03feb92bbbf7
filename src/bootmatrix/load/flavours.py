"""`flavour:` of a profile or a machine: the default of its kernels, written into each of them."""

from __future__ import annotations

from typing import Any

from bootmatrix.load.document import Document, Location

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
    """Replace the kernels, not change them: machines that extend each other share theirs."""
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

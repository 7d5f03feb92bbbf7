"""Results of earlier runs, small enough to be kept beside the profiles."""

from bootmatrix.model.base import Board, Model, Name
from bootmatrix.model.cell import BootKind
from bootmatrix.model.verdict import Verdict


class Seen(Model):
    """The latest result of one cell.

    `cell` is its id; `release` the kernel's and `qemu` the emulator's version, both empty if nothing was booted.
    `reason` is empty for a pass. `at` is RFC 3339, in UTC.
    """

    cell: str
    spec: Name
    arch: Name
    machine: Board
    kernel: Name
    verdict: Verdict
    reason: str = ""
    release: str = ""
    qemu: str = ""
    boot: BootKind = "cold"
    at: str


class SeenCells(Model):
    """The file. `format` is the version of this layout."""

    format: int = 1
    cells: tuple[Seen, ...] = ()

"""Files that users keep: locks, and known results by machine."""

from typing import Annotated

from pydantic import StringConstraints

from bootmatrix.model.base import Board, Model, Name
from bootmatrix.model.cell import BootKind
from bootmatrix.model.kernel import Kernel, Package
from bootmatrix.model.verdict import Verdict

ImageDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class Lock(Model):
    """Pinned versions.

    `kernels` by `debian-architecture/flavour/kernel name`; `packages` by `debian-architecture`, then by name;
    `images`: digests `sha256:…` of registry images, by whole names with a tag. `unreproducible`: inputs that no lock
    can pin, by `spec/input`.
    """

    format: int = 1
    kernels: dict[str, Kernel]
    packages: dict[str, dict[str, Package]]
    images: dict[str, ImageDigest] = {}
    unreproducible: dict[str, str] = {}


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

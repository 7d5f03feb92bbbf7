"""What a run leaves behind: one record a cell."""

from __future__ import annotations

from bootmatrix.model.artefact import Artefact, Bootable
from bootmatrix.model.base import Model
from bootmatrix.model.cell import Cell
from bootmatrix.model.kernel import Kernel
from bootmatrix.model.outcome import Outcome
from bootmatrix.model.profile import Machine
from bootmatrix.model.verdict import Judgement, Verdict


class PhaseTime(Model):
    """How long a part of a cell took, in seconds from the start of the part before."""

    name: str
    seconds: float


class ResultFile(Model):
    """A file that a container left, as the guest sent it. `file` is relative to the run's folder.

    `size_bytes` is what the guest says of the whole; the file here may be only its beginning.
    """

    container: str
    path: str
    file: str
    size_bytes: int
    is_cut: bool = False


class Record(Model):
    """One cell of a run, complete. `command` repeats the boot by hand; `console` is a file beside the record.

    `expected` is false for a cell that stands in the way of exit status 0: a guest verdict other than pass that no
    `expect` names, or a pass that one does. `machine_profile` and `bootable` are what the verdict was reached with, so
    that it can be reached again. `spec_sha256` is a digest of what the spec says, empty where it was not recorded.
    """

    cell: Cell
    judgement: Judgement
    expected: bool
    outcome: Outcome | None = None
    kernel: Kernel | None = None
    artefacts: tuple[Artefact, ...] = ()
    phases: tuple[PhaseTime, ...] = ()
    command: tuple[str, ...] = ()
    cmdline: str = ""
    qemu_version: str = ""
    console: str = ""
    files: tuple[ResultFile, ...] = ()
    notes: tuple[str, ...] = ()
    attempts: int = 1
    started_at: str
    wall_s: float
    spec_sha256: str = ""
    machine_profile: Machine | None = None
    bootable: Bootable | None = None

    @property
    def verdict(self) -> Verdict:
        """The judgement's verdict."""
        return self.judgement.verdict


class Run(Model):
    """One execution of a matrix. Times are RFC 3339 in UTC; `format` is this layout's version.

    `ended_at` is empty for a run that was killed; `unfinished` names the cells that had begun and have no record.
    `baseline` is the name of the run that it was compared with, if any.
    """

    format: int = 1
    name: str
    title: str
    tool_version: str
    started_at: str
    ended_at: str = ""
    wall_s: float = 0
    interrupted: bool = False
    host: dict[str, str] = {}
    baseline: str = ""
    records: tuple[Record, ...] = ()
    unfinished: tuple[str, ...] = ()

"""Options of a run, and a run that came to its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.history.values import Past
from bootmatrix.model import Run

if TYPE_CHECKING:
    from bootmatrix.cell.held import HoldGuest
    from bootmatrix.errors import HostError


@dataclass(frozen=True)
class RunOptions:
    """Options of executing and reporting a run.

    `jobs` is the number of the host's cores to use, None for all. `dump` keeps the memory of guests that hang, panic or
    time out; `explain_hang` boots kernels that hang a second time. `single_file` embeds the consoles in report.html.
    `baseline` names a run to compare with; `regressions` selects the last good one otherwise. `executor` is the name of
    an executor, empty for that of this host, `cluster` the file of its machines. `branch` and `commit` are under test.
    `hold` uses guests that have failed, before they end: GuestHolder.
    """

    jobs: int | None = None
    dump: bool = False
    explain_hang: bool = False
    single_file: bool = False
    baseline: str = ""
    regressions: bool = False
    executor: str = ""
    cluster: str = ""
    branch: str = ""
    commit: str = ""
    hold: HoldGuest | None = None


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to its end, its folder, and what is known beside it.

    `fault` is set if a file of it could not be written, such as on a full disk.
    """

    run: Run
    folder: Path
    past: Past
    fault: HostError | None = None

"""A run in a folder: its records, judged again, compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cell.rejudge import rejudge
from bootmatrix.history.lookup import past_of_run, results_at
from bootmatrix.history.reference import RunLocation, find_run
from bootmatrix.model import Judgement, Record, Run
from bootmatrix.runs.consoles import read_console
from bootmatrix.runs.run_store import load_run

if TYPE_CHECKING:
    from bootmatrix.history.values import Comparison


@dataclass(frozen=True)
class SavedRun:
    """A run on disk: its folder, and what it says."""

    folder: Path
    run: Run

    @classmethod
    def load(cls, name: str | Path, reports: str | Path = "reports") -> SavedRun:
        """Load a run by folder, name in `reports`, `latest`, or `tag:NAME`.

        Raises InputError if it is not found, or damaged.
        """
        folder = find_run(Path(reports), str(name)).folder
        return cls(folder, load_run(folder))

    @property
    def records(self) -> tuple[Record, ...]:
        """One record for each cell."""
        return self.run.records

    @property
    def is_good(self) -> bool:
        """True if something was tested, and every cell is as expected."""
        return self.run.is_good

    def console(self, record: Record) -> bytes:
        """Read the console of a record. Raises InputError if it is missing."""
        return read_console(self.folder, record)

    def rejudge(self) -> list[tuple[Record, Judgement]]:
        """Judge a run's cells again. Raises InputError without a console."""
        return list(rejudge(self.run, self.folder))

    def compare(self, baseline: SavedRun) -> Comparison | None:
        """Compare with a baseline. Raises InputError if one is unreadable."""
        folder = self.folder.resolve()
        other = baseline.folder.resolve()
        results = results_at(RunLocation(other.parent, other.name))
        return past_of_run(RunLocation(folder.parent, folder.name), self.run, results, compared=True).comparison

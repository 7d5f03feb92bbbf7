"""Input of the report forms."""

from dataclasses import dataclass
from functools import cached_property

from bootmatrix.history.values import NO_PAST, CellChange, Past
from bootmatrix.model import Record, Run
from bootmatrix.report.cell_view import ReadConsole
from bootmatrix.report.order import cell_order
from bootmatrix.report.view import ReportView, view_run


@dataclass(frozen=True)
class ReportContext:
    """A run, its consoles and its history."""

    run: Run
    read_console: ReadConsole
    past: Past = NO_PAST

    @cached_property
    def view(self) -> ReportView:
        """The view that human-readable reports render."""
        return view_run(self.run, self.read_console, self.past)

    @property
    def records(self) -> list[Record]:
        """The records in report order."""
        return sorted(self.run.records, key=lambda record: cell_order(record.cell))

    @cached_property
    def changes(self) -> dict[str, CellChange]:
        """The changes since the baseline, by cell id."""
        return self.past.comparison.by_id() if self.past.comparison else {}

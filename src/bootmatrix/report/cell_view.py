"""What the report shows of one cell. Pure, but for its console, which is read when it is asked for."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bootmatrix.history.values import NO_PAST, CellChange, CellHistory, Past
from bootmatrix.model import Evidence, Record, Verdict
from bootmatrix.report.cell_parts import (
    FEW_SUBRESULTS,
    ArtefactView,
    DiagnosticView,
    EvidenceView,
    FileView,
    PhaseView,
    SubResultView,
    TroubleView,
    TryView,
    all_pass,
    command_line,
    count_subresults,
    facts,
    failures_first,
    href_of,
    view_artefacts,
    view_diagnostic,
    view_file,
    view_packages,
    view_phases,
    view_subresult,
    view_trouble,
    view_try,
)
from bootmatrix.report.console_view import ConsoleView, Extent, last_lines, view_console
from bootmatrix.report.failure_pattern import Family, pattern
from bootmatrix.report.history_view import HistoryMark, HistoryView, change_lines, marks, view_history
from bootmatrix.report.order import cell_time, remark
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.report.units import duration

PAGE_FILE = "cell.html"
"""A cell's own page, beside its record."""

ReadConsole = Callable[[Record], bytes | None]
"""A record's console; None if it is missing."""


@dataclass(frozen=True)
class Surroundings:
    """What is known around a cell: the others, its past, its console, and how much of that is to be shown.

    `has_pages` says that each cell has a page of its own, which has the whole console.
    """

    read_console: ReadConsole
    families: Mapping[str, Family] = field(default_factory=dict)
    changes: Mapping[str, CellChange] = field(default_factory=dict)
    past: Past = NO_PAST
    extent: Extent = Extent.EXCERPT
    has_pages: bool = True


@dataclass(frozen=True)
class CellView:
    """One cell. Each part is made when it is asked for, as a report of thousands of cells asks for few of most."""

    record: Record
    around: Surroundings

    @cached_property
    def id(self) -> str:
        """`spec/arch[/machine]/kernel`."""
        return self.record.cell.id

    @property
    def spec(self) -> str:
        """The spec's name."""
        return self.record.cell.spec_name

    @property
    def target(self) -> str:
        """`arch` or `arch/machine`."""
        return self.record.cell.target

    @property
    def kernel(self) -> str:
        """The kernel's name."""
        return self.record.cell.kernel

    @property
    def verdict(self) -> str:
        """The verdict's word."""
        return self.record.verdict.value

    @cached_property
    def page(self) -> str:
        """Address of the cell's own page, relative to the report; empty if it has none."""
        has_page = self.around.has_pages and self.record.verdict is not Verdict.SKIP
        return href_of(self.record, PAGE_FILE) if has_page else ""

    @cached_property
    def remark(self) -> str:
        """`unexpected` for a pass that nobody expected, `expected` for a failure that was foreseen, or empty."""
        return remark(self.record)

    @property
    def state(self) -> str:
        """`unexpected`, `expected` (a failure that was foreseen) or empty."""
        return self.remark if self.record.expected else "unexpected"

    @property
    def wall_s(self) -> float:
        """How long the guest ran."""
        return cell_time(self.record)

    @property
    def time(self) -> str:
        """The same in words; empty for a skip."""
        return "" if self.record.verdict is Verdict.SKIP else duration(self.wall_s)

    @cached_property
    def reason(self) -> str:
        """The verdict's reason, on one line."""
        return one_line(self.record.judgement.reason)

    @property
    def advice(self) -> str:
        """What to do next."""
        return sanitize(self.record.judgement.advice)

    @property
    def expect(self) -> str:
        """Why it is known not to pass; or empty."""
        return one_line(self.record.cell.expect)

    @cached_property
    def pattern(self) -> str:
        """What a failure has to itself among its siblings, in words."""
        family = self.around.families.get(self.spec)
        return pattern(self.record, family) if family else ""

    @cached_property
    def change(self) -> CellChange | None:
        """How it stands beside the baseline."""
        return self.around.changes.get(self.id)

    @property
    def changes(self) -> tuple[str, ...]:
        """What differs from the baseline, a line each."""
        return tuple(change_lines(self.change)) if self.change else ()

    @cached_property
    def marks(self) -> tuple[HistoryMark, ...]:
        """What its verdict alone does not say."""
        return tuple(marks(self.record, self.change, self._past))

    @property
    def history(self) -> HistoryView | None:
        """Its last verdicts and times; None if they are not known, or this is the first."""
        return view_history(self._past) if self._past and len(self._past.past) > 1 else None

    @property
    def _past(self) -> CellHistory | None:
        return self.around.past.histories.get(self.id)

    @property
    def same_target(self) -> tuple[Record, ...]:
        """The same spec on the same machine with other kernels."""
        return self._siblings(lambda family: family.by_target[self.target])

    @property
    def same_kernel(self) -> tuple[Record, ...]:
        """The same spec with the same kernel on other machines."""
        return self._siblings(lambda family: family.by_kernel[self.kernel])

    def _siblings(self, choose: Callable[[Family], list[Record]]) -> tuple[Record, ...]:
        family = self.around.families.get(self.spec)
        return tuple(one for one in choose(family) if one is not self.record) if family else ()

    @property
    def console(self) -> ConsoleView | None:
        """Its console, read anew each time; None if it never had one."""
        if not self.record.console:
            return None
        data = self.around.read_console(self.record)
        return view_console(self.record, data, self._console_href, self.around.extent)

    def console_end(self, lines: int) -> str:
        """The last lines of its console; empty if there are none."""
        data = self.around.read_console(self.record) if self.record.console else None
        return last_lines(data or b"", lines)

    @property
    def _console_href(self) -> str:
        return href_of(self.record, self.record.console.rpartition("/")[2])

    @property
    def evidence(self) -> tuple[EvidenceView, ...]:
        """What the verdict rests on."""
        return tuple(map(self._observation, self.record.judgement.evidence))

    def _observation(self, one: Evidence) -> EvidenceView:
        return EvidenceView(sanitize(one.source), sanitize(one.text), one.line, self._line_href(one.line))

    def _line_href(self, line: int | None) -> str:
        if line is None or not self.record.console:
            return ""
        return f"{self.page}#L{line}" if self.page else f"#{self.id}:L{line}"

    @property
    def troubles(self) -> tuple[TroubleView, ...]:
        """Faults that the kernel or the firmware told of."""
        return tuple(view_trouble(one, self._line_href(one.line)) for one in self.record.judgement.troubles)

    @property
    def tries(self) -> tuple[TryView, ...]:
        """Every attempt, if there were several."""
        return tuple(view_try(number, one, self.record) for number, one in enumerate(self.record.tries, 1))

    @property
    def phases(self) -> tuple[PhaseView, ...]:
        """The parts that its time went into."""
        return tuple(view_phases(self.record))

    @cached_property
    def subresults(self) -> tuple[SubResultView, ...]:
        """Its sub-results, those that did not pass first."""
        return tuple(map(view_subresult, failures_first(self.record.judgement.subresults)))

    @property
    def sub_summary(self) -> str:
        """`58 pass, 2 fail`."""
        return count_subresults(self.record.judgement.subresults)

    @property
    def sub_open(self) -> bool:
        """Whether they stand open: they are few, or not all passed."""
        found = self.record.judgement.subresults
        return len(found) <= FEW_SUBRESULTS or not all_pass(found)

    @property
    def weak(self) -> str:
        """A warning where the console alone decided, or a container had power over who did."""
        judgement = self.record.judgement
        if judgement.is_weak and judgement.privileged:
            words = sanitize("; ".join(judgement.privileged))
            return f"Containers with power over init or the kernel took part: {words}."
        return "Judged by its console alone, which whatever runs in the guest can print." if judgement.is_weak else ""

    @property
    def diagnostics(self) -> tuple[DiagnosticView, ...]:
        """What was kept of a guest that was stuck."""
        outcome = self.record.outcome
        return tuple(view_diagnostic(one, self.record) for one in outcome.diagnostics) if outcome else ()

    @property
    def files(self) -> tuple[FileView, ...]:
        """Files that its containers left."""
        return tuple(view_file(one, self.record) for one in self.record.files)

    @property
    def commands(self) -> tuple[tuple[str, str], ...]:
        """Commands for a shell, each after what it is for."""
        return tuple(_commands(self.record))

    @property
    def cmdline(self) -> str:
        """The kernel's command line."""
        return sanitize(self.record.cmdline)

    @property
    def release(self) -> str:
        """What `uname -r` says in the guest."""
        return self.record.kernel.release if self.record.kernel else ""

    @property
    def artefacts(self) -> tuple[ArtefactView, ...]:
        """The files that were booted."""
        return tuple(view_artefacts(self.record))

    @property
    def packages(self) -> tuple[ArtefactView, ...]:
        """The packages that the kernel comes from."""
        return tuple(view_packages(self.record))

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What was booted where."""
        return tuple((name, sanitize(value)) for name, value in facts(self.record) if value)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the build."""
        return tuple(map(sanitize, self.record.notes))


def _commands(record: Record) -> Iterable[tuple[str, str]]:
    cell = record.cell
    more = (f"--qemu-args={shlex.join(cell.qemu_args)}",) if cell.qemu_args else ()
    again = ("bootmatrix", "run", cell.spec, "--arch", cell.target, "--kernel", cell.kernel, *more)
    yield "Run it again, its console on the terminal", command_line(again).replace(" \\\n   ", "")
    yield "Look around inside: a shell in the same guest", command_line((*again, "--shell")).replace(" \\\n   ", "")
    if record.command:
        yield "The same boot by hand; with -s -S it waits for a debugger on port 1234", command_line(record.command)

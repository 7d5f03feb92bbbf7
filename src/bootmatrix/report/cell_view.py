"""View of one cell. Pure, except for its console, and kernels.yml's place."""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bootmatrix.history.values import NO_PAST, CellChange, CellHistory, Past
from bootmatrix.model import Cell, Evidence, Record, SubResult, Verdict
from bootmatrix.model.guest_size import AUTO
from bootmatrix.report.cell_parts import (
    FEW_SUBRESULTS,
    Input,
    PhaseView,
    all_pass,
    artefacts,
    command_line,
    count_subresults,
    facts,
    failures_first,
    href_of,
    packages,
    view_phases,
)
from bootmatrix.report.console_view import ConsoleView, Extent, last_lines, most_telling, view_console
from bootmatrix.report.failure_pattern import Family, pattern
from bootmatrix.report.history_view import HistoryMark, HistoryView, change_lines, marks, view_history
from bootmatrix.report.notes import lost_time
from bootmatrix.report.order import cell_time, remark
from bootmatrix.report.product import ContentsView, product_lines, product_words, view_contents
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.report.units import duration

KERNELS = "BOOTMATRIX_KERNELS"
"""The variable with the place of kernels.yml, without which a command finds no custom kernel."""
PAGE_FILE = "cell.html"
"""File name of a cell's page, beside its record."""

ReadConsole = Callable[[Record], bytes | None]
"""Reader of a record's console; it returns None for a missing one."""


@dataclass(frozen=True)
class CellContext:
    """A cell's context: console reader, siblings, changes, history, extent.

    `has_pages` is true if each cell has a page of its own, with the whole console; `has_plain_pages` if plain passes
    have one too.
    """

    read_console: ReadConsole
    families: Mapping[str, Family] = field(default_factory=dict)
    changes: Mapping[str, CellChange] = field(default_factory=dict)
    past: Past = NO_PAST
    extent: Extent = Extent.EXCERPT
    has_pages: bool = True
    has_plain_pages: bool = True


@dataclass(frozen=True)
class CellView:
    """View of a cell, computed on access: large reports need few parts."""

    record: Record
    context: CellContext

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
        """Address of the cell's page, relative to the report; empty without a page."""
        has_page = self.context.has_pages and (self.context.has_plain_pages or self.is_special)
        return href_of(self.record, PAGE_FILE) if has_page and self.record.verdict is not Verdict.SKIP else ""

    @property
    def is_special(self) -> bool:
        """True for all but a plain pass."""
        return self.record.verdict is not Verdict.PASS or bool(self.state or self.marks)

    @cached_property
    def remark(self) -> str:
        """`unexpected` for such a pass, `expected` for such a failure, or empty."""
        return remark(self.record)

    @property
    def state(self) -> str:
        """`unexpected`, `expected` (an expected failure) or empty."""
        return self.remark if self.record.expected else "unexpected"

    @property
    def wall_s(self) -> float:
        """The guest's running time."""
        return cell_time(self.record)

    @property
    def time(self) -> str:
        """The guest's running time in words; empty for a skip."""
        return "" if self.record.verdict is Verdict.SKIP else duration(self.wall_s)

    @cached_property
    def reason(self) -> str:
        """The verdict's reason on one line."""
        return one_line(self.record.judgement.reason)

    @property
    def advice(self) -> str:
        """The advice on the next step."""
        return sanitize(advice_of(self.record))

    @property
    def expect(self) -> str:
        """The reason for which a failure is expected, or empty."""
        return one_line(self.record.cell.expect)

    @property
    def lost_time(self) -> tuple[str, ...]:
        """Services that ignored SIGTERM and a wait for the host, with the time."""
        return tuple(lost_time(self.record))

    @cached_property
    def pattern(self) -> str:
        """The pattern of a failure among its sibling cells, in words."""
        family = self.context.families.get(self.spec)
        return pattern(self.record, family) if family else ""

    @cached_property
    def change(self) -> CellChange | None:
        """The change since the baseline."""
        return self.context.changes.get(self.id)

    @property
    def changes(self) -> tuple[str, ...]:
        """The differences from the baseline, one per line."""
        return tuple(change_lines(self.change)) if self.change else ()

    @cached_property
    def marks(self) -> tuple[HistoryMark, ...]:
        """Marks that qualify the verdict."""
        return tuple(marks(self.record, self.change, self._past))

    @property
    def history(self) -> HistoryView | None:
        """The cell's last verdicts and times; None without at least two."""
        return view_history(self._past) if self._past and len(self._past.past) > 1 else None

    @property
    def _past(self) -> CellHistory | None:
        return self.context.past.histories.get(self.id)

    @property
    def same_target(self) -> tuple[Record, ...]:
        """Records of the same spec and machine with other kernels."""
        return self._siblings(lambda family: family.by_target[self.target])

    @property
    def same_kernel(self) -> tuple[Record, ...]:
        """Records of the same spec and kernel on other machines."""
        return self._siblings(lambda family: family.by_kernel[self.kernel])

    def _siblings(self, choose: Callable[[Family], list[Record]]) -> tuple[Record, ...]:
        family = self.context.families.get(self.spec)
        return tuple(record for record in choose(family) if record is not self.record) if family else ()

    @property
    def console(self) -> ConsoleView | None:
        """The console, read on each access; None if the cell has none."""
        if not self.record.console:
            return None
        data = self.context.read_console(self.record)
        return view_console(self.record, data, self.console_href, self.context.extent)

    def console_end(self, lines: int) -> str:
        """Return the last lines of the console; empty without a console."""
        data = self.context.read_console(self.record) if self.record.console else None
        return last_lines(data or b"", lines)

    @property
    def console_href(self) -> str:
        """Address of the console; empty without one."""
        return self.href(self.record.console.rpartition("/")[2])

    @property
    def console_evidence(self) -> Evidence | None:
        """The line of the console that tells most, for a card."""
        pieces = [piece for piece in self.record.judgement.evidence if piece.source == "console"]
        return most_telling(self.record, pieces)

    def href(self, file: str) -> str:
        """Return the address of a file beside the record; empty for none."""
        return href_of(self.record, *file.split("/")) if file else ""

    def line_href(self, line: int | None) -> str:
        """Return the address of a console's line; empty for none."""
        if line is None or not self.record.console:
            return ""
        return f"{self.page}#L{line}" if self.page else f"#{self.id}:L{line}"

    @property
    def phases(self) -> tuple[PhaseView, ...]:
        """The phases of the cell's time."""
        return tuple(view_phases(self.record))

    @cached_property
    def subresults(self) -> tuple[SubResult, ...]:
        """Sub-results, failures first."""
        return tuple(failures_first(self.record.judgement.subresults))

    @property
    def sub_summary(self) -> str:
        """Sub-results counted by verdict: `58 pass, 2 fail`."""
        return count_subresults(self.record.judgement.subresults)

    @property
    def sub_open(self) -> bool:
        """True if the sub-results start unfolded: few, or not all passed."""
        results = self.record.judgement.subresults
        return len(results) <= FEW_SUBRESULTS or not all_pass(results)

    @property
    def weak(self) -> str:
        """A warning about weak evidence, or empty."""
        judgement = self.record.judgement
        if judgement.is_weak and judgement.privileged:
            words = sanitize("; ".join(judgement.privileged))
            return f"Privileged containers, or daemons, could influence the verdict: {words}."
        if judgement.is_weak and self.record.cell.tier != "system":
            tier = self.record.cell.tier
            return f"The {tier} tier: containers on a kernel that ran already, and no verdict on a kernel."
        return "Judged by the console alone, which anything in the guest can write to." if judgement.is_weak else ""

    @property
    def commands(self) -> tuple[tuple[str, str], ...]:
        """Shell commands, each preceded by its purpose."""
        return tuple(_commands(self.record))

    @property
    def artefacts(self) -> tuple[Input, ...]:
        """The booted files."""
        return tuple(artefacts(self.record))

    @property
    def packages(self) -> tuple[Input, ...]:
        """The packages of the kernel."""
        return tuple(packages(self.record))

    @property
    def tested(self) -> str:
        """The tested product."""
        return product_words(product_lines([self.record]))

    @property
    def contents(self) -> tuple[ContentsView, ...]:
        """Packages and files of each image."""
        return view_contents(self.record.contents)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """The cell's configuration."""
        return tuple((name, value) for name, value in facts(self.record) if value)


def run_command(record: Record) -> tuple[str, ...]:
    """Return the command that boots the cell again."""
    cell = record.cell
    more = tuple(f"--{name}={text}" for name, text in _changes(cell) if text)
    file = os.environ.get(KERNELS) if record.kernel and record.kernel.parts else None
    own = ("env", f"{KERNELS}={file}") if file else ()
    return (*own, "bootmatrix", "run", cell.spec, "--arch", cell.target, "--kernel", cell.kernel, *more)


def _changes(cell: Cell) -> Iterable[tuple[str, str]]:
    """Yield the options by which a matrix changes what the spec says."""
    size = cell.size
    yield "memory", AUTO if size.grows else f"{size.memory_mib}M" if size.memory_mib else ""
    yield "cpus", f"{size.cpus or ''}"
    yield "disk", f"{size.disk_mib}M" if size.disk_mib else ""
    yield "append", cell.append
    yield "timeout", f"{cell.limit_s:g}s" if cell.limit_s else ""
    yield "network", cell.network or ""
    yield "roots", cell.roots if cell.roots != "auto" else ""
    yield "qemu-args", shlex.join(cell.qemu_args)


def advice_of(record: Record) -> str:
    """Return the judgement's advice, with whole commands."""
    return record.judgement.advice.replace("'bootmatrix run", f"'{shlex.join(run_command(record))}", 1)


def _commands(record: Record) -> Iterable[tuple[str, str]]:
    again = run_command(record)
    yield "Run it again, with its console on the terminal", command_line(again).replace(" \\\n   ", "")
    yield "Open a shell in the same guest", command_line((*again, "--shell")).replace(" \\\n   ", "")
    if record.command:
        yield "Boot it by hand; with -s -S QEMU waits for a debugger on port 1234", command_line(record.command)

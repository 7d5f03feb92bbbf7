"""What the report shows of one cell. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from bootmatrix.model import Evidence, Record, ResultFile, SubResult, Verdict
from bootmatrix.report.console_view import ConsoleView, view_console
from bootmatrix.report.harmless import harmless, one_line
from bootmatrix.report.order import cell_time, remark
from bootmatrix.report.units import duration, size
from bootmatrix.runs import CELLS_FOLDER, FILES_FOLDER

PHASES = ("fetch", "build", "boot", "onboot", "services", "checks", "shutdown")
"""Phases that have a colour of their own, the same one in every cell."""
FEW_SUBRESULTS = 12
"""A list of passes up to this long stands open."""


@dataclass(frozen=True)
class EvidenceView:
    """One observation; `href` leads to its line of the console, or is empty."""

    source: str
    text: str
    line: int | None
    href: str


@dataclass(frozen=True)
class PhaseView:
    """A phase; `start` and `width` are percent of a bar, `colour` is a number."""

    name: str
    colour: int
    time: str
    start: float
    width: float


@dataclass(frozen=True)
class SubResultView:
    """One sub-result."""

    name: str
    verdict: str
    detail: str


@dataclass(frozen=True)
class ArtefactView:
    """A file that was booted, or a package that it came from."""

    kind: str
    name: str
    size: str
    sha256: str


@dataclass(frozen=True)
class FileView:
    """A file that a container left."""

    container: str
    path: str
    size: str
    href: str
    is_cut: bool


@dataclass(frozen=True)
class CellView:
    """One cell. `state` is `unexpected`, `expected` (a failure that was foreseen) or empty."""

    id: str
    spec: str
    target: str
    kernel: str
    verdict: str
    state: str
    remark: str
    time: str
    wall_s: float
    started_at: str
    reason: str
    advice: str
    expect: str
    evidence: tuple[EvidenceView, ...]
    phases: tuple[PhaseView, ...]
    subresults: tuple[SubResultView, ...]
    sub_summary: str
    sub_open: bool
    files: tuple[FileView, ...]
    console: ConsoleView | None
    command: str
    cmdline: str
    release: str
    artefacts: tuple[ArtefactView, ...]
    packages: tuple[ArtefactView, ...]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def view_cell(record: Record, console: bytes | None) -> CellView:
    """The view of a record and its console."""
    cell, judgement = record.cell, record.judgement
    aside = remark(record)
    shown = view_console(record, console, console_href(record)) if record.console else None
    return CellView(
        id=cell.id,
        spec=cell.spec_name,
        target=cell.target,
        kernel=cell.kernel,
        verdict=record.verdict.value,
        state=aside if record.expected else "unexpected",
        remark=aside,
        time="" if record.verdict is Verdict.SKIP else duration(cell_time(record)),
        wall_s=cell_time(record),
        started_at=record.started_at,
        reason=one_line(judgement.reason),
        advice=harmless(judgement.advice),
        expect=one_line(cell.expect),
        evidence=tuple(_evidence(one, record, shown) for one in judgement.evidence),
        phases=tuple(_phases(record)),
        subresults=tuple(_subresult(one) for one in failures_first(judgement.subresults)),
        sub_summary=_sub_summary(judgement.subresults),
        sub_open=len(judgement.subresults) <= FEW_SUBRESULTS or not _all_pass(judgement.subresults),
        files=tuple(_file(one, record) for one in record.files),
        console=shown,
        command=command_line(record.command),
        cmdline=harmless(record.cmdline),
        release=record.kernel.release if record.kernel else "",
        artefacts=tuple(
            ArtefactView(one.kind, harmless(one.name), size(one.size_bytes), one.sha256) for one in record.artefacts
        ),
        packages=tuple(_packages(record)),
        facts=tuple((name, harmless(value)) for name, value in _facts(record) if value),
        notes=tuple(map(harmless, record.notes)),
    )


def _file(file: ResultFile, record: Record) -> FileView:
    href = _href(record, FILES_FOLDER, file.file.rpartition("/")[2])
    return FileView(one_line(file.container), one_line(file.path), size(file.size_bytes), href, file.is_cut)


def console_href(record: Record) -> str:
    """Address of the console's file, relative to the report."""
    return _href(record, record.console.rpartition("/")[2])


def _href(record: Record, *below: str) -> str:
    cell = record.cell
    return "/".join(map(quote, (CELLS_FOLDER, cell.spec_name, cell.arch, cell.machine, cell.kernel, *below)))


def command_line(arguments: Sequence[str]) -> str:
    """A command for a shell, one option with its value on a line."""
    lines: list[str] = []
    for argument in arguments:
        word = shlex.quote(harmless(argument))
        if lines and (not argument.startswith("-") or argument == "-"):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return " \\\n    ".join(lines)


def failures_first(subresults: Iterable[SubResult]) -> list[SubResult]:
    """Sub-results in their order, but what did not pass before what did, and skips last."""
    order = {Verdict.PASS: 1, Verdict.SKIP: 2}
    return sorted(subresults, key=lambda one: order.get(one.verdict, 0))


def _all_pass(subresults: Iterable[SubResult]) -> bool:
    return all(one.verdict in {Verdict.PASS, Verdict.SKIP} for one in subresults)


def _sub_summary(subresults: Sequence[SubResult]) -> str:
    found: Counter[Verdict] = Counter(one.verdict for one in subresults)
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in Verdict if found[verdict])


def _subresult(one: SubResult) -> SubResultView:
    return SubResultView(one_line(one.name), one.verdict.value, harmless(one.detail))


def _evidence(one: Evidence, record: Record, console: ConsoleView | None) -> EvidenceView:
    href = ""
    if one.line is not None and console:
        href = f"#{record.cell.id}:L{one.line}" if one.line in console.marked else console.href
    return EvidenceView(harmless(one.source), harmless(one.text), one.line, href)


def _phases(record: Record) -> Iterable[PhaseView]:
    """Phases as parts of a bar. A part too short to be seen is drawn a little wider than it is."""
    total = sum(phase.seconds for phase in record.phases) or 1.0
    widths = [max(100 * phase.seconds / total, 0.6) for phase in record.phases]
    start = 0.0
    for phase, width in zip(record.phases, widths, strict=True):
        part = 100 * width / sum(widths)
        colour = PHASES.index(phase.name) if phase.name in PHASES else len(PHASES)
        yield PhaseView(harmless(phase.name), colour, duration(phase.seconds), round(start, 3), round(part, 3))
        start += part


def _packages(record: Record) -> Iterable[ArtefactView]:
    for one in record.kernel.packages if record.kernel else ():
        yield ArtefactView(
            f"{one.suite} {one.architecture}", f"{one.name} {one.version}", size(one.size_bytes), one.sha256
        )


def _facts(record: Record) -> Iterable[tuple[str, str]]:
    machine = record.machine_profile
    yield "Machine", machine.description if machine else record.cell.machine
    yield "Kernel", f"{record.kernel.release} ({record.kernel.version})" if record.kernel else record.cell.kernel
    yield "QEMU", record.qemu_version
    yield "Spec", record.cell.spec
    yield "Started", record.started_at
    yield "Whole cell", duration(record.wall_s) if record.wall_s else ""
    yield "Attempts", str(record.attempts) if record.attempts > 1 else ""
    yield "Console", _dropped(record)


def _dropped(record: Record) -> str:
    outcome = record.outcome
    if outcome is None or not outcome.console_dropped_bytes:
        return ""
    return f"{size(outcome.console_bytes)}, of which {size(outcome.console_dropped_bytes)} were not kept"

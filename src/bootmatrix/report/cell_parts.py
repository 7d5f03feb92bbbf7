"""Parts of a cell as the report shows them: evidence, phases, sub-results, files, inputs. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from bootmatrix.model import AttemptRecord, Diagnostic, KernelFault, Record, ResultFile, SubResult, Verdict
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.report.units import duration, size
from bootmatrix.runs.run_store import CELLS_FOLDER, FILES_FOLDER

PHASES = ("fetch", "build", "boot", "onboot", "services", "checks", "shutdown", "firmware", "kernel", "init")
"""Phases that have a colour of their own, the same one in every cell."""
LEAST_WIDTH = 0.7
"""Percent of the chart."""
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
class TroubleView:
    """A fault that the kernel or the firmware told of; `trace` is its stack trace, or empty."""

    name: str
    is_fatal: bool
    text: str
    line: int | None
    href: str
    trace: str
    advice: str


@dataclass(frozen=True)
class TryView:
    """One attempt of several; `href` is its console, or empty."""

    number: int
    verdict: str
    reason: str
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


DIAGNOSTICS = {
    "screen": "last lines of the console",
    "registers": "registers of all CPUs",
    "tasks": "the kernel's answers to sysrq",
    "memory": "memory, an ELF core",
}
"""What each kind of diagnostic is, for people."""


@dataclass(frozen=True)
class DiagnosticView:
    """What was kept of a guest that was stuck: a link, or a note on why there is none."""

    name: str
    note: str
    size: str
    href: str


@dataclass(frozen=True)
class FileView:
    """A file that a container left."""

    container: str
    path: str
    size: str
    href: str
    is_cut: bool


def view_file(file: ResultFile, record: Record) -> FileView:
    """A file that was left. Its name here is ours, whatever the guest called it."""
    href = href_of(record, FILES_FOLDER, file.file.rpartition("/")[2])
    return FileView(one_line(file.container), one_line(file.path), size(file.size_bytes), href, file.is_cut)


def view_diagnostic(one: Diagnostic, record: Record) -> DiagnosticView:
    """What was kept of a guest that was stuck."""
    folder, _, name = one.file.rpartition("/")
    href = href_of(record, folder, name) if folder and name else ""
    return DiagnosticView(DIAGNOSTICS[one.kind], one_line(one.note), size(one.size_bytes), href)


def href_of(record: Record, *below: str) -> str:
    """Address of a file beside the record, relative to the report."""
    cell = record.cell
    return "/".join(map(quote, (CELLS_FOLDER, cell.spec_name, cell.arch, cell.machine, cell.kernel, *below)))


def command_line(arguments: Sequence[str]) -> str:
    """A command for a shell, one option with its value on a line."""
    lines: list[str] = []
    for argument in arguments:
        word = shlex.quote(sanitize(argument))
        if lines and (not argument.startswith("-") or argument == "-"):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return " \\\n    ".join(lines)


def failures_first(subresults: Iterable[SubResult]) -> list[SubResult]:
    """Sub-results in their order, but what did not pass before what did, and skips last."""
    order = {Verdict.PASS: 1, Verdict.SKIP: 2}
    return sorted(subresults, key=lambda one: order.get(one.verdict, 0))


def all_pass(subresults: Iterable[SubResult]) -> bool:
    """Whether nothing among them went wrong."""
    return all(one.verdict in {Verdict.PASS, Verdict.SKIP} for one in subresults)


def count_subresults(subresults: Sequence[SubResult]) -> str:
    """`58 pass, 2 fail`."""
    found: Counter[Verdict] = Counter(one.verdict for one in subresults)
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in Verdict if found[verdict])


def view_subresult(one: SubResult) -> SubResultView:
    """The view of one."""
    return SubResultView(one_line(one.name), one.verdict.value, sanitize(one.detail))


def view_trouble(one: KernelFault, href: str) -> TroubleView:
    """The view of one; `href` leads to its line."""
    trace = "\n".join(map(sanitize, one.trace))
    return TroubleView(
        one_line(one.name), one.is_fatal, one_line(one.text), one.line, href, trace, sanitize(one.advice)
    )


def view_try(number: int, one: AttemptRecord, record: Record) -> TryView:
    """The view of one."""
    href = href_of(record, one.console.rpartition("/")[2]) if one.console else ""
    return TryView(number, one.judgement.verdict.value, one_line(one.judgement.reason), href)


def view_phases(record: Record) -> Iterable[PhaseView]:
    """Phases one below the other, each beginning where the one before ends. None is too short to be seen."""
    total = sum(phase.seconds for phase in record.phases) or 1.0
    start = 0.0
    for phase in record.phases:
        share = 100 * phase.seconds / total
        width = max(share, LEAST_WIDTH)
        kind = phase.name.split(" ")[0]
        colour = PHASES.index(kind) if kind in PHASES else len(PHASES)
        yield PhaseView(
            one_line(phase.name),
            colour,
            duration(phase.seconds),
            round(min(start, 100 - width), 2),
            round(width, 2),
        )
        start += share


def view_artefacts(record: Record) -> Iterable[ArtefactView]:
    """The files that were booted."""
    for one in record.artefacts:
        yield ArtefactView(one.kind, sanitize(one.name), size(one.size_bytes), one.sha256)


def view_packages(record: Record) -> Iterable[ArtefactView]:
    """The packages that the kernel comes from."""
    for part in record.kernel.parts if record.kernel else ():
        yield ArtefactView(sanitize(part.kind), sanitize(str(part)), "", part.sha256 or "")
    for one in record.kernel.packages if record.kernel else ():
        yield ArtefactView(
            f"{one.suite} {one.architecture}", f"{one.name} {one.version}", size(one.size_bytes), one.sha256
        )


def facts(record: Record) -> Iterable[tuple[str, str]]:
    """What was booted where, as pairs of a heading and a value; a value may be empty."""
    machine = record.machine_profile
    yield "Machine", machine.description if machine else record.cell.machine
    yield "Traits", _traits(record)
    yield "Kernel", f"{record.kernel.release} ({record.kernel.version})" if record.kernel else record.cell.kernel
    yield "QEMU", record.qemu_version
    yield "QEMU arguments", shlex.join(record.cell.qemu_args)
    yield "Accelerator", ", ".join(map(str, machine.emulated().accelerators)) if machine else ""
    yield "Spec", record.cell.spec
    yield "Started", record.started_at
    yield "Whole cell", duration(record.wall_s) if record.wall_s else ""
    yield "Boot", _boot(record)
    yield "Attempts", str(record.attempts) if record.attempts > 1 else ""
    yield "Console", _dropped(record)


def _dropped(record: Record) -> str:
    outcome = record.outcome
    if outcome is None or not outcome.console_dropped_bytes:
        return ""
    return f"{size(outcome.console_bytes)}, of which {size(outcome.console_dropped_bytes)} were not kept"


def _boot(record: Record) -> str:
    if record.boot == "fork":
        return f"copy of a booted guest{', the same when booted cold' if record.verified else ''}"
    return f"cold: {record.cold_reason}" if record.cold_reason else ""


def _traits(record: Record) -> str:
    traits = record.cell.traits
    return f"{traits.bits} bits, {traits.endian} endian, {traits.page_kib}k pages" if traits else ""

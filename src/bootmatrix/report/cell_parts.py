"""Parts of a cell's view: evidence, phases, sub-results, files, inputs. Pure."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from bootmatrix.model import AttemptRecord, Diagnostic, KernelFault, Record, ResultFile, SubResult, Verdict
from bootmatrix.report.headline import date_words
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.report.units import duration, size
from bootmatrix.runs.run_store import CELLS_FOLDER

PHASES = ("fetch", "build", "boot", "onboot", "services", "checks", "shutdown", "firmware", "kernel", "init")
"""Phases with a fixed colour."""
LEAST_WIDTH = 0.7
"""Minimum bar width, percent of the chart."""
FEW_SUBRESULTS = 12
"""Longest list of passes that starts unfolded."""


@dataclass(frozen=True)
class EvidenceView:
    """An observation; `href` links to its console line, or is empty."""

    source: str
    text: str
    line: int | None
    href: str


@dataclass(frozen=True)
class KernelFaultView:
    """A fault of kernel or firmware; `trace` may be empty."""

    name: str
    is_fatal: bool
    text: str
    line: int | None
    href: str
    trace: str
    advice: str


@dataclass(frozen=True)
class AttemptView:
    """One of several attempts; `href` links to its console, or is empty."""

    number: int
    verdict: str
    reason: str
    href: str


@dataclass(frozen=True)
class PhaseView:
    """A phase; `start` and `width` are percent of a bar, `colour` is an index."""

    name: str
    colour: int
    time: str
    start: float
    width: float


@dataclass(frozen=True)
class SubResultView:
    """A sub-result."""

    name: str
    verdict: str
    detail: str


@dataclass(frozen=True)
class ArtefactView:
    """A booted file, or a package that it came from."""

    kind: str
    name: str
    size: str
    sha256: str


DIAGNOSTICS = {
    "screen": "last lines of the console",
    "registers": "registers of all CPUs",
    "tasks": "the kernel's answers to sysrq",
    "memory": "memory, an ELF core",
    "hang": "where it hangs, by a second boot",
    "places": "source lines of the traces",
}
"""Description of each kind of diagnostic."""


@dataclass(frozen=True)
class DiagnosticView:
    """A diagnostic of a stuck guest: a link, or a note on its absence."""

    name: str
    note: str
    size: str
    href: str


@dataclass(frozen=True)
class FileView:
    """A result file of a container."""

    container: str
    path: str
    size: str
    href: str
    is_cut: bool
    notes: tuple[str, ...] = ()
    name: str = ""


def view_file(file: ResultFile, record: Record) -> FileView:
    """View a result file, linked by our own file name."""
    href = href_of(record, *file.file.split("/"))
    words = size(file.size_bytes)
    if file.is_tree:
        words = f"a tar of {file.files} file{'' if file.files == 1 else 's'}, {words}"
    notes = tuple(map(one_line, file.notes))
    name = f"{PurePosixPath(file.path).name}{'.tar' if file.is_tree else ''}"
    return FileView(one_line(file.container), one_line(file.path), words, href, file.is_cut, notes, one_line(name))


def view_diagnostic(diagnostic: Diagnostic, record: Record) -> DiagnosticView:
    """Make the view of a diagnostic."""
    folder, _, name = diagnostic.file.rpartition("/")
    href = href_of(record, folder, name) if folder and name else ""
    return DiagnosticView(DIAGNOSTICS[diagnostic.kind], one_line(diagnostic.note), size(diagnostic.size_bytes), href)


def href_of(record: Record, *below: str) -> str:
    """Return the address of a file beside the record, relative to the report."""
    cell = record.cell
    return "/".join(map(quote, (CELLS_FOLDER, cell.spec_name, cell.arch, cell.machine, cell.kernel, *below)))


def command_line(arguments: Sequence[str]) -> str:
    """Format a command for a shell, one option and its value per line."""
    lines: list[str] = []
    for argument in arguments:
        word = shlex.quote(sanitize(argument))
        if lines and (not argument.startswith("-") or argument == "-"):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return " \\\n    ".join(lines)


def failures_first(subresults: Iterable[SubResult]) -> list[SubResult]:
    """Sort sub-results stably: failures, passes, skips."""
    order = {Verdict.PASS: 1, Verdict.SKIP: 2}
    return sorted(subresults, key=lambda result: order.get(result.verdict, 0))


def all_pass(subresults: Iterable[SubResult]) -> bool:
    """Return whether all sub-results passed or were skipped."""
    return all(result.verdict in {Verdict.PASS, Verdict.SKIP} for result in subresults)


def count_subresults(subresults: Sequence[SubResult]) -> str:
    """Count sub-results by verdict: `58 pass, 2 fail`."""
    counts: Counter[Verdict] = Counter(result.verdict for result in subresults)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])


def view_subresult(result: SubResult) -> SubResultView:
    """Make the view of a sub-result."""
    return SubResultView(one_line(result.name), result.verdict.value, sanitize(result.detail))


def view_kernel_fault(fault: KernelFault, href: str) -> KernelFaultView:
    """Make the view of a kernel fault; `href` links to its console line."""
    trace = "\n".join(map(sanitize, fault.trace))
    return KernelFaultView(
        one_line(fault.name), fault.is_fatal, one_line(fault.text), fault.line, href, trace, sanitize(fault.advice)
    )


def view_attempt(number: int, attempt: AttemptRecord, record: Record) -> AttemptView:
    """Make the view of an attempt."""
    href = href_of(record, attempt.console.rpartition("/")[2]) if attempt.console else ""
    return AttemptView(number, attempt.judgement.verdict.value, one_line(attempt.judgement.reason), href)


def view_phases(record: Record) -> Iterable[PhaseView]:
    """Lay out phases one after the other, at least LEAST_WIDTH wide."""
    total = sum(phase.seconds for phase in record.phases) or 1.0
    start = 0.0
    for phase in record.phases:
        share = 100 * phase.seconds / total
        width = max(share, LEAST_WIDTH)
        kind = phase.name.split(" ")[0]
        colour = PHASES.index(kind) if kind in PHASES else len(PHASES)
        yield PhaseView(
            one_line(phase.name), colour, duration(phase.seconds), round(min(start, 100 - width), 2), round(width, 2)
        )
        start += share


def view_artefacts(record: Record) -> Iterable[ArtefactView]:
    """List the booted files."""
    for artefact in record.artefacts:
        yield ArtefactView(artefact.kind, sanitize(artefact.name), size(artefact.size_bytes), artefact.sha256)


def view_packages(record: Record) -> Iterable[ArtefactView]:
    """List the packages of the kernel."""
    for part in record.kernel.parts if record.kernel else ():
        yield ArtefactView(sanitize(part.kind), sanitize(str(part)), "", part.sha256 or "")
    for package in record.kernel.packages if record.kernel else ():
        yield ArtefactView(
            f"{package.suite} {package.architecture}",
            f"{package.name} {package.version}",
            size(package.size_bytes),
            package.sha256,
        )


def facts(record: Record) -> Iterable[tuple[str, str]]:
    """List the configuration as headings and values, maybe empty."""
    machine = record.machine_profile
    yield "Machine", machine.description if machine else record.cell.machine
    yield "Traits", _traits(record)
    yield "Kernel", f"{record.kernel.release} ({record.kernel.version})" if record.kernel else record.cell.kernel
    yield "QEMU", record.qemu_version
    yield "Host", sanitize(record.host)
    yield "QEMU arguments", shlex.join(record.cell.qemu_args)
    yield "Accelerator", ", ".join(map(str, machine.emulated().accelerators)) if machine else ""
    yield "Spec", record.cell.spec
    yield "Started", date_words(record.started_at)
    yield "Whole cell", duration(record.wall_s) if record.wall_s else ""
    yield "Boot", _boot(record)
    yield "Attempts", str(record.attempts) if record.attempts > 1 else ""
    yield "Console", _dropped(record)


def _dropped(record: Record) -> str:
    outcome = record.outcome
    if outcome is None or not outcome.console_dropped_bytes:
        return ""
    return f"{size(outcome.console_bytes)}, of which {size(outcome.console_dropped_bytes)} were dropped"


def _boot(record: Record) -> str:
    if record.boot == "fork":
        return f"copy of a booted guest{', confirmed by a cold boot' if record.verified else ''}"
    return f"cold: {record.cold_reason}" if record.cold_reason else ""


def _traits(record: Record) -> str:
    traits = record.cell.traits
    if not traits:
        return ""
    width = f", {traits.va_bits}-bit addresses" if traits.va_bits else ""
    kernel = f" on a {traits.kernel_bits}-bit kernel" if traits.kernel_bits else ""
    return f"{traits.bits} bits{kernel}, {traits.endian} endian, {traits.page_kib}k pages{width}"

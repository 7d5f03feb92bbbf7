"""Parts of a cell's view: phases, sub-results, inputs, configuration. Pure."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from bootmatrix.model import Record, SubResult, Verdict
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
class PhaseView:
    """A phase; `start` and `width` are percent of a bar, `colour` is an index."""

    name: str
    colour: int
    time: str
    start: float
    width: float


DIAGNOSTICS = {
    "screen": "last lines of the console",
    "registers": "registers of all CPUs",
    "tasks": "the kernel's answers to sysrq",
    "memory": "memory, an ELF core",
    "hang": "where it hangs, by a second boot",
    "places": "source lines of the traces",
}
"""Description of each kind of diagnostic."""


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


Input = tuple[str, str, str, str]
"""Kind, name, size and SHA-256 of what was booted, or of what it came from."""


def artefacts(record: Record) -> Iterable[Input]:
    """List the booted files."""
    for artefact in record.artefacts:
        yield artefact.kind, artefact.name, size(artefact.size_bytes), artefact.sha256


def packages(record: Record) -> Iterable[Input]:
    """List the packages of the kernel."""
    for part in record.kernel.parts if record.kernel else ():
        yield part.kind, str(part), "", part.sha256 or ""
    for package in record.kernel.packages if record.kernel else ():
        kind = f"{package.suite} {package.architecture}"
        yield kind, f"{package.name} {package.version}", size(package.size_bytes), package.sha256


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

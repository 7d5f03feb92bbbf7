"""`bootmatrix hosts check`: check the hosts of a cluster."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.cli.output import say
from bootmatrix.cli.tables import print_table
from bootmatrix.report.sanitize import one_line
from bootmatrix.workspace.hosts import check_cluster

if TYPE_CHECKING:
    from bootmatrix.execute.dask.hosts.check import HostReport

HEADINGS = ("", "host", "system", "Python", "cores", "memory", "QEMU", "clock", "up after", "hello")


def run(args: argparse.Namespace) -> int:
    """Print a table of the hosts and their faults; status 3 if one has any."""
    with download_progress() as observer:
        reports = check_cluster(options.workspace(args), args.file, observer)
    table = Table(*HEADINGS, box=None, padding=(0, 2, 0, 0))
    for report in reports:
        table.add_row(*(Text(one_line(text)) for text in _row(report)))
    print_table(table)
    say(*(line for report in reports if not _is_good(report) for line in _fault(report)))
    return EXPECTED if all(_is_good(report) for report in reports) else OUR_FAULT


def _is_good(report: HostReport) -> bool:
    return report.board is not None or (not report.fault and report.record is not None and report.record.expected)


def _row(report: HostReport) -> tuple[str, ...]:
    offer, board = report.offer, report.board
    if board:
        user = "root" if board.is_root else "a user"
        return "ok", report.name, board.machine, *[""] * 6, f"a board: kernel {board.release}, {user}"
    if offer is None:
        return "fault", report.name
    qemu = ", ".join(sorted(set(offer.qemu.values()))) or "none"
    clock = f"{report.clock_offset_s:+.0f} s" if report.clock_offset_s else "right"
    memory = f"{offer.memory_mib} MiB"
    facts = (offer.system, offer.python, str(offer.cores), memory, qemu, clock, f"{report.up_s:.1f} s")
    name = " ".join((report.name, *offer.labels))
    return ("ok" if _is_good(report) else "fault", name, *facts, _guest(report))


def _fault(report: HostReport) -> list[str]:
    """Return a host's fault, and the remedy on a line of its own."""
    fault, hint = report.fault, report.hint
    if not fault and report.record:
        fault, hint = report.record.judgement.reason, report.record.judgement.advice
    return [f"{report.name}: {fault or 'no QEMU of a known machine'}", *([f"  {hint}"] if hint else [])]


def _guest(report: HostReport) -> str:
    record = report.record
    if record is None:
        return "no QEMU"
    if record.outcome is None or record.machine_profile is None:
        return str(record.verdict)
    machine, seconds = record.machine_profile, record.outcome.wall_s
    means = "emulated" if machine.is_emulated() else str(machine.accelerators[0])
    return f"{record.cell.target} {record.verdict} in {seconds:.1f} s, {means}"

"""CSV report: one row per cell, including cells without a verdict."""

import csv
import io
from collections.abc import Iterator

from bootmatrix.history.extract import mode_of
from bootmatrix.model import Record
from bootmatrix.report.context import ReportContext
from bootmatrix.report.order import cell_time
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.shortfall import KIND, shortfalls

COLUMNS = (
    *("run", "started_at", "cell", "spec", "arch", "machine", "kernel", "mode", "verdict", "expected", "change"),
    *("seconds", "wall_s", "attempts", "reason", "expect", "kernel_release", "qemu_version", "kernel_sha256"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Prefixes that a spreadsheet takes for a formula."""


def render(context: ReportContext) -> bytes:
    """Return the table in UTF-8, with a header."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in context.records:
        change = context.changes.get(record.cell.id)
        writer.writerow([_safe(value) for value in _row(context.run.name, record, change.kind if change else "")])
    for shortfall in shortfalls(context.run):
        row = {
            "run": context.run.name,
            "cell": shortfall.name,
            "verdict": KIND,
            "expected": "no",
            "reason": shortfall.reason,
        }
        writer.writerow([_safe(row.get(column, "")) for column in COLUMNS])
    return stream.getvalue().encode("utf-8")


def _row(run: str, record: Record, change: str) -> Iterator[str]:
    cell, kernel = record.cell, record.kernel
    yield from (run, record.started_at, cell.id, cell.spec_name, cell.arch, cell.machine, cell.kernel, mode_of(record))
    yield from (record.verdict.value, "yes" if record.expected else "no", change)
    yield from (f"{cell_time(record):.3f}", f"{record.wall_s:.3f}", str(record.attempts))
    yield from (record.judgement.reason, cell.expect, kernel.release if kernel else "", record.qemu_version)
    yield next((artefact.sha256 for artefact in record.artefacts if artefact.kind == "kernel"), "")


def _safe(value: str) -> str:
    text = one_line(value)
    return f"'{text}" if text.startswith(FORMULA) else text

"""Tools' answers: bounded plain values. Pure.

All text that is not chosen here is marked: it may be of a guest, of what is tested, or of a run from elsewhere.
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from bootmatrix.model import Record
from bootmatrix.report.context import ReportContext
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.workspace.planned_run import PlannedRun

MAX_CELLS = 100
"""Cells in an answer; others are counted."""
MAX_PARTS = 50
"""Sub-results, pieces of evidence and so on of a record."""
MAX_TEXT = 20_000
"""Characters of a console in an answer."""
MAX_LINES = 500
MAX_LINE = 1000


def untrusted(text: str) -> str:
    """Mark text of others as data, by a fence that it cannot know."""
    mark = secrets.token_hex(6)
    return f"<data-{mark}>\n{sanitize(text)}\n</data-{mark}>"


def plan_answer(planned: PlannedRun) -> dict[str, Any]:
    """Return the cells and skips of a plan."""
    cells, skips = planned.cells, planned.skips
    return {
        "title": untrusted(one_line(planned.title)),
        "cells": [cell.id for cell in cells[:MAX_CELLS]],
        "cell_count": len(cells),
        "skipped": [{"cell": skip.cell.id, "reason": untrusted(one_line(skip.reason))} for skip in skips[:MAX_CELLS]],
        "skip_count": len(skips),
    }


def run_answer(name: str, context: ReportContext) -> dict[str, Any]:
    """Return the result of a run; cells that are not as expected come first."""
    records = sorted(context.records, key=lambda record: record.expected)
    return {
        "run": name,
        "is_good": context.run.is_good,
        "headline": one_line(context.view.headline),
        "cells": [_brief(record) for record in records[:MAX_CELLS]],
        "cell_count": len(records),
        "without_verdict": _fenced(context.run.missing),
    }


def _brief(record: Record) -> dict[str, Any]:
    return {
        "cell": record.cell.id,
        "verdict": record.verdict.value,
        "expected": record.expected,
        "reason": untrusted(one_line(record.judgement.reason)),
    }


def record_answer(name: str, record: Record) -> dict[str, Any]:
    """Return a record: verdict, evidence, faults of the kernel, versions, phases."""
    judgement, kernel = record.judgement, record.kernel
    texts = [f"{piece.source}: {piece.text}" for piece in judgement.evidence]
    faults = [f"{fault.name}: {fault.text}" for fault in judgement.kernel_faults]
    results = [f"{result.verdict} {result.name}: {result.detail}" for result in judgement.subresults]
    phases = [f"{phase.name}: {phase.seconds:.1f} s" for phase in record.phases]
    return _brief(record) | {
        "run": name,
        "advice": _fenced([judgement.advice]),
        "started_at": record.started_at,
        "seconds": round(record.wall_s, 1),
        "kernel": _fenced([kernel.release, kernel.origin] if kernel else []),
        "qemu_version": _fenced([record.qemu_version]),
        "notes": _fenced(record.notes),
        "phases": _fenced(phases),
        "evidence": _fenced(texts),
        "kernel_faults": _fenced(faults),
        "subresults": _fenced(results),
        "subresult_count": len(judgement.subresults),
    }


def _fenced(texts: Sequence[str]) -> str:
    """Mark texts, a line each; empty without any."""
    lines = [one_line(text) for text in texts[:MAX_PARTS]]
    return untrusted("\n".join(lines)) if any(lines) else ""


def console_answer(data: bytes, lines: int, text: str) -> dict[str, Any]:
    """Return a console's last lines, with numbers; with `text`, matching."""
    numbered = list(enumerate(sanitize(data.decode("utf-8", "replace")).split("\n"), 1))
    hits = [(number, line) for number, line in numbered if text.lower() in line.lower()]
    chosen = _last(hits, min(max(lines, 1), MAX_LINES))
    return {
        "line_count": len(numbered),
        "matching_lines": len(hits),
        "shown_lines": len(chosen),
        "console": untrusted("\n".join(f"{number}: {line[:MAX_LINE]}" for number, line in chosen)),
    }


def _last(lines: Iterable[tuple[int, str]], count: int) -> list[tuple[int, str]]:
    """Return the last lines, no more than fit into an answer."""
    chosen: list[tuple[int, str]] = []
    size = 0
    for number, line in reversed(list(lines)):
        size += min(len(line), MAX_LINE) + 10
        if len(chosen) == count or size > MAX_TEXT:
            break
        chosen.append((number, line))
    return chosen[::-1]

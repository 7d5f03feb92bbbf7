"""Sentences on the user tier: its cells, and where it differs from booted guests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bootmatrix.model import Record, Verdict
from bootmatrix.report.units import natural

MAX_DIFFERENCES = 20


def tier_lines(records: Iterable[Record]) -> tuple[str, ...]:
    """Return sentences on the user tier; empty without its cells."""
    cells = tuple(records)
    user = [record for record in cells if record.cell.tier == "user"]
    if not user:
        return ()
    what = "1 cell is" if len(user) == 1 else f"{len(user)} cells are"
    first = f"{what} of the user tier: programs on the host's kernel, which say nothing of the kernels here."
    return (first, *[*_differences(user, cells)][:MAX_DIFFERENCES])


def _differences(user: Iterable[Record], records: Sequence[Record]) -> Iterator[str]:
    for record in user:
        place = (record.cell.spec_name, record.cell.arch)
        booted = [one for one in records if (one.cell.spec_name, one.cell.arch) == place and one.verdict.is_guests]
        failed = [one for one in booted if one.verdict is not Verdict.PASS]
        if record.verdict is Verdict.USER_PASS and failed:
            yield f"{'/'.join(place)}: passes by user emulation, fails on {_kernels(failed)}."
        elif record.verdict is Verdict.USER_FAIL and len(failed) < len(booted):
            passed = [one for one in booted if one.verdict is Verdict.PASS]
            yield f"{'/'.join(place)}: fails by user emulation, passes on {_kernels(passed)}."
        elif record.verdict is Verdict.USER_UNSUPPORTED and booted:
            yield f"{'/'.join(place)}: user emulation cannot run it; guests decide."


def _kernels(records: Iterable[Record]) -> str:
    return ", ".join(sorted({record.cell.kernel for record in records}, key=natural))

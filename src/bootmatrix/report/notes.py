"""Notes beside verdicts: lost files, lost time, tiers. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from bootmatrix.model import Record, Verdict
from bootmatrix.model.record import ResultFile
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import duration, natural, size

MIN_WAIT_S = 30
"""Shorter waits of a guest for a core are not worth a note."""
STOP_HINT = "handle SIGTERM, or give it more time by 'bootmatrix.stop'"


def lost_time(record: Record) -> Iterator[str]:
    """Yield `service srv ignores SIGTERM: 2.1 of 29 s`; a wait for the host."""
    outcome = record.outcome
    if _waited(record) and outcome:
        yield f"the guest waited for a core of its host: {duration(outcome.starved_s)} of {duration(outcome.wall_s)}"
    for name, seconds in (outcome.ignored_stops if outcome else {}).items():
        yield f"service {one_line(name)} ignores SIGTERM: {seconds:.0f} of {outcome.wall_s:.0f} s" if outcome else ""


def lost_time_of_run(records: Iterable[Record]) -> Iterator[str]:
    """Yield a line per service that ignores SIGTERM: the cell that lost most."""
    losses: dict[tuple[str, str], list[tuple[float, Record]]] = {}
    for record in records:
        for name, seconds in (record.outcome.ignored_stops if record.outcome else {}).items():
            losses.setdefault((record.cell.spec_name, name), []).append((seconds, record))
    for (_, name), cells in losses.items():
        seconds, worst = max(cells, key=lambda cell: cell[0])
        whole_s = worst.outcome.wall_s if worst.outcome else seconds
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        yield (
            f"service {one_line(name)} ignores SIGTERM: {seconds:.0f} of {whole_s:.0f} s"
            f" in {worst.cell.id}{more}; {STOP_HINT}"
        )


def waits_of_run(records: Iterable[Record]) -> Iterator[str]:
    """Yield a line if guests waited for a core for more than half their time."""
    cells = [record for record in records if _waited(record)]
    waited_s, whole_s = (
        sum(getattr(record.outcome, name) for record in cells if record.outcome) for name in ("starved_s", "wall_s")
    )
    if cells:
        yield (
            f"{len(cells)} guest{'s' if len(cells) > 1 else ''} waited for a core of the host: {duration(waited_s)} of "
            f"{duration(whole_s)}, as other work ran there"
        )


def _waited(record: Record) -> bool:
    outcome = record.outcome
    return outcome is not None and outcome.starved_s > max(MIN_WAIT_S, outcome.wall_s / 2)


def lost_files_of_run(records: Iterable[Record]) -> Iterator[str]:
    """Yield a line per incomplete file: the first cell, number of others."""
    losses: dict[tuple[str, str], list[tuple[Record, ResultFile]]] = {}
    for record in records:
        for file in record.files:
            if file.is_cut or file.notes:
                losses.setdefault((record.cell.spec_name, file.path), []).append((record, file))
    for (_, path), files in losses.items():
        record, file = files[0]
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        cause = file.notes[0] if file.notes else f"only a part of its {size(file.size_bytes)} was saved (--get-limit)"
        yield f"{one_line(path)} in {record.cell.id}{more}: {one_line(cause)}"


MAX_DIFFERENCES = 20
MEANS = {
    "user": ("by user emulation", "programs on the host's kernel, which say nothing of the kernels here"),
    "docker": ("in a container engine", "containers on the kernel of the engine's host"),
    "hardware": ("on hardware", "containers on boards, whose kernels ran already"),
}
"""By tier: how its cells were tried, and what they are."""


def tier_lines(records: Iterable[Record]) -> tuple[str, ...]:
    """Return sentences on the tiers without guests; empty without their cells."""
    cells = tuple(records)
    return tuple(line for tier in MEANS for line in _lines(tier, cells))


def _lines(tier: str, records: Sequence[Record]) -> Iterator[str]:
    cells = [record for record in records if record.cell.tier == tier]
    if cells:
        what = "1 cell is" if len(cells) == 1 else f"{len(cells)} cells are"
        yield f"{what} of the {tier} tier: {MEANS[tier][1]}."
        yield from [*_differences(cells, records)][:MAX_DIFFERENCES]


def _differences(cells: Iterable[Record], records: Sequence[Record]) -> Iterator[str]:
    for record in cells:
        place, means = (record.cell.spec_name, record.cell.arch), MEANS[record.cell.tier][0]
        booted = [
            other for other in records if (other.cell.spec_name, other.cell.arch) == place and other.verdict.is_guests
        ]
        failed = [other for other in booted if other.verdict is not Verdict.PASS]
        if record.verdict is Verdict.USER_PASS and failed:
            yield f"{'/'.join(place)}: passes {means}, fails on {_kernels(failed)}."
        elif record.verdict is Verdict.USER_FAIL and len(failed) < len(booted):
            passed = [other for other in booted if other.verdict is Verdict.PASS]
            yield f"{'/'.join(place)}: fails {means}, passes on {_kernels(passed)}."
        elif record.verdict is Verdict.USER_UNSUPPORTED and booted:
            yield f"{'/'.join(place)}: cannot run {means}; guests decide."


def _kernels(records: Iterable[Record]) -> str:
    return ", ".join(sorted({record.cell.kernel for record in records}, key=natural))

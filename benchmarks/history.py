"""How long the commands that look back take over many runs, written by the real writer from records like real ones."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bootmatrix.history.index import ask
from bootmatrix.model import Record, Verdict
from bootmatrix.runs.run_store import RUN_FILE, RunWriter, write_model

PROGRAM = Path(sys.executable).with_name("bootmatrix")
TESTS = Path(__file__).parents[1] / "tests"
FIRST_DAY = datetime(2024, 1, 1, 2, tzinfo=UTC)
SPECS = tuple(f"spec{number}" for number in range(5))
KERNELS = ("5.10", "6.1", "6.12", "7.2", "newest")
FAILS_EVERY = 7
"""Every so many runs one cell in so many fails: enough that something has to be told."""


@dataclass(frozen=True)
class Answer:
    """A command over the runs, and the wall seconds of each time that it was asked, the interpreter's start too."""

    command: str
    samples_s: list[float]


def write_runs(reports: Path, count: int) -> None:
    """So many runs of 100 cells."""
    records = make_records()
    for number in range(count):
        writer = RunWriter.create(reports, "benchmark")
        for place, record in enumerate(records):
            writer.add(_varied(record, number, place))
        run = writer.finish()
        began = FIRST_DAY + timedelta(days=number)
        name = f"{began:%Y-%m-%dT%H-%M-%SZ}-benchmark"
        write_model(writer.path / RUN_FILE, run.model_copy(update={"name": name, "started_at": began.isoformat()}))
        writer.path.rename(reports / name)


def merge_s(folder: Path, count: int) -> float:
    """Seconds that it takes to merge so many runs of 100 cells, with their consoles."""
    records = make_records()
    from samples import console_of

    for _ in range(count):
        writer = RunWriter.create(folder / "parts", "benchmark")
        for record in records:
            (writer.folder(record.cell) / record.console).write_text(console_of(record), encoding="utf-8")
            writer.add(record)
        writer.finish()
    return _asked(folder / "reports", ("merge", str(folder / "parts")))


def make_records() -> list[Record]:
    """100 cells: five specs, four architectures, five kernels."""
    sys.path.append(str(TESTS))
    from samples import CHECK_RESULTS, TIMES_S, make_cell, make_record

    cells = [make_cell(arch, kernel, spec) for spec in SPECS for arch in TIMES_S for kernel in KERNELS]
    return [make_record(cell, subresults=CHECK_RESULTS) for cell in cells]


def _varied(record: Record, number: int, place: int) -> Record:
    """A record as it may come out in another run: a little slower, or failed."""
    assert record.outcome is not None
    seconds = record.outcome.wall_s * (1 + (number * 31 + place * 17) % 10 / 200)
    changed = {"outcome": record.outcome.model_copy(update={"wall_s": seconds})}
    if (number + place) % FAILS_EVERY or number % FAILS_EVERY:
        return record.model_copy(update=changed)
    judgement = record.judgement.model_copy(update={"verdict": Verdict.FAIL, "reason": "a check exited with 1"})
    return record.model_copy(update={**changed, "judgement": judgement, "expected": False})


def build_index(reports: Path) -> float:
    """Seconds that it takes to read all runs."""
    started = time.monotonic()
    ask(reports, lambda rows: rows.runs(limit=1))
    return time.monotonic() - started


def answers(reports: Path, repeats: int) -> Iterator[Answer]:
    """Each command, asked several times."""
    runs = sorted(path.name for path in reports.glob("20*"))
    for command in (
        ("runs",),
        ("history", f"{SPECS[0]}/{make_records()[0].cell.target}/{KERNELS[1]}"),
        ("compare", runs[-1], runs[len(runs) // 2]),
        ("prune", "--dry-run"),
    ):
        yield Answer(command[0], [_asked(reports, command) for _ in range(repeats + 1)][1:])


def _asked(reports: Path, command: tuple[str, ...]) -> float:
    started = time.monotonic()
    subprocess.run([PROGRAM, *command, "--reports", str(reports)], check=True, capture_output=True)
    return time.monotonic() - started

"""OpenMetrics report, for the collector of a nightly run.

Written by prometheus_client, the format's reference implementation.
"""

from collections import Counter
from contextlib import suppress
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.exposition import generate_latest

from bootmatrix.history.extract import mode_of, results_of
from bootmatrix.history.values import ChangeKind, RunState
from bootmatrix.model import Record, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.order import cell_time
from bootmatrix.report.sanitize import one_line

GOOD = "1 if cells were tested, all are finished, and all are as expected"
CELL = ("spec", "arch", "machine", "kernel", "mode")


def render(context: ReportContext) -> bytes:
    """Return the text in UTF-8."""
    registry = CollectorRegistry()
    _of_run(context, registry)
    verdict = Gauge("bootmatrix_cell_verdict", "1 for the verdict of a cell", (*CELL, "verdict"), registry=registry)
    expected = Gauge("bootmatrix_cell_expected", "1 if a cell is as expected", CELL, registry=registry)
    seconds = Gauge("bootmatrix_cell_seconds", "Running time of the guest", CELL, registry=registry)
    phase = Gauge("bootmatrix_cell_phase_seconds", "Duration of a phase", (*CELL, "phase"), registry=registry)
    for record in context.records:
        labels = _labels(record)
        verdict.labels(*labels, record.verdict.value).set(1)
        expected.labels(*labels).set(record.expected)
        if record.verdict is not Verdict.SKIP:
            seconds.labels(*labels).set(round(cell_time(record), 3))
        for part in record.phases:
            phase.labels(*labels, one_line(part.name)).set(round(part.seconds, 3))
    text: bytes = generate_latest(registry)
    return text


def render_unusable(title: str, started_at: str, state: str) -> bytes:
    """Return an unreadable run's metrics: its state, and maybe its start."""
    registry = CollectorRegistry()
    with suppress(ValueError):
        began = datetime.fromisoformat(started_at).timestamp()
        _run_gauge(registry, title, "start_time_seconds", "Start of the run", began)
    _run_gauge(registry, title, "good", GOOD, 0)
    _states(registry, title, state)
    text: bytes = generate_latest(registry)
    return text


def _run_gauge(registry: CollectorRegistry, title: str, name: str, words: str, value: float) -> None:
    Gauge(f"bootmatrix_run_{name}", words, ("title",), registry=registry).labels(one_line(title)).set(value)


def _states(registry: CollectorRegistry, title: str, state: str) -> None:
    """Set the state of the run to 1, and all others to 0."""
    gauge = Gauge("bootmatrix_run_state", "1 for the state of the run", ("title", "state"), registry=registry)
    for entry in RunState:
        gauge.labels(one_line(title), entry.value).set(entry.value == state)


def _labels(record: Record) -> tuple[str, ...]:
    cell = record.cell
    return cell.spec_name, cell.arch, cell.machine, cell.kernel, mode_of(record)


def _of_run(context: ReportContext, registry: CollectorRegistry) -> None:
    run, comparison = context.run, context.past.comparison
    title = (one_line(run.title),)

    def gauge(name: str, words: str, value: float) -> None:
        _run_gauge(registry, run.title, name, words, value)

    gauge("start_time_seconds", "Start of the run", datetime.fromisoformat(run.started_at).timestamp())
    if run.ended_at:
        gauge("end_time_seconds", "End of the run", datetime.fromisoformat(run.ended_at).timestamp())
    _states(registry, run.title, run.incomplete or RunState.FINISHED)
    gauge("seconds", "Duration of the run", round(run.wall_s, 3))
    gauge("interrupted", "1 if the run was interrupted", run.interrupted)
    gauge("good", GOOD, run.is_good)
    gauge("missing_cells", "Cells without the verdict that they should have", len(run.missing))
    gauge("unexpected_cells", "Cells not as expected", sum(not record.expected for record in run.records))
    gauge("accepted_cells", "Cells not as expected, whose failure a person accepted", _accepted(context))
    if comparison:
        gauge("regressions", "Cells worse than in the baseline", len(comparison.regressions))
    cells = Gauge("bootmatrix_run_cells", "Cells with a verdict", ("title", "verdict"), registry=registry)
    for verdict, number in Counter(record.verdict.value for record in run.records).items():
        cells.labels(*title, verdict).set(number)


def _accepted(context: ReportContext) -> int:
    """Count accepted failures, of now if compared, else of the run's end."""
    comparison = context.past.comparison
    if comparison:
        return comparison.counts().get(ChangeKind.ACCEPTED_FAILURE, 0)
    return results_of(context.run).line.accepted

"""What of a run is remembered, made from its records. Pure."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator

from bootmatrix.history.values import CellKey, CellResult, Input, RunLine, RunResults, Standing
from bootmatrix.model import Record, Run, Verdict

WORDS_OF_PROFILE = {"description", "source"}
"""What a profile says for people: other words boot nothing else."""
MAX_TEXT = 400
MAX_SUBRESULTS = 20_000


def results_of(run: Run, name: str = "") -> RunResults:
    """A run with its cells. `name` is that of its folder, which may have been renamed."""
    return RunResults(line_of(run, name), tuple(result_of(record, run.tool_version) for record in run.records))


def line_of(run: Run, name: str = "") -> RunLine:
    """A run in a list of runs."""
    return RunLine(
        name=name or run.name,
        title=run.title,
        started_at=run.started_at,
        ended_at=run.ended_at,
        wall_s=run.wall_s,
        interrupted=run.interrupted,
        tool_version=run.tool_version,
        host=f"{run.host.get('cpus', '?')} × {run.host.get('cpu', 'unknown')}",
        baseline=run.baseline,
        unexpected=sum(not record.expected for record in run.records),
        counts=Counter(record.verdict.value for record in run.records),
    )


def result_of(record: Record, tool_version: str) -> CellResult:
    """One cell."""
    cell = record.cell
    return CellResult(
        id=cell.id,
        key=key_of(record),
        verdict=record.verdict.value,
        standing=standing_of(record),
        seconds=record.outcome.wall_s if record.outcome else 0.0,
        flaky=record.verdict is Verdict.FLAKY,
        reason=record.judgement.reason[:MAX_TEXT],
        expect=cell.expect[:MAX_TEXT],
        inputs=tuple(inputs_of(record, tool_version)) if record.outcome else (),
        subresults=tuple(
            (one.name[:MAX_TEXT], one.verdict.value) for one in record.judgement.subresults[:MAX_SUBRESULTS]
        ),
    )


def key_of(record: Record) -> CellKey:
    """What makes it the same cell in another run."""
    cell = record.cell
    return CellKey(cell.spec_name, cell.arch, cell.machine, cell.kernel, mode_of(record))


def mode_of(record: Record) -> str:
    """How it was booted: `cold`, or `forked`."""
    return "cold" if record.boot == "cold" else "forked"


def standing_of(record: Record) -> Standing:
    """What its verdict means to its matrix."""
    if record.verdict is Verdict.SKIP:
        return Standing.SKIP
    if not record.verdict.is_guests:
        return Standing.FAULT
    if not record.expected:
        return Standing.BAD
    return Standing.GOOD if record.verdict is Verdict.PASS else Standing.FORESEEN


def inputs_of(record: Record, tool_version: str) -> Iterator[Input]:
    """All that the cell was made of. A kernel is called by its name in the matrix, its release is a version."""
    if record.spec_sha256:
        yield Input("spec", record.cell.spec_name, record.spec_sha256)
    for artefact in record.artefacts:
        is_kernel = artefact.kind == "kernel"
        name = record.cell.kernel if is_kernel else "" if artefact.kind == "initrd" else artefact.name[:MAX_TEXT]
        yield Input(artefact.kind, name, artefact.sha256, _version(record) if is_kernel else "")
    if record.machine_profile:
        text = json.dumps(record.machine_profile.model_dump(exclude=WORDS_OF_PROFILE), sort_keys=True)
        yield Input("profile", f"{record.cell.arch}/{record.cell.machine}", digest(text))
    if record.cell.qemu_args:
        text = shlex.join(record.cell.qemu_args)
        yield Input("QEMU arguments", "", digest(text), text[:MAX_TEXT])
    if record.qemu_version:
        yield Input("QEMU", "", version=record.qemu_version[:MAX_TEXT])
    yield Input("bootmatrix", "", version=tool_version)


def _version(record: Record) -> str:
    kernel = record.kernel
    return f"{kernel.release} ({kernel.version})"[:MAX_TEXT] if kernel else ""


def digest_of_inputs(inputs: Iterable[Input]) -> str:
    """One digest for all of them; empty if nothing is known."""
    rows = sorted((one.kind, one.name, one.digest, one.version) for one in inputs)
    return digest(json.dumps(rows)) if rows else ""


def digest(text: str) -> str:
    """SHA-256 of a text, which may hold what is no UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

"""Extraction of the indexed values from a run."""

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bootmatrix.errors import InputError, OtherFormat, UnreadableRun
from bootmatrix.history.acceptance import AcceptedFailure, acceptance_of
from bootmatrix.history.values import CellKey, CellResult, Input, RunLine, RunResults, RunState, Standing, UnusableRun
from bootmatrix.model import AcceptanceRecord, Cell, Component, Machine, Record, Run, Verdict
from bootmatrix.runs.run_store import RUN_FILE, load_run

WORDS_OF_PROFILE = {"description", "source"}
"""Descriptive keys of a profile, without effect on the boot."""
MAX_TEXT = 400
MAX_SUBRESULTS = 20_000


def read_run(folder: Path) -> RunResults | UnusableRun:
    """Read a run; on failure return the reason."""
    try:
        return load_results(folder)
    except OtherFormat as error:
        return UnusableRun(RunState.OTHER_FORMAT, error.message)
    except UnreadableRun as error:
        return UnusableRun(RunState.NOT_READABLE, error.message)
    except InputError as error:
        return UnusableRun(RunState.DAMAGED, error.message)
    except OSError as error:
        return UnusableRun(RunState.NOT_READABLE, f"{folder}: cannot be read: {error.strerror or error}")
    except ValueError as error:
        return UnusableRun(RunState.DAMAGED, f"{folder}: damaged: {error}")


def load_results(folder: Path) -> RunResults:
    """Load a run from its files. Raises InputError if it cannot be read."""
    stamp = _stamp(folder)
    if stamp and _known.get(stamp):
        return _known[stamp]
    return results_of(load_run(folder), folder.name)


_known: dict[tuple[int, ...], RunResults] = {}
"""The results of the run that this process has just written, by the identity of its file."""


def keep_results(folder: Path, results: RunResults) -> None:
    """Remember a run in memory, so that indexing does not read it again."""
    stamp = _stamp(folder)
    _known.clear()
    if stamp:
        _known[stamp] = results


def _stamp(folder: Path) -> tuple[int, ...]:
    """Return the identity and the state of a run's file; empty without one."""
    with suppress(OSError):
        status = (folder / RUN_FILE).stat()
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
    return ()


def results_of(run: Run, name: str = "") -> RunResults:
    """Extract a run and its cells. `name` is the folder's current name."""
    digests: dict[int, str] = {}
    cells = tuple(result_of(record, run.tool_version, digests, run.accepted) for record in run.records)
    line = replace(line_of(run, name), accepted=sum(bool(cell.accepted) for cell in cells))
    return RunResults(line, cells)


def line_of(run: Run, name: str = "") -> RunLine:
    """Extract the run's summary."""
    return RunLine(
        name=name or run.name,
        title=run.title,
        started_at=run.started_at,
        ended_at=run.ended_at,
        wall_s=run.wall_s,
        interrupted=run.interrupted,
        interruption=run.interruption,
        tool_version=run.tool_version,
        host=f"{run.host.get('cpus', '?')} × {run.host.get('cpu', 'unknown')}",
        baseline=run.baseline,
        unexpected=sum(not record.expected for record in run.records),
        missing=len(run.missing),
        branch=run.branch,
        state=RunState.INTERRUPTED if run.interrupted else RunState.FINISHED,
        counts=Counter(record.verdict.value for record in run.records),
    )


def result_of(
    record: Record, tool_version: str, digests: dict[int, str] | None = None, accepted: Sequence[AcceptanceRecord] = ()
) -> CellResult:
    """Extract a cell. `digests` keeps those of machines that several records share.

    `accepted` are the failures that were accepted at the run's end.
    """
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
        inputs=tuple(inputs_of(record, tool_version, digests)) if record.outcome else (),
        subresults=tuple(
            (result.name[:MAX_TEXT], result.verdict.value) for result in record.judgement.subresults[:MAX_SUBRESULTS]
        ),
        accepted=_accepted(record, accepted)[:MAX_TEXT],
    )


def _accepted(record: Record, accepted: Sequence[AcceptanceRecord]) -> str:
    """Describe an acceptance; empty without one, or for a verdict of ours."""
    if standing_of(record) is not Standing.BAD:
        return ""
    entries = [
        AcceptedFailure(entry.cell, entry.reason, entry.by, entry.at, entry.until, passed=entry.passed)
        for entry in accepted
    ]
    return str(acceptance_of(record.cell.id, entries) or "")


def key_of(record: Record) -> CellKey:
    """Return the key that identifies the cell across runs."""
    cell = record.cell
    return CellKey(cell.spec_name, cell.arch, cell.machine, cell.kernel, mode_of(record))


def mode_of(record: Record) -> str:
    """Return the boot mode: `cold` or `forked`; the tier outside of guests."""
    if record.cell.tier != "system":
        return record.cell.tier
    return "cold" if record.boot == "cold" else "forked"


def standing_of(record: Record) -> Standing:
    """Classify a verdict by the matrix's expectation."""
    if record.verdict is Verdict.SKIP:
        return Standing.SKIP
    if not record.verdict.is_tested:
        return Standing.FAULT
    if not record.expected:
        return Standing.BAD
    return Standing.GOOD if record.verdict in {Verdict.PASS, Verdict.USER_PASS} else Standing.FORESEEN


def inputs_of(record: Record, tool_version: str, digests: dict[int, str] | None = None) -> Iterator[Input]:
    """List a cell's inputs; a kernel is named as in the matrix."""
    if record.spec_sha256:
        yield Input("spec", record.cell.spec_name, record.spec_sha256)
    images = {part.sha256: part.version for part in _parts(record) if part.kind == "image"}
    for artefact in record.artefacts:
        is_kernel = artefact.kind == "kernel"
        name = record.cell.kernel if is_kernel else "" if artefact.kind == "initrd" else artefact.name[:MAX_TEXT]
        version = _version(record) if is_kernel else images.get(artefact.sha256, "")[:MAX_TEXT]
        yield Input(artefact.kind, name, artefact.sha256, version)
    yield from _components(record)
    yield from settings_of(record.cell, record.machine_profile, digests)
    if record.qemu_version:
        yield Input("QEMU", "", version=record.qemu_version[:MAX_TEXT])
    yield Input("bootmatrix", "", version=tool_version)


def _components(record: Record) -> Iterable[Input]:
    """List packages and user files, once: images share most of them."""
    parts = (part for part in _parts(record) if part.kind in {"package", "file"})
    return dict.fromkeys(Input(part.kind, part.name[:MAX_TEXT], part.sha256, part.version[:MAX_TEXT]) for part in parts)


def _parts(record: Record) -> Iterator[Component]:
    return (part for image in record.contents for part in image.components)


def settings_of(cell: Cell, machine: Machine | None, digests: dict[int, str] | None = None) -> Iterator[Input]:
    """List other inputs: machine, QEMU arguments, fatal messages."""
    if machine:
        known = {} if digests is None else digests
        if id(machine) not in known:
            known[id(machine)] = digest(json.dumps(machine.model_dump(exclude=WORDS_OF_PROFILE), sort_keys=True))
        yield Input("profile", f"{cell.arch}/{cell.machine}", known[id(machine)])
    if cell.qemu_args:
        text = shlex.join(cell.qemu_args)
        yield Input("QEMU arguments", "", digest(text), text[:MAX_TEXT])
    if cell.fail_on:
        text = ", ".join(sorted(cell.fail_on))
        yield Input("fail_on", "", digest(text), text[:MAX_TEXT])


def _version(record: Record) -> str:
    kernel = record.kernel
    return f"{kernel.release} ({kernel.version})"[:MAX_TEXT] if kernel else ""


def digest_of_inputs(inputs: Iterable[Input]) -> str:
    """Return one digest of all inputs; empty without inputs."""
    rows = sorted((entry.kind, entry.name, entry.digest, entry.version) for entry in inputs)
    return digest(json.dumps(rows)) if rows else ""


def digest(text: str) -> str:
    """Return the SHA-256 of a text, which may contain lone surrogates."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

"""Content of a sign-off, derived from a run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bootmatrix.errors import InputError
from bootmatrix.history.extract import mode_of, result_of
from bootmatrix.history.values import ChangeKind, Comparison
from bootmatrix.model import Record, Run, Verdict
from bootmatrix.report.order import cell_order

INTERRUPTED = "interrupted"
"""Stands for the interruption of a run in `--accept`, instead of a cell."""


@dataclass(frozen=True)
class Acceptance:
    """Acceptance of an exception. `cell` is an id, a pattern of ids, or `interrupted`."""

    cell: str
    reason: str
    by: str


@dataclass(frozen=True)
class Deviation:
    """An exception: anything but a plain pass. `accepted` is the reason for acceptance, `by` the person."""

    cell: str
    verdict: str
    reason: str
    accepted: str
    by: str
    expected: bool


@dataclass(frozen=True)
class Digest:
    """Digest of something tested, or used in the test."""

    kind: str
    name: str
    sha256: str


@dataclass(frozen=True)
class SignOff:
    """A sign-off. `subjects` were tested, `others` used in the test; cells are by id.

    `result` is PASSED if all cells passed, and WARNED if a cell was skipped, expected to fail, or accepted.
    `empty_folders` are the run's empty folders, which a manifest of files cannot list.
    """

    release: str
    run: Run
    date: str
    result: str
    records: tuple[Record, ...]
    deviations: tuple[Deviation, ...]
    skips: tuple[Record, ...]
    forked: tuple[str, ...]
    gone: tuple[str, ...]
    comparison: Comparison | None
    subjects: tuple[Digest, ...]
    others: tuple[Digest, ...]
    qemu: tuple[str, ...]
    manifest_sha256: str
    empty_folders: tuple[str, ...] = ()


def sign_off(  # noqa: PLR0913
    run: Run,
    *,
    release: str,
    date: str,
    acceptances: Sequence[Acceptance],
    comparison: Comparison | None,
    manifest_sha256: str,
    empty_folders: tuple[str, ...] = (),
) -> SignOff:
    """Derive the content of a sign-off.

    Raises:
        InputError: no cell passed, an unexpected verdict is not accepted, or an acceptance matches nothing.
    """
    records = sorted(run.records, key=lambda record: cell_order(record.cell))
    tried = [record for record in records if record.verdict is not Verdict.SKIP]
    if not any(record.verdict is Verdict.PASS for record in tried):
        raise InputError(f"{run.name}: no cell passed, so there is nothing to sign off")
    deviations = tuple(_deviations(run, tried, acceptances))
    _check(run, deviations, acceptances)
    changes = comparison.changes if comparison else ()
    skips = tuple(record for record in records if record.verdict is Verdict.SKIP)
    return SignOff(
        release=release,
        run=run,
        date=date,
        result="WARNED" if deviations or skips else "PASSED",
        records=tuple(tried),
        deviations=deviations,
        skips=skips,
        forked=tuple(record.cell.id for record in tried if mode_of(record) != "cold"),
        gone=tuple(change.id for change in changes if change.kind is ChangeKind.GONE_CELL),
        comparison=comparison,
        subjects=_unique(_artefacts(tried, {"image", "initrd", "disk"})),
        others=_unique([*_artefacts(tried, {"kernel", "dtb", "firmware", "attached"}), *_inputs(tried)]),
        qemu=tuple(dict.fromkeys(record.qemu_version for record in tried if record.qemu_version)),
        manifest_sha256=manifest_sha256,
        empty_folders=empty_folders,
    )


def _deviations(run: Run, records: Iterable[Record], acceptances: Sequence[Acceptance]) -> Iterator[Deviation]:
    if run.interrupted or run.missing:
        acceptance = _accepted(INTERRUPTED, acceptances)
        words = f"the run was interrupted{_unfinished(run)}"
        yield Deviation(
            INTERRUPTED, "", words, acceptance.reason if acceptance else "", acceptance.by if acceptance else "", False
        )
    for record in records:
        if record.verdict is Verdict.PASS and record.expected:
            continue
        acceptance = _accepted(record.cell.id, acceptances)
        reason = record.judgement.reason
        if record.verdict is Verdict.PASS:
            reason = "passed, expected a failure"
        expectation = Acceptance("", record.cell.expect, "the matrix") if record.expected else None
        accepted = acceptance or expectation
        yield Deviation(
            cell=record.cell.id,
            verdict=record.verdict.value,
            reason=reason,
            accepted=accepted.reason if accepted else "",
            by=accepted.by if accepted else "",
            expected=record.expected,
        )


def _unfinished(run: Run) -> str:
    return f", with no verdict on these cells: {', '.join(run.missing)}" if run.missing else ""


def _accepted(cell: str, acceptances: Iterable[Acceptance]) -> Acceptance | None:
    return next((acceptance for acceptance in acceptances if _is_for(acceptance, cell)), None)


def _is_for(acceptance: Acceptance, cell: str) -> bool:
    """Return whether an acceptance covers a cell. Patterns do not match an interruption."""
    return acceptance.cell == cell or (cell != INTERRUPTED and fnmatchcase(cell, acceptance.cell))


def _check(run: Run, deviations: Sequence[Deviation], acceptances: Iterable[Acceptance]) -> None:
    unaccepted = [entry for entry in deviations if not entry.accepted]
    if unaccepted:
        lines = "".join(f"\n  {entry.cell}: {entry.verdict or 'yes'}: {entry.reason}" for entry in unaccepted)
        raise InputError(
            f"{run.name} is not signed off; not accepted:{lines}",
            "Accept each with --accept CELL --reason WHY --by WHO, or fix it and run again.",
        )
    for entry in acceptances:
        if not any(_is_for(entry, deviation.cell) for deviation in deviations):
            raise InputError(f"--accept {entry.cell}: matches nothing that needs acceptance")


def _artefacts(records: Iterable[Record], kinds: set[str]) -> Iterator[Digest]:
    for record in records:
        for artefact in record.artefacts:
            if artefact.kind in kinds:
                name = (
                    f"{record.cell.id} {artefact.name}"
                    if artefact.kind == "initrd"
                    else f"{record.cell.arch} {artefact.name}"
                )
                yield Digest(artefact.kind, name, artefact.sha256)


def _inputs(records: Iterable[Record]) -> Iterator[Digest]:
    for record in records:
        for entry in result_of(record, "").inputs:
            if entry.kind in {"spec", "profile"}:
                yield Digest(entry.kind, entry.name, entry.digest)
            elif entry.kind == "QEMU arguments":
                yield Digest(entry.kind, entry.version, entry.digest)
        for package in record.kernel.packages if record.kernel else ():
            yield Digest("package", f"{package.name} {package.version} {package.architecture}", package.sha256)
        for part in record.kernel.parts if record.kernel else ():
            yield Digest("package", str(part), part.sha256 or "")


def _unique(digests: Iterable[Digest]) -> tuple[Digest, ...]:
    """Remove duplicates of one kind and digest, and sort: many cells share an image."""
    unique: dict[tuple[str, str], Digest] = {}
    for entry in digests:
        unique.setdefault((entry.kind, entry.sha256), entry)
    return tuple(sorted(unique.values(), key=lambda entry: (entry.kind, entry.name)))

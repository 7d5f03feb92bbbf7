"""What a sign-off says, made from a run. Pure."""

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
"""What `--accept` names for a run that was interrupted, in a cell's place."""


@dataclass(frozen=True)
class Acceptance:
    """Someone's word that a release may go out nevertheless. `cell` is an id, a pattern of ids, or `interrupted`."""

    cell: str
    reason: str
    by: str


@dataclass(frozen=True)
class Deviation:
    """Something that is no plain pass. `accepted` is why it does not stand in the way, `by` who says so."""

    cell: str
    verdict: str
    reason: str
    accepted: str
    by: str
    expected: bool


@dataclass(frozen=True)
class Digest:
    """Something with a digest that was tested, or tested with."""

    kind: str
    name: str
    sha256: str


@dataclass(frozen=True)
class SignOff:
    """The whole of it. `subjects` are what was tested, `others` what it was tested with; cells are by id.

    `result` is PASSED if all cells passed, and WARNED if a cell was skipped, or anything was expected or accepted.
    `empty_folders` are those of the run that hold nothing, which a manifest of files cannot list.
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
    """Put together what is signed.

    Raises:
        InputError: nothing passed, something that nobody expected was not accepted, or an acceptance is of nothing.
    """
    records = sorted(run.records, key=lambda record: cell_order(record.cell))
    tried = [record for record in records if record.verdict is not Verdict.SKIP]
    if not any(record.verdict is Verdict.PASS for record in tried):
        raise InputError(f"{run.name}: no cell passed, so that there is nothing to sign off")
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
        found = _accepted(INTERRUPTED, acceptances)
        words = f"the run was interrupted{_unfinished(run)}"
        yield Deviation(INTERRUPTED, "", words, found.reason if found else "", found.by if found else "", False)
    for record in records:
        if record.verdict is Verdict.PASS and record.expected:
            continue
        found = _accepted(record.cell.id, acceptances)
        reason = record.judgement.reason
        if record.verdict is Verdict.PASS:
            reason = "it passed, and was expected not to"
        known = Acceptance("", record.cell.expect, "the matrix") if record.expected else None
        word = found or known
        yield Deviation(
            cell=record.cell.id,
            verdict=record.verdict.value,
            reason=reason,
            accepted=word.reason if word else "",
            by=word.by if word else "",
            expected=record.expected,
        )


def _unfinished(run: Run) -> str:
    return f", with no verdict on these cells: {', '.join(run.missing)}" if run.missing else ""


def _accepted(cell: str, acceptances: Iterable[Acceptance]) -> Acceptance | None:
    return next((one for one in acceptances if _is_for(one, cell)), None)


def _is_for(acceptance: Acceptance, cell: str) -> bool:
    """Return whether an acceptance is of a cell. An interruption is no cell: no pattern matches it, only its name."""
    return acceptance.cell == cell or (cell != INTERRUPTED and fnmatchcase(cell, acceptance.cell))


def _check(run: Run, deviations: Sequence[Deviation], acceptances: Iterable[Acceptance]) -> None:
    open_ones = [one for one in deviations if not one.accepted]
    if open_ones:
        lines = "".join(f"\n  {one.cell}: {one.verdict or 'yes'}: {one.reason}" for one in open_ones)
        raise InputError(
            f"{run.name} is not signed off, as nobody accepts this:{lines}",
            "Accept each with --accept CELL --reason WHY --by WHO, or mend it and run again.",
        )
    for one in acceptances:
        if not any(_is_for(one, found.cell) for found in deviations):
            raise InputError(f"--accept {one.cell}: nothing of that name needs to be accepted")


def _artefacts(records: Iterable[Record], kinds: set[str]) -> Iterator[Digest]:
    for record in records:
        for one in record.artefacts:
            if one.kind in kinds:
                name = f"{record.cell.id} {one.name}" if one.kind == "initrd" else f"{record.cell.arch} {one.name}"
                yield Digest(one.kind, name, one.sha256)


def _inputs(records: Iterable[Record]) -> Iterator[Digest]:
    for record in records:
        for one in result_of(record, "").inputs:
            if one.kind in {"spec", "profile"}:
                yield Digest(one.kind, one.name, one.digest)
            elif one.kind == "QEMU arguments":
                yield Digest(one.kind, one.version, one.digest)
        for package in record.kernel.packages if record.kernel else ():
            yield Digest("package", f"{package.name} {package.version} {package.architecture}", package.sha256)
        for part in record.kernel.parts if record.kernel else ():
            yield Digest("package", str(part), part.sha256 or "")


def _unique(digests: Iterable[Digest]) -> tuple[Digest, ...]:
    """One for each digest and kind, in order: an image of one architecture is booted with many kernels."""
    found: dict[tuple[str, str], Digest] = {}
    for one in digests:
        found.setdefault((one.kind, one.sha256), one)
    return tuple(sorted(found.values(), key=lambda one: (one.kind, one.name)))

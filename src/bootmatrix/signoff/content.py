"""Content of a sign-off, derived from a run. Pure."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bootmatrix.errors import InputError
from bootmatrix.history.extract import mode_of, result_of
from bootmatrix.history.values import Comparison
from bootmatrix.model import Judgement, Record, Run, Verdict
from bootmatrix.model.contents import Component
from bootmatrix.report.order import cell_order
from bootmatrix.report.product import ProductLine, mixed_products, product_lines
from bootmatrix.report.sanitize import one_line

INTERRUPTED = "interrupted"
"""Stands for the interruption of a run in `--accept`, instead of a cell."""
NOT_TESTED = "not-tested"
"""Stands for the cells of the matrix or the baseline that were not tested in `--accept`, instead of a cell."""
MIXED = "mixed-products"
"""Stands for different products under one spec, as runs of two releases have that are merged, in `--accept`."""
OF_THE_RUN = frozenset({INTERRUPTED, NOT_TESTED, MIXED})
NAMED_CELLS = 20
"""Cells that an exception names; the attestation has all."""


@dataclass(frozen=True)
class Acceptance:
    """Acceptance of an exception: id, pattern, or one of OF_THE_RUN."""

    cell: str
    reason: str
    by: str


@dataclass(frozen=True)
class Deviation:
    """An exception: not a plain pass; `accepted` is the reason, `by` who."""

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

    `result` is PASSED if all cells passed, and WARNED if a cell was skipped, expected to fail, or accepted, or if cells
    of the baseline were not tested. `products` are the tested packages, files and images, `gone` the cells of the
    baseline that were not tested.
    `empty_folders` are the run's empty folders, which a manifest of files cannot list.
    """

    release: str
    run: Run
    date: str
    result: str
    products: tuple[ProductLine, ...]
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

    Raises InputError if no cell passed, an unexpected verdict is not accepted, or an acceptance matches nothing.
    """
    records = sorted(run.records, key=lambda record: cell_order(record.cell))
    tried = [record for record in records if record.verdict is not Verdict.SKIP]
    others = (record.cell for record in tried if record.cell.tier != "system" or record.verdict.is_user_tier)
    if cell := next(others, None):
        raise InputError(
            f"{run.name}: {cell.id} was tried in the {cell.tier} tier: it cannot be signed off",
            "Run the matrix with 'tier: [system]', and sign off that run.",
        )
    if not any(record.verdict is Verdict.PASS for record in tried):
        raise InputError(f"{run.name}: no cell passed, so there is nothing to sign off")
    deviations = (*_of_the_run(run, comparison, acceptances), *_deviations(tried, acceptances))
    _check(run, deviations, acceptances)
    skips = tuple(record for record in records if record.verdict is Verdict.SKIP)
    product = (part for record in tried for part in record.product)
    images = (image for record in tried for image in record.contents)  # the product is among their components
    content = (part for image in images for part in image.components)
    ours = {image.sha256 for record in tried for image in record.contents if "init" in image.roles}
    artefacts = _unique(_artefacts(tried, {"image", "initrd", "disk", "root"}))
    subjects = _unique([*_parts(product), *(entry for entry in artefacts if entry.sha256 not in ours)])
    return SignOff(
        release=release,
        run=run,
        date=date,
        result="WARNED" if deviations or skips else "PASSED",
        products=product_lines(tried),
        records=tuple(tried),
        deviations=deviations,
        skips=skips,
        forked=tuple(record.cell.id for record in tried if mode_of(record) != "cold"),
        gone=comparison.not_tested if comparison else (),
        comparison=comparison,
        subjects=subjects,
        others=_unique(
            [
                *_artefacts(tried, {"kernel", "dtb", "firmware", "attached"}),
                *artefacts,
                *_inputs(tried),
                *_parts(content),
            ],
            {entry.sha256 for entry in subjects},
        ),
        qemu=tuple(dict.fromkeys(record.qemu_version for record in tried if record.qemu_version)),
        manifest_sha256=manifest_sha256,
        empty_folders=empty_folders,
    )


def _of_the_run(run: Run, comparison: Comparison | None, acceptances: Sequence[Acceptance]) -> Iterator[Deviation]:
    """Yield the run's own exceptions: interrupted, a part, baseline not tested."""
    if run.interrupted or run.missing:
        yield _exception(INTERRUPTED, f"the run was interrupted{_unfinished(run)}", acceptances)
    untested = [run.part_words] if run.part_words else []
    if comparison and comparison.not_tested:
        names, total = comparison.not_tested[:NAMED_CELLS], len(comparison.not_tested)
        more = f" and {total - NAMED_CELLS} more" if total > NAMED_CELLS else ""
        untested.append(f"{comparison.not_tested_words}: {', '.join(names)}{more}")
    if untested:
        yield _exception(NOT_TESTED, "; ".join(untested), acceptances)
    if mixed := list(mixed_products(run.records)):
        yield _exception(
            MIXED, f"cells of one spec tested different products: {', '.join(mixed[:NAMED_CELLS])}", acceptances
        )


def _exception(name: str, words: str, acceptances: Sequence[Acceptance]) -> Deviation:
    acceptance = _accepted(name, acceptances)
    return Deviation(
        name, "", words, acceptance.reason if acceptance else "", acceptance.by if acceptance else "", False
    )


def _deviations(records: Iterable[Record], acceptances: Sequence[Acceptance]) -> Iterator[Deviation]:
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
    """Return whether an acceptance covers a cell; patterns cover cells only."""
    return acceptance.cell == cell or (cell not in OF_THE_RUN and fnmatchcase(cell, acceptance.cell))


def _check(run: Run, deviations: Sequence[Deviation], acceptances: Iterable[Acceptance]) -> None:
    unaccepted = [entry for entry in deviations if not entry.accepted]
    if unaccepted:
        lines = "".join(
            f"\n  {entry.cell}: {entry.verdict}{': ' if entry.verdict else ''}{entry.reason}" for entry in unaccepted
        )
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


def _parts(parts: Iterable[Component]) -> Iterator[Digest]:
    for part in parts:
        yield Digest(part.kind, " ".join(filter(None, (part.name, part.version, part.architecture))), part.sha256)


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


def weaker_evidence(records: Iterable[Record]) -> dict[str, str]:
    """Return the reasons for which evidence is weaker, by the cell's id."""
    return {
        record.cell.id: one_line(_weakness(record.judgement), 1000) for record in records if record.judgement.is_weak
    }


def _weakness(judgement: Judgement) -> str:
    """Return what makes a judgement's evidence weaker; a failure does not say it."""
    limits = (evidence.text for evidence in judgement.evidence if evidence.source == "judge")
    return "; ".join(judgement.privileged) or "; ".join(limits) or "judged by the console alone"


def _unique(digests: Iterable[Digest], listed: Collection[str] = ()) -> tuple[Digest, ...]:
    """Remove duplicates by kind and digest, and sort: cells share images."""
    unique: dict[tuple[str, str], Digest] = {}
    for entry in digests:
        if entry.sha256 not in listed:
            unique.setdefault((entry.kind, entry.sha256), entry)
    return tuple(sorted(unique.values(), key=lambda entry: (entry.kind, entry.name)))

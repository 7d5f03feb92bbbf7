"""Comparison with a baseline by spec, machine, kernel and boot. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bootmatrix.history.acceptance import AcceptedFailure, acceptance_of, ended_acceptance_of
from bootmatrix.history.trend import duration_change
from bootmatrix.history.values import (
    CellChange,
    CellHistory,
    CellKey,
    CellResult,
    ChangeKind,
    Comparison,
    Input,
    InputChange,
    RunResults,
    Standing,
    SubChange,
    Usual,
)

FAILED = frozenset({Standing.BAD, Standing.FORESEEN})
DERIVED = frozenset({"initrd", "dtb"})
"""Kinds of input made from others, listed only if none of those changed."""
ORDER = tuple(ChangeKind)
ABSENT = "not in the baseline"


def compare(
    run: RunResults,
    baseline: RunResults | None,
    histories: Mapping[CellKey, CellHistory],
    usual: Mapping[CellKey, Usual | None],
    accepted: Sequence[AcceptedFailure] = (),
) -> Comparison:
    """Compare the cells of a run with those of a baseline, regressions first.

    Args:
        run: the run.
        baseline: the run to compare with; with None every failure is new.
        histories: history of each cell up to the run.
        usual: usual duration of each cell up to the baseline.
        accepted: failures that are accepted now, and acceptances that are over.
    """
    before = {cell.key: cell for cell in baseline.cells} if baseline else {}
    now = {cell.key: cell for cell in run.cells}
    changes = [_change(cell, before.get(key), histories.get(key), usual.get(key)) for key, cell in now.items()]
    if baseline is None:
        changes = [replace(change, note=change.note.removeprefix(ABSENT)) for change in changes]
    changes = [_accept(change, accepted) for change in changes]
    is_unfinished = run.line.interrupted or not run.line.ended_at
    absent = ChangeKind.NOT_TESTED if is_unfinished else ChangeKind.GONE_CELL
    changes += [_gone(cell, now, absent) for key, cell in before.items() if key not in now and _was_tried(cell)]
    return Comparison(
        run=run.line.name,
        baseline=baseline.line.name if baseline else "",
        baseline_started_at=baseline.line.started_at if baseline else "",
        changes=tuple(sorted(changes, key=lambda change: (not change.is_regression, ORDER.index(change.kind)))),
        interrupted=is_unfinished,
    )


def _change(now: CellResult, before: CellResult | None, history: CellHistory | None, usual: Usual | None) -> CellChange:
    if now.standing is Standing.SKIP:
        return _skipped(now, before, history)
    old = before if before and _was_judged(before) else None
    kind = _kind(now, old, bool(history and history.is_flapping))
    is_regression = kind is ChangeKind.NEW_FAILURE or (
        kind is ChangeKind.FLAPPING and _failed(now) and (now.standing is Standing.BAD)
    )
    since = history.failing_since if history and now.standing in FAILED else None
    both_pass = old is not None and old.standing is Standing.GOOD and now.standing is Standing.GOOD
    return CellChange(
        id=now.id,
        mode=now.key.mode,
        kind=kind,
        before=before.verdict if before else "",
        now=now.verdict,
        is_regression=is_regression,
        reason=now.reason,
        since=since.started_at if since else "",
        note=(_earlier(before, history) if is_regression else "") or _note(now, before),
        subresults=tuple(sub_changes(old.subresults, now.subresults)) if old and _has_boot(now) else (),
        duration=duration_change(usual, now.seconds) if both_pass else None,
        inputs=tuple(input_changes(old.inputs, now.inputs)) if old and _has_boot(now) else (),
    )


def _accept(change: CellChange, accepted: Sequence[AcceptedFailure]) -> CellChange:
    """Mark a failure that a person accepted."""
    failures = {ChangeKind.NEW_FAILURE, ChangeKind.STILL_FAILING, ChangeKind.FLAPPING}
    entry = acceptance_of(change.id, accepted) if change.kind in failures else None
    if entry is None or change.now == "pass":
        ended = ended_acceptance_of(change.id, accepted) if change.is_regression else None
        return replace(change, note=_ended_note(change, ended)) if ended else change
    return replace(change, kind=ChangeKind.ACCEPTED_FAILURE, is_regression=False, note=str(entry))


def _ended_note(change: CellChange, ended: AcceptedFailure) -> str:
    """Add the end of an acceptance, of which the baseline may know already."""
    note = "" if change.note == f"was {ended}" else change.note
    return "; ".join(filter(None, (note, ended.end_words(change.id))))


def _kind(now: CellResult, old: CellResult | None, flapping: bool) -> ChangeKind:
    failed, failed_before = _failed(now), old is not None and _failed(old) and not old.accepted
    if now.standing is Standing.FAULT:
        kind = ChangeKind.NO_VERDICT
    elif failed and failed_before:
        kind = ChangeKind.STILL_FAILING
    elif failed and now.standing is Standing.FORESEEN:
        kind = ChangeKind.EXPECTED_FAILURE
    elif old is None:
        kind = ChangeKind.NEW_FAILURE if failed else ChangeKind.NEW_CELL
    elif not failed and not _failed(old):
        kind = ChangeKind.UNCHANGED
    elif flapping or now.flaky:
        kind = ChangeKind.FLAPPING
    else:
        kind = ChangeKind.NEW_FAILURE if failed else ChangeKind.FIXED
    return kind


def _failed(cell: CellResult) -> bool:
    """Return whether the guest failed; an unexpected pass is not a failure."""
    return cell.standing in FAILED and (cell.verdict != "pass" or cell.flaky)


def _skipped(now: CellResult, before: CellResult | None, history: CellHistory | None) -> CellChange:
    """Compare a skipped cell; a guest that skips itself after a failure stays red."""
    was_red = before is not None and _failed(before) and not before.accepted
    since = history.failing_since if history and now.seconds and not was_red else None
    if history and since and _last_standing(history) is Standing.BAD:
        kind, note = ChangeKind.NEW_FAILURE, "failed in its last verdict, and skips now"
    elif before is not None and _was_tried(before):
        kind, note = ChangeKind.GONE_CELL, "skipped now"
    else:
        kind, note = ChangeKind.UNCHANGED, ""
    is_regression = kind is ChangeKind.NEW_FAILURE
    return CellChange(
        id=now.id,
        mode=now.key.mode,
        kind=kind,
        before=before.verdict if before else "",
        now=now.verdict,
        is_regression=is_regression,
        reason=now.reason,
        since=since.started_at if since and is_regression else "",
        note=note,
    )


def _last_standing(history: CellHistory) -> Standing | None:
    """Return the standing of the last verdict on the guest."""
    return next((entry.standing for entry in reversed(history.past) if entry.standing is not Standing.FAULT), None)


def _gone(before: CellResult, now: Mapping[CellKey, CellResult], kind: ChangeKind) -> CellChange:
    others = sorted(cell.key.mode for cell in now.values() if cell.id == before.id)
    note = f"{before.key.mode} in the baseline, {others[0]} now: not compared" if others else ""
    kind = ChangeKind.GONE_CELL if others else kind
    return CellChange(id=before.id, mode=before.key.mode, kind=kind, before=before.verdict, now="", note=note)


def _earlier(before: CellResult | None, history: CellHistory | None) -> str:
    """Describe an old regression: `regressed 3 runs ago`, or its acceptance."""
    if before and before.accepted:
        return f"was {before.accepted}"
    number = history.failing_runs - 1 if history else 0
    return f"regressed {number} run{'' if number == 1 else 's'} ago" if number > 0 else ""


def _note(now: CellResult, before: CellResult | None) -> str:
    if before is None:
        return ABSENT
    if not _was_judged(before):
        return f"no verdict on the guest in the baseline: {before.verdict}"
    if now.standing is Standing.BAD and now.verdict == "pass" and not now.flaky:
        return f"passed, expected a failure: {now.expect}"
    return ""


def _was_tried(cell: CellResult) -> bool:
    return cell.standing is not Standing.SKIP


def _was_judged(cell: CellResult) -> bool:
    return cell.standing not in {Standing.SKIP, Standing.FAULT}


_has_boot = _was_judged


def sub_changes(before: Iterable[tuple[str, str]], now: Iterable[tuple[str, str]]) -> list[SubChange]:
    """List differing sub-results; of several with a name, the worst."""
    old, new = _by_name(before), _by_name(now)
    names = [*new, *(name for name in old if name not in new)]
    return [SubChange(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    verdicts: dict[str, str] = {}
    for name, verdict in pairs:
        if verdicts.get(name, "pass") in {"pass", "skip"}:
            verdicts[name] = verdict
    return verdicts


def input_changes(before: Iterable[Input], now: Iterable[Input]) -> list[InputChange]:
    """List the changed inputs; derived ones only if no primary input changed."""
    old = {(entry.kind, entry.name): entry for entry in before}
    new = {(entry.kind, entry.name): entry for entry in now}
    keys = [*new, *(key for key in old if key not in new)]
    changes = [
        InputChange(kind, name, old.get((kind, name)), new.get((kind, name)))
        for kind, name in keys
        if old.get((kind, name)) != new.get((kind, name))
    ]
    primary = [change for change in changes if change.kind not in DERIVED]
    return primary or changes

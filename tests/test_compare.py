"""How two runs differ, and what a cell's past says of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from bootmatrix.history.compare import compare
from bootmatrix.history.extract import digest_of_inputs, result_of, results_of
from bootmatrix.history.trend import duration_change, history_of
from bootmatrix.history.values import (
    CellChange,
    CellHistory,
    CellResult,
    ChangeKind,
    Comparison,
    PastVerdict,
    RunResults,
    Standing,
    Usual,
)
from bootmatrix.model import Record, Run, SubResult, Verdict
from samples import STARTED, make_cell, make_record, mixed_records

CELL = make_cell("x86_64")
PASS = make_record(CELL)
FAIL = make_record(CELL, Verdict.FAIL, "broken")
PANIC = make_record(CELL, Verdict.PANIC, "panic")
KNOWN = make_record(make_cell("x86_64", expect="issue 1"), Verdict.FAIL, "known", expected=True)
SURPRISE = make_record(make_cell("x86_64", expect="issue 1"), expected=False)
INFRA = make_record(CELL, Verdict.INFRA_ERROR, "mirror")
BUILD = make_record(CELL, Verdict.BUILD_ERROR, "no package")
SKIP = make_record(CELL, Verdict.SKIP, "excluded")


def run_of(records: Iterable[Record], name: str = "now") -> RunResults:
    return results_of(
        Run(name=name, title="t", tool_version="0.1.0", started_at=STARTED, ended_at=STARTED, records=tuple(records))
    )


def compared(
    before: Iterable[Record] | None,
    now: Iterable[Record],
    history: CellHistory | None = None,
    usual: Usual | None = None,
) -> Comparison:
    run = run_of(now)
    keys = [cell.key for cell in run.cells]
    return compare(
        run,
        run_of(before, "before") if before is not None else None,
        dict.fromkeys(keys, history) if history else {},
        dict.fromkeys(keys, usual),
    )


def change(before: Record | None, now: Record | None, history: CellHistory | None = None) -> CellChange:
    (found,) = compared([before] if before else [], [now] if now else [], history).changes
    return found


@pytest.mark.parametrize(
    ("before", "now", "kind", "is_regression"),
    [
        (PASS, PASS, ChangeKind.UNCHANGED, False),
        (PASS, FAIL, ChangeKind.NEW_FAILURE, True),
        (PASS, PANIC, ChangeKind.NEW_FAILURE, True),
        (PASS, KNOWN, ChangeKind.EXPECTED_FAILURE, False),
        (PASS, INFRA, ChangeKind.NO_VERDICT, False),
        (PASS, BUILD, ChangeKind.NO_VERDICT, False),
        (PASS, SKIP, ChangeKind.GONE_CELL, False),
        (PASS, None, ChangeKind.GONE_CELL, False),
        (FAIL, PASS, ChangeKind.FIXED, False),
        (FAIL, FAIL, ChangeKind.STILL_FAILING, False),
        (FAIL, PANIC, ChangeKind.STILL_FAILING, False),
        (FAIL, KNOWN, ChangeKind.STILL_FAILING, False),
        (KNOWN, FAIL, ChangeKind.STILL_FAILING, False),
        (KNOWN, KNOWN, ChangeKind.STILL_FAILING, False),
        (KNOWN, SURPRISE, ChangeKind.FIXED, False),
        (SURPRISE, KNOWN, ChangeKind.EXPECTED_FAILURE, False),
        (INFRA, PASS, ChangeKind.NEW_CELL, False),
        (INFRA, FAIL, ChangeKind.NEW_FAILURE, True),
        (SKIP, FAIL, ChangeKind.NEW_FAILURE, True),
        (SKIP, SKIP, ChangeKind.UNCHANGED, False),
        (None, PASS, ChangeKind.NEW_CELL, False),
        (None, FAIL, ChangeKind.NEW_FAILURE, True),
        (None, KNOWN, ChangeKind.EXPECTED_FAILURE, False),
    ],
)
def test_kinds(before: Record | None, now: Record | None, kind: ChangeKind, is_regression: bool) -> None:
    found = change(before, now)
    assert (found.kind, found.is_regression) == (kind, is_regression)


GUEST_SKIP = make_record(CELL, Verdict.SKIP, "the guest's test skips itself", seconds=9.0)


@pytest.mark.parametrize(
    ("before", "words", "now", "kind", "is_regression"),
    [
        (PASS, "ppf", GUEST_SKIP, ChangeKind.NEW_FAILURE, True),
        (SKIP, "ppf", GUEST_SKIP, ChangeKind.NEW_FAILURE, True),
        (None, "f", GUEST_SKIP, ChangeKind.NEW_FAILURE, True),
        (PASS, "ppfi", GUEST_SKIP, ChangeKind.NEW_FAILURE, True),
        (PASS, "ppf", SKIP, ChangeKind.GONE_CELL, False),
        (PASS, "pfp", GUEST_SKIP, ChangeKind.GONE_CELL, False),
        (PASS, "ppk", GUEST_SKIP, ChangeKind.GONE_CELL, False),
        (PASS, "pfk", GUEST_SKIP, ChangeKind.GONE_CELL, False),
        (PASS, "pkf", GUEST_SKIP, ChangeKind.NEW_FAILURE, True),
        (FAIL, "pff", GUEST_SKIP, ChangeKind.GONE_CELL, False),
    ],
)
def test_a_guest_that_skips_itself_after_a_failure_stays_red(
    before: Record | None, words: str, now: Record, kind: ChangeKind, *, is_regression: bool
) -> None:
    found = change(before, now, history_of("c", run_of([now]).cells[0].key, past(words)))
    assert (found.kind, found.is_regression) == (kind, is_regression)


def test_each_kind_of_verdict_is_compared_with_itself_without_a_regression() -> None:
    assert not compared(mixed_records(), mixed_records()).regressions


def test_without_a_baseline_every_failure_is_new() -> None:
    found = compared(None, [PASS, make_record(make_cell("armv7"), Verdict.HANG, "silent")])
    assert found.baseline == ""
    assert [one.id for one in found.regressions] == ["influxdb/armv7/6.1"]


def test_regressions_come_first() -> None:
    before = [make_record(make_cell(arch)) for arch in ("aarch64", "armv7", "ppc64le", "x86_64")]
    now = [before[0], make_record(before[1].cell, Verdict.INFRA_ERROR), make_record(before[2].cell, Verdict.FAIL)]
    kinds = [one.kind for one in compared(before, now).changes]
    assert kinds == [ChangeKind.NEW_FAILURE, ChangeKind.NO_VERDICT, ChangeKind.GONE_CELL, ChangeKind.UNCHANGED]


def test_a_cell_of_another_machine_or_kernel_name_is_another_cell() -> None:
    board = make_record(make_cell("armv7", machine="raspi2b"))
    for other in (make_record(make_cell("armv7")), make_record(make_cell("armv7", "6.12", machine="raspi2b"))):
        kinds = {one.id: one.kind for one in compared([board], [other]).changes}
        assert kinds == {other.cell.id: ChangeKind.NEW_CELL, board.cell.id: ChangeKind.GONE_CELL}


def test_a_cell_booted_another_way_is_not_compared_and_that_is_said() -> None:
    now = run_of([FAIL])
    before = run_of([PASS], "before")
    forked = replace(before, cells=tuple(replace(one, key=replace(one.key, mode="forked")) for one in before.cells))
    kinds = {one.kind: one.note for one in compare(now, forked, {}, {}).changes}
    assert kinds == {
        ChangeKind.NEW_FAILURE: "not in the baseline",
        ChangeKind.GONE_CELL: "forked in the baseline, cold now: not compared",
    }


def past(words: str, inputs: str = "") -> list[PastVerdict]:
    """A past from letters: p pass, f fail, k known failure, i infra-error, s skip; `inputs` has a letter for each."""
    known = {"p": ("pass", "good"), "f": ("fail", "bad"), "k": ("fail", "foreseen"), "i": ("infra-error", "fault")}
    known["s"] = ("skip", "skip")
    return [
        PastVerdict(f"r{number}", f"2026-11-{number + 1:02}", verdict, Standing(standing), 4.0, inputs=letter)
        for number, ((verdict, standing), letter) in enumerate(
            zip((known[word] for word in words), inputs or words, strict=True)
        )
    ]


def history(words: str, inputs: str = "") -> CellHistory:
    return history_of(CELL.id, result_of(PASS, "").key, past(words, inputs))


@pytest.mark.parametrize(
    ("words", "since"),
    [
        ("ppp", None),
        ("ppf", "r2"),
        ("pffkf", "r1"),
        ("pfifi", "r1"),
        ("fff", "r0"),
        ("ffp", None),
        ("psf", "r2"),
        ("ii", None),
        ("", None),
    ],
)
def test_since_when_a_cell_fails(words: str, since: str | None) -> None:
    found = history(words).failing_since
    assert (found.run if found else None) == since


@pytest.mark.parametrize(
    ("words", "inputs", "flips", "unprovoked", "flaky"),
    [
        ("pppp", "aaaa", 0, 0, False),
        ("ppff", "aabb", 1, 0, False),
        ("ppff", "aaaa", 1, 1, False),
        ("ppfp", "aaaa", 2, 2, True),
        ("pfpf", "abcd", 3, 0, False),
        ("pfpfp", "abcde", 4, 0, True),
        ("pifp", "aaab", 2, 1, True),
        ("fkfk", "aaaa", 0, 0, False),
    ],
)
def test_flips(words: str, inputs: str, flips: int, unprovoked: int, flaky: bool) -> None:
    found = history(words, inputs)
    assert (found.flips, found.unprovoked_flips, found.is_flapping) == (flips, unprovoked, flaky)


def test_unknown_inputs_are_never_the_same() -> None:
    known = [replace(one, inputs="") for one in past("pf")]
    assert not history_of(CELL.id, result_of(PASS, "").key, known).is_flapping


def test_a_flaky_cell_that_fails_is_flapping_and_a_regression_nonetheless() -> None:
    flaky = history("pfp", "aaa")
    assert (change(PASS, FAIL, flaky).kind, change(PASS, FAIL, flaky).is_regression) == (ChangeKind.FLAPPING, True)
    assert (change(FAIL, PASS, flaky).kind, change(FAIL, PASS, flaky).is_regression) == (ChangeKind.FLAPPING, False)
    assert change(PASS, PASS, flaky).kind is ChangeKind.UNCHANGED


def test_since_is_told_of_failures_only() -> None:
    assert change(FAIL, FAIL, history("pff")).since == "2026-11-02"
    assert change(FAIL, PASS, history("pffp")).since == ""


@pytest.mark.parametrize(
    ("usual", "now_s", "is_changed"),
    [
        (Usual(10, 0.1, 20), 11.9, False),  # under two seconds
        (Usual(10, 0.1, 20), 12.6, True),
        (Usual(10, 0.1, 20), 7.4, True),
        (Usual(10, 1.0, 20), 15.5, False),  # within the noise
        (Usual(10, 1.0, 20), 16.5, True),
        (Usual(100, 0.1, 20), 120, False),  # under a quarter
        (Usual(100, 0.1, 20), 126, True),
        (Usual(10, 0, 1), 14.9, False),  # one run says little
        (Usual(10, 0, 1), 15.1, True),
        (Usual(10, 0.1, 20), 0, False),
        (None, 100, False),
    ],
)
def test_durations_beyond_noise(usual: Usual | None, now_s: float, is_changed: bool) -> None:
    assert (duration_change(usual, now_s) is not None) is is_changed


def test_only_passes_have_a_usual_duration_and_only_on_the_same_host() -> None:
    seconds = {"p": 4.0, "f": 60.0}
    rows = [replace(one, seconds=seconds[word]) for word, one in zip("pfp", past("pfp"), strict=True)]
    assert history_of(CELL.id, result_of(PASS, "").key, rows).usual == Usual(4.0, 0.0, 2)
    rows[0] = replace(rows[0], host="another", seconds=40)
    assert history_of(CELL.id, result_of(PASS, "").key, rows).usual == Usual(4.0, 0.0, 1)


def test_a_slower_pass_is_told_and_a_slower_failure_is_not() -> None:
    usual = Usual(4.1, 0.05, 30)
    (slow,) = compared([PASS], [make_record(CELL, seconds=9)], usual=usual).changes
    assert slow.duration is not None
    assert (slow.kind, slow.is_changed, round(slow.duration.ratio, 1)) == (ChangeKind.UNCHANGED, True, 2.2)
    (failed,) = compared([PASS], [make_record(CELL, Verdict.FAIL, seconds=9)], usual=usual).changes
    assert failed.duration is None


def test_changed_sub_results_are_told() -> None:
    def record(**subresults: Verdict) -> Record:
        return make_record(CELL, subresults=[SubResult(name=name, verdict=one) for name, one in subresults.items()])

    found = change(record(a=Verdict.PASS, b=Verdict.PASS), record(a=Verdict.FAIL, c=Verdict.PASS)).subresults
    assert [(one.name, one.before, one.now) for one in found] == [
        ("a", "pass", "fail"),
        ("c", "", "pass"),
        ("b", "pass", ""),
    ]


def test_of_sub_results_of_one_name_the_worse_counts() -> None:
    def record(*verdicts: Verdict) -> Record:
        return make_record(CELL, subresults=[SubResult(name="a", verdict=one) for one in verdicts])

    assert change(record(Verdict.PASS, Verdict.PASS), record(Verdict.FAIL, Verdict.PASS)).subresults
    assert change(record(Verdict.PASS, Verdict.PASS), record(Verdict.PASS, Verdict.FAIL)).subresults
    assert not change(record(Verdict.PASS), record(Verdict.PASS, Verdict.PASS)).subresults


def changed_inputs(now: Record) -> list[str]:
    return [one.kind for one in change(PASS, now).inputs]


def test_each_changed_input_is_named() -> None:
    assert changed_inputs(PASS) == []
    assert PASS.machine_profile is not None
    board = PASS.machine_profile
    assert changed_inputs(PASS.model_copy(update={"qemu_version": "10.0.2"})) == ["QEMU"]
    assert changed_inputs(PASS.model_copy(update={"spec_sha256": "a" * 64})) == ["spec"]
    assert changed_inputs(
        PASS.model_copy(update={"machine_profile": board.model_copy(update={"memory_mib": 1024})})
    ) == ["profile"]
    assert not changed_inputs(
        PASS.model_copy(update={"machine_profile": board.model_copy(update={"description": "in other words"})})
    )
    for index, kind in enumerate(("kernel", "initrd", "image")):
        artefacts = list(PASS.artefacts)
        artefacts[index] = artefacts[index].model_copy(update={"sha256": "b" * 64})
        assert changed_inputs(PASS.model_copy(update={"artefacts": tuple(artefacts)})) == [kind]


def test_an_initrd_is_named_only_where_nothing_that_it_is_made_of_changed() -> None:
    changed = tuple(one.model_copy(update={"sha256": "b" * 64}) for one in PASS.artefacts)
    found = change(PASS, PASS.model_copy(update={"artefacts": changed})).inputs
    assert [one.kind for one in found] == ["kernel", "image", "image"]
    assert str(found[0]) == f"kernel 6.1: 6.1.0-50 (6.1.0-50+deb) {PASS.artefacts[0].sha256[:12]} → " + (
        "6.1.0-50 (6.1.0-50+deb) bbbbbbbbbbbb"
    )


def test_the_digest_of_all_inputs_follows_each_of_them() -> None:
    def of(record: Record) -> str:
        return digest_of_inputs(result_of(record, "0.1.0").inputs)

    assert of(PASS) == of(FAIL)
    assert of(PASS) != of(PASS.model_copy(update={"qemu_version": "10.0.2"}))
    strict = PASS.cell.model_copy(update={"fail_on": ("kernel warning", "out of memory")})
    assert of(PASS) != of(PASS.model_copy(update={"cell": strict}))
    turned = strict.model_copy(update={"fail_on": strict.fail_on[::-1]})
    assert of(PASS.model_copy(update={"cell": turned})) == of(PASS.model_copy(update={"cell": strict}))
    assert of(INFRA) == ""


def test_standings_are_those_of_the_records() -> None:
    def of(record: Record) -> CellResult:
        return result_of(record, "")

    assert [of(one).standing.value for one in (PASS, FAIL, KNOWN, SURPRISE, INFRA, BUILD, SKIP)] == [
        *("good", "bad", "foreseen", "bad", "fault", "fault", "skip")
    ]

"""What is said of the cells beside a failure."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bootmatrix.model import Record, SubResult, Traits, Verdict
from bootmatrix.report.failure_pattern import families, pattern
from bootmatrix.report.traits import trait_rows
from samples import make_cell, make_record

BITS = {"armv7": 32}


def record(place: str, verdict: Verdict, spec: str = "influxdb") -> Record:
    """A record by `arch/kernel`."""
    arch, kernel = place.split("/")
    version, _, size = kernel.partition("-")
    traits = Traits(
        bits=32 if arch in BITS else 64,
        endian="big" if arch == "s390x" else "little",
        page_kib=int(size.removesuffix("k") or 4),
        kernel_version=version,
    )
    return make_record(make_cell(arch, kernel, spec).model_copy(update={"traits": traits}), verdict)


def told(bad: str, good: str, ours: str = "") -> list[str]:
    """What is said of each bad cell; places are `arch/kernel`."""
    records = [record(place, Verdict.FAIL) for place in bad.split()]
    records += [record(place, Verdict.PASS) for place in good.split()]
    records += [record(place, Verdict.INFRA_ERROR) for place in ours.split()]
    family = families(records)["influxdb"]
    return unique(pattern(one, family) for one in records if one.verdict is Verdict.FAIL)


def unique(sentences: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(sentences))


@pytest.mark.parametrize(
    ("bad", "good", "words"),
    [
        (
            "ppc64le/6.12-64k ppc64le/7.2-64k",
            "ppc64le/7.2 x86_64/7.2",
            "Only 64k pages: all 2 such cells fail, all 2 others pass.",
        ),
        (
            "armv7/6.1 armv7/7.2",
            "x86_64/6.1 x86_64/7.2",
            "Only 32-bit (here: armv7): all 2 such cells fail, all 2 others pass.",
        ),
        (
            "s390x/6.1",
            "armv7/6.1",
            "Only big-endian (here: 64-bit, s390x): the only such cell fails, the other one passes.",
        ),
        (
            "x86_64/7.2 aarch64/7.2",
            "x86_64/6.1 aarch64/6.1",
            "Only Linux 7.2: all 2 such cells fail, all 2 others pass.",
        ),
        (
            "aarch64/7.2",
            "aarch64/6.1 x86_64/7.2 x86_64/6.1",
            "Only aarch64 with kernel 7.2: the only such cell fails, all 3 others pass.",
        ),
        (
            "aarch64/7.2-16k ppc64le/6.1-64k",
            "aarch64/6.1 ppc64le/7.2",
            "Only 16k pages and 64k pages: all 2 such cells fail, all 2 others pass.",
        ),
        ("x86_64/7.2 aarch64/6.1", "", "Everywhere: none of the 2 cells of this spec passes."),
    ],
)
def test_what_failures_have_in_common(bad: str, good: str, words: str) -> None:
    assert told(bad, good) == [words]


def test_where_nothing_is_common_the_row_and_the_column_are_told() -> None:
    assert told("aarch64/7.2 ppc64le/6.1", "aarch64/6.1 x86_64/6.1 x86_64/7.2 ppc64le/7.2") == [
        "On aarch64 it passes with 6.1. With 7.2 it passes on ppc64le and x86_64.",
        "On ppc64le it passes with 7.2. With 6.1 it passes on aarch64 and x86_64.",
    ]


def with_tests(place: str, failing: str) -> Record:
    """A record in which two tests ran; `failing` names those that failed."""
    results = tuple(
        SubResult(name=name, verdict=Verdict.FAIL if name in failing.split() else Verdict.PASS)
        for name in ("guard-page", "byte-order")
    )
    made = record(place, Verdict.FAIL if failing else Verdict.PASS)
    return made.model_copy(update={"judgement": made.judgement.model_copy(update={"subresults": results})})


def test_two_failing_tests_are_explained_one_by_one() -> None:
    records = [
        with_tests("ppc64le/6.1-64k", "guard-page"),
        with_tests("s390x/6.1", "byte-order"),
        with_tests("ppc64le/7.2", ""),
        with_tests("x86_64/6.1", ""),
    ]
    family = families(records)["influxdb"]
    assert [pattern(one, family) for one in records] == [
        "'guard-page': only 64k pages (here: 6.1-64k); the only such cell fails, all 3 others pass.",
        "'byte-order': only big-endian (here: s390x); the only such cell fails, all 3 others pass.",
        "",
        "",
    ]


def test_a_test_that_did_not_run_in_a_cell_neither_fails_nor_passes_there() -> None:
    records = [
        with_tests("ppc64le/6.1-64k", "guard-page"),
        with_tests("x86_64/6.1", ""),
        with_tests("s390x/6.1", "byte-order"),
    ]
    panicked = record("riscv64/6.1", Verdict.PANIC)
    family = families([*records, panicked])["influxdb"]
    assert pattern(records[0], family).startswith("'guard-page': only 64k pages")
    assert pattern(records[0], family).endswith("the only such cell fails, all 2 others pass.")
    assert "guard-page" not in pattern(panicked, family)


def test_a_fault_of_ours_is_neither_a_pass_nor_a_failure() -> None:
    (words,) = told("armv7/7.2", "armv7/6.1 x86_64/6.1", ours="x86_64/7.2 ppc64le/7.2")
    assert words == "Only Linux 7.2: the only such cell fails, all 2 others pass."


def test_a_page_size_with_which_one_passes_explains_nothing() -> None:
    assert not any(words.startswith("Only") for words in told("aarch64/7.2-16k ppc64le/6.1-64k", "ppc64le/7.2-64k"))
    assert not any(
        words.startswith("Only") for words in told("aarch64/7.2-16k ppc64le/6.1-64k x86_64/6.1", "x86_64/7.2")
    )


def test_a_single_cell_has_nothing_beside_it() -> None:
    assert told("x86_64/7.2", "") == [""]


def rows(records: list[Record]) -> list[str]:
    """The report's rows of traits: `64k pages 1/2 Fails only here.`"""
    made = trait_rows(records, families(records))
    return [f"{row.name} {row.total.text} {row.sentence}".strip() for row in made]


def test_each_page_size_and_word_size_has_a_row() -> None:
    passes = [record(place, Verdict.PASS) for place in ("x86_64/7.2", "armv7/7.2", "aarch64/7.2-16k")]
    fails = [record("ppc64le/7.2-64k", Verdict.FAIL)]
    assert rows(passes + fails) == [
        "4k pages 2/2",
        "16k pages 1/1",
        "64k pages 0/1 Fails only here.",
        "32-bit 1/1",
        "64-bit 2/3",
    ]


def test_a_trait_of_all_cells_has_no_row() -> None:
    assert rows([record("x86_64/6.1", Verdict.PASS), record("aarch64/6.1", Verdict.FAIL)]) == []


def test_a_row_names_the_specs_that_fail_only_there() -> None:
    records = [record(place, Verdict.PASS) for place in ("x86_64/7.2", "ppc64le/7.2-64k")]
    records += [record("x86_64/7.2", Verdict.PASS, "redis"), record("ppc64le/7.2-64k", Verdict.FAIL, "redis")]
    assert rows(records)[-1] == "64k pages 1/2 redis fails only here."

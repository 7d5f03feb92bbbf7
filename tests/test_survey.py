"""The survey of packages' own tests: its list, its page, and the sources that it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.survey import cells
from benchmarks.survey.cells import (
    CellResult,
    confirmed,
    load_results,
    missing_commands,
    save_results,
    status_of,
    status_of_late,
)
from benchmarks.survey.page import render
from benchmarks.survey.plan import load_list

from bootmatrix.errors import InputError

LIST = """\
suite: bookworm
root: debian
targets: [x86_64/6.1, ppc64le/7.2-64k, ppc64le/7.2]
packages: [first, second]
not_run: [{packages: [third, fourth], reason: too large}]
causes:
  - {cells: "first/*-64k", test: "a*", cause: page size, text: "it maps 4 KiB"}
"""


def result(package: str, target: str, status: str, *tests: tuple[str, str, str]) -> CellResult:
    machine, _, kernel = target.rpartition("/")
    return CellResult(
        *(f"{package}/{target}", package, "1.0-1", machine, kernel, status, 0, ""),
        tests=tuple({"name": name, "result": outcome, "reason": reason} for name, outcome, reason in tests),
        dsc_sha256="0" * 64,
        command="autopkgtest",
        started_at="2026-01-01T00:00:00+00:00",
        wall_s=60.0,
        cpu_s=1.0,
    )


def page(tmp_path: Path, *results: CellResult) -> str:
    (tmp_path / "list.yml").write_text(LIST)
    return render(load_list(tmp_path / "list.yml"), results, {"QEMU": "9"})


def test_a_failure_has_what_sets_it_apart_and_its_cause(tmp_path: Path) -> None:
    text = page(
        tmp_path,
        result("first", "x86_64/6.1", "pass", ("all", "pass", "")),
        result("first", "ppc64le/7.2-64k", "fail", ("all", "fail", "exit status 1")),
        result("first", "ppc64le/7.2", "pass", ("all", "pass", ""), ("other", "skip", "no root")),
        result("second", "x86_64/6.1", "infra-error"),
    )
    assert "2 of 2 packages, 4 of 6 cells: 2 pass, 1 fail, 1 infra-error." in text
    assert "| first | pass | **FAIL** | 1/2 |" in text
    assert "| second | infra-error |  |  |" in text
    failure = next(line for line in text.splitlines() if line.startswith("| first/ppc64le/7.2-64k"))
    assert "all: exit status 1" in failure
    assert "Only 64k pages" in failure
    assert "page size: it maps 4 KiB" in failure
    fault = next(line for line in text.splitlines() if line.startswith("| second/x86_64"))
    assert "| first | other | 1 | no root |" in text.split("## Skipped tests")[1]
    assert fault.endswith("| – | not looked into yet |"), "a fault of the testbed is not compared with others"


def test_a_failure_on_a_busy_host_is_one_if_it_repeats(tmp_path: Path) -> None:
    failed = result("first", "x86_64/6.1", "fail", ("a", "fail", ""), ("b", "pass", ""))
    passed = result("first", "x86_64/6.1", "pass", ("a", "pass", ""), ("b", "pass", ""))
    other = result("first", "x86_64/6.1", "fail", ("a", "pass", ""), ("b", "fail", ""))
    assert confirmed(failed, failed).status == "fail"
    late = confirmed(failed, passed)
    assert (late.status, late.reason) == ("pass", "in a second run; a first one on a busy host failed: a")
    assert "- first/x86_64/6.1: in a second run; a first one" in page(tmp_path, late)
    differing = confirmed(failed, other)
    assert (differing.status, differing.reason) == ("infra-error", "two runs on a busy host differ: a, b")
    guests = ({"cpu_s": 10.0, "waited_s": 12.0},)
    assert replace(failed, guests=guests).is_starved
    assert not replace(failed, guests=guests, cpu_s=3.0).is_starved


def test_results_are_kept_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.results.jsonl"
    assert load_results(path) == {}
    results = [
        replace(result("first", "ppc64le/7.2", "fail", ("a", "fail", "\u2028x\n")), missing=("cc",)),
        result("first", "x86_64/6.1", "pass"),
    ]
    save_results(path, reversed(results))
    assert len(path.read_bytes().splitlines()) == 2
    assert list(load_results(path).values()) == results


def test_packages_that_cannot_be_installed_are_no_failure() -> None:
    missing = {"name": "a", "result": "fail", "reason": "badpkg"}
    failed = {"name": "b", "result": "fail", "reason": "non-zero exit status 1"}
    passed = {"name": "c", "result": "pass", "reason": ""}
    assert status_of(4, [missing, passed]) == "bad-package"
    assert status_of(4, [missing, failed]) == "fail"
    assert status_of(0, [passed]) == "pass"
    assert (status_of(12, [missing]), status_of(16, [])) == ("bad-package", "infra-error")


def test_a_reason_is_no_command_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "command line: autopkgtest -- /home/me/autopkgtest-virt-bootmatrix --arch x\nbadpkg: not there\nrest\n"
    )
    assert cells._reason(log, 12, False, 60) == "badpkg: not there"


def test_a_pass_of_a_test_whose_command_is_missing_is_marked(tmp_path: Path) -> None:
    said = "/tmp/tree/debian/tests/a: 15: make: not found\n./b: line 3: cc: command not found\nmy file: not found\n"
    begin, end = (f"autopkgtest [19:05:34]: test a: {mark}\n" for mark in ("[-----------", "-----------]"))
    assert missing_commands(f"{begin}{said}{end}") == ("cc", "make")
    assert missing_commands(f"{said}{begin}all is well\n{end}{said}") == ()
    hollow = replace(result("first", "x86_64/6.1", "pass", ("a", "pass", "")), missing=("cc", "make"))
    text = page(tmp_path, hollow, result("second", "x86_64/6.1", "pass", ("a", "pass", "")))
    assert "| first | pass? |" in text
    assert "- first/x86_64/6.1: cc, make." in text
    assert "| second | pass |" in text


def test_a_testbed_that_is_late_is_no_fault_of_the_package() -> None:
    begin = "autopkgtest [20:01:02]: test smoke: [-----------------------\n"
    assert status_of_late("autopkgtest [20:00:00]: starting\n") == "infra-error"
    assert status_of_late(f"autopkgtest [20:00:00]: starting\n{begin}1..9\n") == "timeout"


def test_a_package_can_leave_tests_out_and_need_modules(tmp_path: Path) -> None:
    path = tmp_path / "list.yml"
    path.write_text(LIST.replace("[first, second]", "[first, {name: second, skip: [slow], modules: [veth]}]"))
    survey = load_list(path)
    assert survey.packages == ("first", "second")
    assert (survey.skipped, survey.modules) == ({"second": ("slow",)}, {"second": ("veth",)})


def test_texts_of_a_guest_are_harmless(tmp_path: Path) -> None:
    evil = "<script>|[x](javascript:y)\x1b[31m`"
    text = page(tmp_path, result("first", "x86_64/6.1", "fail", ("t", "fail", evil)))
    row = next(line for line in text.splitlines() if line.startswith("| first/x86_64"))
    assert not {"<", "[", "`", "\x1b"} & set(row)
    assert row.count("|") == 5
    assert "&#60;script&#62;" in row


def test_an_empty_survey_has_a_page(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "0 of 2 packages, 0 of 6 cells." in text
    assert "Nothing was run." in text
    assert "- third, fourth: too large.\n" in text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("targets: [x86_64/6.1", "targets: [x86_64", "must be MACHINE/KERNEL"),
        ("cause: page size", "cause: bad luck", "must be one of program"),
        ("suite: bookworm\n", "", "'suite'"),
        ("packages: [first, second]", "packages: [", "not the list of a survey"),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "list.yml").write_text(LIST.replace(old, new))
    with pytest.raises(InputError, match=words):
        load_list(tmp_path / "list.yml")


def test_the_list_of_this_project_is_one() -> None:
    survey = load_list(Path(__file__).parent.parent / "benchmarks/survey/list.yml")
    assert len(survey.packages) >= 30
    assert len(list(survey.cells())) == len(survey.packages) * len(survey.targets)

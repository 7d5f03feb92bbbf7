"""The search for the first bad kernel: fewest boots, whatever cannot be judged, a page and a table that say it."""

from __future__ import annotations

import io
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archive_client import kernel_source
from bootmatrix.bisect.kernels import between, source_of
from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Bisection, Kernel, Package, Run, Step, Verdict
from bootmatrix.model.bisection import next_steps
from bootmatrix.report.bisection import bisection_text, conclusion, write_bisection
from command_line import Tool, refused

pytest_plugins = ("command_line",)

PROFILES = load_profiles([CHECKOUT / "arch"])
PASS, FAIL, PANIC, INFRA, BUILD = Verdict.PASS, Verdict.FAIL, Verdict.PANIC, Verdict.INFRA_ERROR, Verdict.BUILD_ERROR


def search(*verdicts: Verdict | None) -> Bisection:
    """A search in which these kernels have been booted, in this order."""
    steps = [
        Step(
            release=f"6.12.{number}",
            version=f"6.12.{number}-1",
            suite="sid",
            cell=f"s/a/6.12.{number}",
            verdict=verdict,
            reason="" if verdict is None else f"it is <{verdict}>",
        )
        for number, verdict in enumerate(verdicts)
    ]
    return Bisection(spec="s", target="a", good="6.12.0", bad="last", steps=tuple(steps))


def follow(truth: list[Verdict], count: int = 1) -> tuple[Bisection, list[list[int]]]:
    """A whole search in a world where kernels have these verdicts, and what was booted in each round."""
    state = search(*[None] * len(truth))
    rounds: list[list[int]] = []
    while wanted := next_steps(state, count):
        assert len(rounds) <= len(truth), "the search does not end"
        rounds.append(wanted)
        state = search(*(truth[at] if at in wanted else step.verdict for at, step in enumerate(state.steps)))
    return state, rounds


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("length", [2, 3, 5, 12, 40])
def test_every_place_is_found_in_few_boots(length: int, count: int) -> None:
    for first in range(1, length):
        state, rounds = follow([PASS] * first + [FAIL] * (length - first), count)
        assert [step.release for step in state.suspects()] == [f"6.12.{first}"]
        assert rounds[0] == [0, length - 1]
        assert len(rounds) - 1 <= math.ceil(math.log(max(length - 1, 1), count + 1)) + 1
        booted = [number for numbers in rounds for number in numbers]
        assert len(booted) == len(set(booted))
        assert all(len(numbers) <= count for numbers in rounds[1:])


@pytest.mark.parametrize("bad", [FAIL, PANIC, Verdict.HANG, Verdict.TIMEOUT])
def test_any_other_verdict_of_the_guests_counts(bad: Verdict) -> None:
    state, _ = follow([PASS, PASS, PANIC, bad])
    assert [step.release for step in state.suspects()] == ["6.12.2"]


def test_a_kernel_that_mended_it() -> None:
    state, _ = follow([FAIL, FAIL, FAIL, PASS, PASS])
    assert conclusion(state) == "The first kernel with another verdict is 6.12.3: fail before, pass from there on"


@pytest.mark.parametrize("fault", [INFRA, BUILD])
def test_kernels_that_cannot_be_judged_are_passed_over(fault: Verdict) -> None:
    truth = [PASS, PASS, fault, fault, PASS, FAIL, FAIL, fault, FAIL]
    state, rounds = follow(truth)
    assert [step.release for step in state.suspects()] == ["6.12.5"]
    state, rounds = follow([PASS, PASS, fault, fault, FAIL, FAIL])
    assert [step.release for step in state.suspects()] == ["6.12.2", "6.12.3", "6.12.4"]
    assert sorted(number for numbers in rounds for number in numbers) == [0, 1, 2, 3, 4, 5]
    assert conclusion(state).endswith("one of 6.12.2, 6.12.3, 6.12.4: the kernels in between have no verdict")
    state, _ = follow([PASS, *[fault] * 6, FAIL], 2)
    assert len(state.suspects()) == 7


@pytest.mark.parametrize(
    ("truth", "problem"),
    [
        ([PASS, FAIL, PASS], "the good and the bad kernel have the same verdict: pass"),
        ([FAIL, PASS, FAIL], "the good and the bad kernel have the same verdict: fail"),
        ([INFRA, PASS, FAIL], "the good kernel 6.12.0 cannot be judged: infra-error: it is <infra-error>"),
        ([PASS, PASS, BUILD], "the bad kernel 6.12.2 cannot be judged: build-error: it is <build-error>"),
    ],
)
def test_ends_between_which_there_is_nothing_to_find(truth: list[Verdict], problem: str) -> None:
    state, rounds = follow(truth)
    assert rounds == [[0, len(truth) - 1]]
    assert (state.problem(), state.suspects() if "same" in problem else ()) == (problem, ())
    assert conclusion(state) == f"No answer: {problem}"


def test_a_search_that_was_interrupted() -> None:
    state = search(PASS, None, None, FAIL)
    assert conclusion(state).endswith("one of 6.12.1, 6.12.2, 6.12.3: the search was interrupted")
    assert "not booted" in conclusion(search(None, None))


def kernel(version: str, release: str = "") -> Kernel:
    package = Package(
        name="linux-image",
        version=version,
        architecture="all",
        suite="sid",
        filename="x",
        size_bytes=1,
        sha256="0" * 64,
    )
    return Kernel(name=version, release=release or version, version=version, architecture="a", packages=(package,))


def test_the_kernels_between_two() -> None:
    known = [kernel(f"6.12.{number}-1~bpo12+1") for number in (95, 9, 43, 57, 100)]
    known += [kernel("6.12.57-2", "6.12.57-1~bpo12+1")]
    versions = [one.version for one in between(known, "6.12.43", "6.12.95-1~bpo12+1")]
    assert versions == ["6.12.43-1~bpo12+1", "6.12.57-2", "6.12.95-1~bpo12+1"]
    assert [one.version for one in between(known, "6.12.95", "6.12.43")] == versions[::-1]
    assert len(between(known, "6.12.9", "6.12.100")) == 5
    for good, bad, message in (
        ("6.12.4", "6.12.95", "no kernel '6.12.4' of this flavour"),
        ("6.12.43", "", "no kernel '' of this flavour"),
        ("6.12.43-1", "6.12.43", "are the same kernel"),
    ):
        with pytest.raises(InputError, match=message):
            between(known, good, bad)
    with pytest.raises(InputError, match="no kernel '6' of this flavour") as nothing:
        between([], "6", "7")
    assert "It has none" in str(nothing.value)


def test_where_the_kernels_come_from() -> None:
    own = {"6.1": kernel_source("tiny", "a"), "6.12": kernel_source("tiny", "b c"), "new": kernel_source("big", "d")}
    profile = PROFILES["aarch64"].model_copy(update={"kernels": own})
    found = source_of(profile, "virt", "", "6.12.43")
    assert (found.flavour, found.suites, found.version) == ("tiny", ("a", "b", "c"), "")
    assert source_of(profile, "virt", "new", "6.12.43").flavour == "big"
    for wanted, good in (("", "7.1"), ("newer", "6.1")):
        with pytest.raises(InputError, match="does not match any of the archive's kernels of aarch64"):
            source_of(profile, "virt", wanted, good)


def run_of(folder: Path) -> Run:
    return Run(name=folder.name, title="bisect s", tool_version="1", started_at="2026-01-01T00:00:00+00:00")


def test_the_page_is_harmless_and_says_it(tmp_path: Path) -> None:
    state = search(PASS, None, PASS, FAIL, FAIL)
    page = write_bisection(state, run_of(tmp_path), tmp_path).read_text(encoding="utf-8")
    assert "<title>The first kernel with another verdict is 6.12.3: pass before, fail from there on" in page
    marked = re.findall(r'<td class="number release"><b>.*?</td>', page)
    assert [re.sub(r"<[^>]*>", "", cell).split()[-1] for cell in marked] == ["6.12.3"]
    assert page.count("not booted") == 1
    assert "it is &lt;fail&gt;" in page
    assert "<fail>" not in page
    assert 'href="report.html#s/a/6.12.3"' in page
    assert "4 of 5" in page


def test_the_table_says_the_same() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(bisection_text(search(PASS, None, FAIL, FAIL)))
    lines = console.export_text().splitlines()
    assert sum("not booted" in line for line in lines) == 1
    assert any(line.strip().startswith("→") and "6.12.2" in line for line in lines)
    assert "one of 6.12.1, 6.12.2: the search was interrupted" in " ".join(lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "--arch", "aarch64"), "nowhere: file not found"),
        (("hello", "--arch", "aarch65"), "unknown architecture 'aarch65'. Did you mean"),
        (
            ("hello", "--arch", "aarch64", "--kernel", "7.2k"),
            "'7.2k' does not match any of the archive's kernels of aarch64",
        ),
        (("hello", "--arch", "aarch64", "--locked"), "bisect needs many kernels, a lock file has few"),
    ],
)
def test_bad_input(tool: Tool, arguments: tuple[str, ...], message: str) -> None:
    refused(tool("bisect", *arguments, "--good", "6.12.43", "--bad", "6.12.95", "--offline"), message)


SPEC = """
init: ["@pkg:./images/init", "@pkg:./images/crun"]
onboot:
  - name: release
    image: "@pkg:./images/busybox"
    readonly: true
    command: [/bin/sh, -c, 'case $(uname -r) in {last}) ;; *) echo "this is $(uname -r)"; exit 1 ;; esac']
"""


@pytest.mark.boots
@pytest.mark.xdist_group("end_to_end")
def test_real_kernels(tmp_path: Path) -> None:
    """Two point releases that backports keep, beside each other, told apart by a spec that knows one of them."""
    tool = [sys.executable, "-m", "bootmatrix.cli.main"]
    asked = ["bisect", "hello", "--arch", "aarch64", "--good", "6.12.0", "--bad", "6.12.1"]
    listed = subprocess.run([*tool, *asked], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert listed.returncode == 2
    good, bad = re.findall(r"6\.12\.\d+-1~bpo12\+\d", listed.stderr)[:2]
    shutil.copytree(CHECKOUT / "specs/images", tmp_path / "images")
    (tmp_path / "one.yml").write_text(SPEC.replace("{last}", f"{good.partition('-')[0]}*"), encoding="utf-8")
    asked = [*tool, "bisect", "one.yml", "--arch", "aarch64", "--good", good, "--bad", bad]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"The first kernel with another verdict is {bad.partition('-')[0]}" in " ".join(done.stdout.split())
    page = (tmp_path / "reports/latest/bisect.html").read_text(encoding="utf-8")
    assert "pass before, fail from there on" in page
    assert f"this is {bad.partition('-')[0]}" in page

"""Small guests, each with a peculiarity: all of cases/ are booted, as forks or cold, and say what is right.

Those that pass are forks. The others are booted cold: a fork that fails is booted once more anyway, for comparison.
`python -m benchmarks.trials cases` boots all of them both ways, on any architecture.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from _pytest.mark import ParameterSet

from bootmatrix.model import Record
from case_files import ALL, Case, boot_cases
from guests import LINUX

ARCH, KERNEL = "x86_64", "6.1"
FORKS = [case for case in ALL if case.is_forked and case.verdict == "pass"]
OTHERS = [case for case in ALL if case not in FORKS]
ALWAYS = {
    *("bind-all", "printed-results", "restarts"),
    *("crash-upon-restart", "dies-at-shutdown", "flooded-control", "kernel-silenced", "replaces-check"),
    "service-dies-behind-output",
}
"""Cases that are not `long`: one of each kind."""

Records = dict[str, Record]


def params(cases: Sequence[Case]) -> list[ParameterSet]:
    return [pytest.param(case, id=case.name, marks=() if case.name in ALWAYS else pytest.mark.long) for case in cases]


def asked(request: pytest.FixtureRequest, cases: Sequence[Case]) -> list[Case]:
    """Those of the cases that are tested this time."""
    tested = {item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")}
    return [case for case in cases if case in tested]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Records:
    folder = tmp_path_factory.mktemp("forks")
    return boot_cases(folder, asked(request, FORKS), ARCH, KERNEL, ("--boot", "fork"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Records:
    return boot_cases(tmp_path_factory.mktemp("others"), asked(request, OTHERS), ARCH, KERNEL, ())


@LINUX
@pytest.mark.boots
@pytest.mark.parametrize("case", params(FORKS))
def test_forks_that_pass(forks: Records, case: Case) -> None:
    assert not list(case.faults(forks[case.name]))
    assert forks[case.name].boot == "fork", forks[case.name].cold_reason


@pytest.mark.boots
@pytest.mark.parametrize("case", params(OTHERS))
def test_others(others: Records, case: Case) -> None:
    assert not list(case.faults(others[case.name]))

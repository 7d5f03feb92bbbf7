"""Small guests, each with a peculiarity: all of cases/ are booted, as forks or cold, and say what is right.

Those that pass are forks. The others are booted cold: a fork that fails is booted once more anyway, for comparison.
`python -m benchmarks.trials cases` boots all of them both ways, on any architecture.
"""

from __future__ import annotations

import pytest

from bootmatrix.model import Record
from case_files import ALL, Case, boot_cases

ARCH, KERNEL = "x86_64", "6.1"
FORKS = [case for case in ALL if case.is_forked and case.verdict == "pass"]
OTHERS = [case for case in ALL if case not in FORKS]

Records = dict[str, Record]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return boot_cases(tmp_path_factory.mktemp("forks"), FORKS, ARCH, KERNEL, ("--boot", "fork"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return boot_cases(tmp_path_factory.mktemp("others"), OTHERS, ARCH, KERNEL, ())


@pytest.mark.boots
@pytest.mark.parametrize("case", FORKS, ids=lambda case: case.name)
def test_forks_that_pass(forks: Records, case: Case) -> None:
    assert not list(case.faults(forks[case.name]))
    assert forks[case.name].boot == "fork", forks[case.name].cold_reason


@pytest.mark.boots
@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.name)
def test_others(others: Records, case: Case) -> None:
    assert not list(case.faults(others[case.name]))

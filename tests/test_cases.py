"""Small guests, each with a peculiarity: all of cases/ are booted as forks, some of them cold too."""

from __future__ import annotations

import pytest

from bootmatrix.model import Record
from case_files import ALL, Case, boot_all

ARCH, KERNEL = "x86_64", "6.1"
VERIFIED = 6
"""Forks that are booted cold too. `python -m benchmarks.trials cases` verifies all of them."""

Records = dict[tuple[str, str], Record]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return boot_all(tmp_path_factory.mktemp("cases"), ARCH, KERNEL, VERIFIED)


@pytest.mark.boots
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_each_case_comes_to_its_verdict(records: Records, case: Case) -> None:
    record = records[case.name, ARCH]
    assert not list(case.faults(record))
    assert (record.boot == "fork") == case.is_forked, record.cold_reason


@pytest.mark.boots
def test_some_forks_are_compared_with_cold_boots(records: Records) -> None:
    assert sum(record.verified for record in records.values()) == VERIFIED

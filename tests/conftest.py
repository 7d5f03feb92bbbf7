"""What all tests share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine makes an example slow, and no example wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Some modules of tests import these before they name them as plug-ins.
pytest.register_assert_rewrite("command_line", "engine_fixtures", "kitchen", "registry_fixtures", "signoff_fixtures")


LONGEST = (
    "test_end_to_end.py",
    "test_month_boots.py",
    "test_formats.py",
    "test_dask_hosts.py",
    "test_forked_guests.py",
    "test_cases.py",
    "test_streams.py",
    "test_registry_end_to_end.py",
    "test_report_use.py",
    "test_try.py",
    "test_kernel_test.py",
    "test_resume.py",
    "test_ci_files.py",
)
"""Files that take half a minute, begun first: the workers of `--no-loadscope-reorder` then end at the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and of the others those with many tests."""
    missing = [name for name in LONGEST if not Path(__file__).with_name(name).exists()]
    if missing:
        raise pytest.UsageError(f"conftest.py: LONGEST names no file of tests: {', '.join(missing)}")
    tests = Counter(item.path for item in items)
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (places.get(item.path.name, len(LONGEST)), -tests[item.path], item.path))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio alone: qemu.qmp is written for it."""
    return "asyncio"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by number: packed ones hold a time, and two workers would name a test differently."""
    return argname if isinstance(val, bytes) else None

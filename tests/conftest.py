"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A busy machine makes an example slow, and no example wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio alone: qemu.qmp is written for it."""
    return "asyncio"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by number: packed ones hold a time, and two workers would name a test differently."""
    return argname if isinstance(val, bytes) else None

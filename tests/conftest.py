"""What all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio alone: qemu.qmp is written for it."""
    return "asyncio"

"""Individual state of a copy: disk, random numbers, time and MAC address."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

from bootmatrix.model import Bootable
from bootmatrix.qemu.command import ForkFiles
from bootmatrix.snapshot.snapshot import Snapshot

COPY_BEGINS = b"bootmatrix: up to here it is the guest of which this one is a copy\n"
"""Divides the console: what was printed before a copy began, and its own."""
SEED_BYTES = 64
"""Size of a copy's seed: twice what the kernel's generator holds (drivers/char/random.c)."""
START_S = 0.6
"""A clock is set in whole seconds, on average half a second after the message; QEMU takes the rest to start."""


def wake_up() -> bytes:
    """Return the wake-up line: seconds since 1970, MAC, random bytes."""
    return f"{int(time.time() + START_S)} {_mac_address()} {secrets.token_hex(SEED_BYTES)}\n".encode("ascii")


def _mac_address() -> str:
    """One of QEMU's own (52:54:00), which is locally administered."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


@contextmanager
def copy_files(snapshot: Snapshot, bootable: Bootable) -> Iterator[ForkFiles]:
    """The files that a copy has, open."""
    assert bootable.forkable
    with bootable.forkable.disk.file.open("rb") as disk, _piped(snapshot.state) as state:
        yield ForkFiles(snapshot.memory, disk.fileno(), state)


@contextmanager
def _piped(data: bytes) -> Iterator[int]:
    """Return a pipe with data for QEMU's `fd:`, which warns of plain files."""
    end, start = os.pipe()
    writer = Thread(target=_write, args=(start, data), daemon=True)
    writer.start()
    try:
        yield end
    finally:
        os.close(end)
        writer.join()


def _write(start: int, data: bytes) -> None:
    with os.fdopen(start, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
        left = memoryview(data)
        while left:
            left = left[pipe.write(left) :]

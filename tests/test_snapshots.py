"""Snapshots of guests: what is kept is what comes back, or nothing does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.snapshot.cache import LIMIT_VARIABLE, SnapshotCache, limit_bytes
from bootmatrix.snapshot.snapshot import PIECE_BYTES, DamagedSnapshot, Snapshot, new_memory, read, taken, write
from bootmatrix.store import Store

PARTS = {100: b"in the first piece", 3 * PIECE_BYTES + 7: b"x" * (2 * PIECE_BYTES), (8 << 20) - 4: b"last"}
"""What a guest of 8 MiB has in its memory, by position."""


def snapshot(mark: bytes = b"") -> Snapshot:
    memory = new_memory(8)
    for position, data in PARTS.items():
        os.pwrite(memory, data, position)
    os.pwrite(memory, bytes(PIECE_BYTES), 16 * PIECE_BYTES)  # written to, and empty all the same
    return taken(memory, 8, b"state" + mark, b"console")


def contents(one: Snapshot) -> bytes:
    return os.pread(one.memory, one.memory_bytes, 0)


@pytest.fixture
def cache(tmp_path: Path) -> SnapshotCache:
    return SnapshotCache(Store(tmp_path / "cache"))


def test_a_snapshot_comes_back_as_it_was(cache: SnapshotCache) -> None:
    one = snapshot()
    cache.put("key", one)
    again = cache.get("key")
    assert again
    assert (again.state, again.console, again.memory_bytes) == (b"state", b"console", 8 << 20)
    assert contents(again) == contents(one)
    assert cache.path("key").stat().st_size < 6 * PIECE_BYTES
    assert cache.get("another key") is None


def test_nobody_can_write_to_a_snapshot(cache: SnapshotCache) -> None:
    cache.put("key", snapshot())
    for one in (snapshot(), cache.get("key")):
        assert one
        with pytest.raises(PermissionError):
            os.pwrite(one.memory, b"poison", 0)
        again = os.open(f"/proc/self/fd/{one.memory}", os.O_RDWR)
        with pytest.raises(PermissionError):
            os.write(again, b"poison")
        with pytest.raises(PermissionError):
            os.ftruncate(again, 0)
        os.close(again)


def test_any_damage_is_seen_and_what_is_damaged_removed(cache: SnapshotCache) -> None:
    cache.put("key", snapshot())
    path = cache.path("key")
    whole = path.read_bytes()
    header = whole.index(b"\n")
    for position in (0, header // 2, header + 3, header + 8, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert cache.get("key") is None, position
        assert not path.exists()
    for length in (0, 1, header + 2, len(whole) - 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert cache.get("key") is None, length
    path.write_bytes(whole + b"more")
    assert cache.get("key") is None
    path.write_bytes(whole)
    assert cache.get("key")


def test_a_snapshot_in_the_place_of_another_is_removed(cache: SnapshotCache) -> None:
    cache.put("key", snapshot())
    cache.path("key").rename(cache.path("another key"))
    assert cache.get("another key") is None
    assert not cache.path("another key").exists()


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b'{"format":1,"name":"file","memory_bytes":8388608,"state_bytes":0,"console_bytes":0,"pieces":[]}',
        b'{"format":2,"name":"file","memory_bytes":8388608,"state_bytes":-1,"console_bytes":0,"pieces":[]}',
        b'{"format":2,"name":"file","memory_bytes":8388608,"state_bytes":0,"console_bytes":99999999,"pieces":[]}',
        b'{"format":2,"name":"file","memory_bytes":8388608,"state_bytes":0,"console_bytes":0,"pieces":[[31,33]]}',
        b'{"format":2,"name":"file","memory_bytes":8388608,"state_bytes":0,"console_bytes":0,"pieces":[[5,4]]}',
        b'{"format":2,"name":"file","memory_bytes":-8388608,"state_bytes":0,"console_bytes":0,"pieces":[]}',
        b'{"format":2,"name":"file","memory_bytes":83886080000000,"state_bytes":0,"console_bytes":0,"pieces":[]}',
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "file").write_bytes(header + b"\n" + bytes(100))
    with pytest.raises(DamagedSnapshot):
        read(tmp_path / "file")


def test_the_least_used_are_removed_beyond_the_limit(tmp_path: Path) -> None:
    with (tmp_path / "one").open("wb") as file:
        size = write(snapshot(b"1"), file, "0" * 64)
    cache = SnapshotCache(Store(tmp_path / "cache"), 2 * size + 1)
    for number, key in enumerate(("1", "2")):
        cache.put(key, snapshot(key.encode()))
        os.utime(cache.path(key), (number, number))
    assert cache.get("1")  # which makes it the one used last
    cache.put("3", snapshot(b"3"))
    assert [cache.get(key) is not None for key in ("1", "2", "3")] == [True, False, True]


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = SnapshotCache(Store(tmp_path / "cache"), 1000)
    cache.put("key", snapshot())
    assert cache.get("key") is None
    assert not list((tmp_path / "cache/temp").iterdir())


def test_the_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "5")
    assert limit_bytes() == 5 << 20
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    assert limit_bytes() == 4096 << 20


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from bootmatrix.snapshot import cache
from bootmatrix.store import Store
from test_snapshots import snapshot

def write(one, file, name):
    file.write(bytes(100_000)); file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

cache.write = write
cache.SnapshotCache(Store(Path(sys.argv[1]))).put("key", snapshot())
"""


def test_a_kill_while_a_snapshot_is_written_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    done = subprocess.run([sys.executable, "-c", KILLED, folder, Path(__file__).parent], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list((folder / "temp").iterdir())) == 1
    cache = SnapshotCache(Store(folder))
    assert not list((folder / "temp").iterdir())
    assert cache.get("key") is None
    cache.put("key", snapshot())
    assert cache.get("key")

"""The cache stays within its limit, beside other processes, and makes removed files again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from bootmatrix.errors import HostError, InputError
from bootmatrix.store import Store
from bootmatrix.store.trim import (
    IN_USE_S,
    JOINED_KEPT_S,
    SNAPSHOTS,
    drop_joined,
    parse_size,
    stored_files,
    tidy,
    trim,
    usage,
)
from kitchen import Kitchen
from small_archive import SmallArchive

pytest_plugins = ("archive_fixtures", "kitchen")

SPEC = """
init: ["@pkg:./images/mine"]
onboot: [{name: a, image: "@pkg:./images/mine"}]
"""


def fill(store: Store, count: int, size: int = 1000) -> list[str]:
    """Add files; the first was used the longest time ago."""
    digests = []
    for number in range(count):
        digests.append(store.add_bytes(f"{number}".encode().ljust(size)))
        at = time.time() - 1_000_000 + number
        os.utime(store.blob(digests[-1]), (at, at))
    return digests


def left(store: Store, digests: list[str]) -> list[int]:
    """Numbers of the files that are left."""
    return [number for number, digest in enumerate(digests) if store.has(digest)]


def test_the_least_recently_used_files_go(tmp_path: Path) -> None:
    digests = fill(Store(tmp_path / "c"), 5)
    store = Store(tmp_path / "c")
    store.verified(digests[0])
    done = trim(store, 2500)
    assert left(store, digests) == [0, 4], "the first one was just used"
    assert (done.removed, done.removed_bytes, done.kept_bytes) == (3, 3000, 2000)


def test_snapshots_of_guests_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "c")
    digests = fill(store, 2)
    snapshot = store.own_folder(SNAPSHOTS) / "0"
    snapshot.write_bytes(bytes(1500))
    assert usage(store.folder)["booted guests (snapshots)"] == (1, 1500)
    os.utime(snapshot, (9, 9))
    done = trim(store, 2000)
    assert (done.removed, done.kept_bytes) == (1, 2000)
    assert not snapshot.exists()
    assert left(store, digests) == [0, 1]


def test_files_in_use_stay_while_another_process_uses_the_cache(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digests = fill(store, 3)
    os.utime(store.blob(digests[2]))
    script = f"from bootmatrix.store import Store; from pathlib import Path; s = Store(Path({str(tmp_path)!r}))"
    command = [sys.executable, "-c", f"{script}; print('open', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "open\n"
        assert not store.is_alone()
        assert trim(store, 0).busy_bytes == 1000
        assert left(store, digests) == [2]
        assert trim(store, 0, now=time.time() + IN_USE_S + 1).removed == 1
        other.communicate("\n")
    assert store.is_alone()


def test_locks_of_killed_processes_are_removed(tmp_path: Path) -> None:
    Store(tmp_path)
    (tmp_path / "locks" / "image-0").write_text("")
    store = Store(tmp_path)
    with store.once("image", "mine"):
        held = {path.name for path in (tmp_path / "locks").iterdir()}
        Store(tmp_path)
        assert {path.name for path in (tmp_path / "locks").iterdir()} == held
    assert "image-0" not in held


def test_what_was_removed_is_made_again(kitchen: Kitchen, small: SmallArchive) -> None:
    """Whatever goes, between two builds of one process: packages, layers, kernels, segments, initrds."""
    small.add("bookworm", "server")
    small.publish()
    kitchen.recipe("mine", packages=["server"], cmd=["/a"], files=[{"path": "init", "contents": "x"}])
    kernel = kitchen.kernel()
    store = kitchen.builder.store
    first = kitchen.build(SPEC, kernel)
    for path in [file.path for file in stored_files(store.folder)]:
        path.unlink()
        again = kitchen.build(SPEC, kernel)
        assert again == first
    trim(store, 0)
    assert not list(stored_files(store.folder))
    assert kitchen.build(SPEC, kernel) == first


def test_whole_initrds_go_first(kitchen: Kitchen) -> None:
    kitchen.recipe("mine", cmd=["/a"], files=[{"path": "init", "contents": "x"}])
    kernel = kitchen.kernel()
    initrd = kitchen.build(SPEC, kernel).initrd
    assert initrd
    store = kitchen.builder.store
    drop_joined(store)
    assert store.has(initrd.sha256)
    before = {file.path for file in stored_files(store.folder)}
    drop_joined(store, now=time.time() + JOINED_KEPT_S + 9)
    assert before - {file.path for file in stored_files(store.folder)} == {store.blob(initrd.sha256)}
    assert kitchen.build(SPEC, kernel).initrd == initrd


def test_runs_keep_the_limit_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    digests = fill(store, 4)
    monkeypatch.setenv("BOOTMATRIX_CACHE_MAX", "2K")
    tidy(store)
    assert left(store, digests) == [2, 3]
    more = fill(store, 6)
    tidy(store)
    assert len(left(store, more)) == 6, "not twice within ten minutes"
    mark = tmp_path / "locks" / "tidied"
    os.utime(mark, (1, 1))
    monkeypatch.setenv("BOOTMATRIX_CACHE_MAX", "0")
    tidy(store)
    assert len(left(store, more)) == 6, "no limit"


def test_sizes() -> None:
    assert (parse_size("10G"), parse_size("500M"), parse_size("3k"), parse_size("7"), parse_size("2GiB")) == (
        10 << 30, 500 << 20, 3 << 10, 7, 2 << 30,
    )  # fmt: skip
    for text in ("", "G", "-1", "1.5G", "10 apples"):
        with pytest.raises(InputError):
            parse_size(text)


def test_the_command_says_what_takes_how_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    older = store.add_bytes(b"!<arch>\n".ljust(5000))
    store.add_bytes(b"\x28\xb5\x2f\xfd".ljust(3000))
    os.utime(store.blob(older), (1, 1))
    assert usage(tmp_path)["packages"] == (1, 5000)
    del store
    assert main(["cache", "--cache", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "packages                    1 file  4.9 KiB" in said
    assert "7.8 KiB of 20 GiB, " in said
    assert main(["cache", "--json", "--cache", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 8000
    assert main(["cache", "prune", "--keep", "6K", "--cache", str(tmp_path)]) == 0
    assert "removed 1 file, 4.9 KiB; 2.9 KiB kept" in capsys.readouterr().out
    assert main(["cache", "prune", "--keep", "much", "--cache", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (bytes(56) + b"ARM\x64", "kernels, modules and programs"),
        (b"\xd0\x0d\xfe\xed", "kernels, modules and programs"),
        (b"SQLite format 3\0", "indexes of packages"),
        (bytes(510) + b"\x55\xaa", "disks and other outputs"),
        (bytes(510) + b"\x55\xaa\0\0HdrS", "kernels, modules and programs"),
        (b"text", "other files"),
    ],
)
def test_the_kinds_of_files(tmp_path: Path, data: bytes, kind: str) -> None:
    Store(tmp_path).add_bytes(data.ljust(4096))
    assert usage(tmp_path)[kind] == (1, 4096)


def test_a_cache_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "none"
    assert main(["cache", "prune", "--keep", "1G", "--cache", str(folder)]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts take root")
def test_a_read_only_cache_is_said_at_the_start(tmp_path: Path) -> None:
    Store(tmp_path)
    script = "from bootmatrix.store import Store; from pathlib import Path; import sys; Store(Path(sys.argv[1]))"
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} && exec {sys.executable} -c"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{mount} '{script}' {tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "HostError: the cache in" in done.stderr
    assert "is not writable" in done.stderr


def test_a_cache_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(HostError, match="without locks"):
        Store(tmp_path)

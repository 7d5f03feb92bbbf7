"""The store: whole or not at all, whoever is killed, and whatever the disk does."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.errors import HostError, InputError, UntrustedError
from bootmatrix.execute.reservations import Reservations
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.store import PARTIAL_MAX_AGE_S, Store, default_cache
from bootmatrix.store.locks import remove_abandoned
from bootmatrix.store.trim import tidy, usage
from small_disk import run_on_small_disk

ABC = hashlib.sha256(b"abc").hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_found_by_its_digest(store: Store) -> None:
    assert store.add_bytes(b"abc") == ABC
    assert store.has(ABC)
    assert not store.has("")  # that is where their folders are
    assert store.verified(ABC).read_bytes() == b"abc"
    assert files_of(store.folder) == {f"blobs/sha256/{ABC[:2]}/{ABC}"}


def test_a_writer_tells_its_place_and_commits_once_whole(store: Store) -> None:
    with store.writer() as writer:
        writer.write(b"a")
        assert writer.tell() == 1
        writer.write(memoryview(b"bc"))
        assert not store.has(ABC)
        assert writer.commit(ABC) == ABC
    assert files_of(store.folder) == {f"blobs/sha256/{ABC[:2]}/{ABC}"}


def test_a_wrong_digest_leaves_nothing(store: Store) -> None:
    with pytest.raises(UntrustedError, match="mismatch"), store.writer() as writer:
        writer.write(b"abd")
        writer.commit(ABC)
    assert files_of(store.folder) == set()


def test_a_writer_that_gives_up_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"), store.writer() as writer:
        writer.write(b"abc")
        raise RuntimeError("changed my mind")
    assert files_of(store.folder) == set()


def test_errors_of_the_callers_own_are_not_called_the_caches(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), store.once("a", "b"), store.writer():
        (tmp_path / "there").mkdir()
        (tmp_path / "there").mkdir()


def damage(path: Path) -> None:
    """Change a file's content, and neither its size nor its times, as a bad disk does."""
    times = path.stat()
    path.chmod(0o644)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_damaged_file_is_found_out_and_removed(store: Store) -> None:
    store.add_bytes(b"abc")
    damage(store.blob(ABC))
    with pytest.raises(UntrustedError, match="damaged"):
        Store(store.folder).verified(ABC)
    assert not store.has(ABC)
    store.add_bytes(b"abc")
    assert store.verified(ABC).read_bytes() == b"abc"


def test_keeping_the_same_again_replaces_a_damaged_file(store: Store) -> None:
    store.add_bytes(b"abc")
    damage(store.blob(ABC))
    assert Store(store.folder).add_bytes(b"abc") == ABC
    assert store.blob(ABC).read_bytes() == b"abc"


def test_a_folder_in_the_place_of_a_file_is_replaced(store: Store) -> None:
    digest = store.add_bytes(b"words")
    store.set_memo("kind", "key", b"value")
    (memo,) = (store.folder / "memo").rglob("*/*")
    for path in (store.blob(digest), memo):
        path.unlink()
        (path / "lost").mkdir(parents=True)
    assert store.memo("kind", "key") is None
    assert store.add_bytes(b"words") == digest
    store.set_memo("kind", "key", b"value")
    assert (store.verified(digest).read_bytes(), store.memo("kind", "key")) == (b"words", b"value")
    memo.unlink()
    damages: tuple[Callable[[], None], ...] = (lambda: memo.symlink_to(memo.name), lambda: os.mkfifo(memo))
    for damage in damages:
        damage()
        assert store.memo("kind", "key") is None
        store.set_memo("kind", "key", b"value")
        assert store.memo("kind", "key") == b"value"
        memo.unlink()


def test_pipes_in_a_cache_keep_nobody_waiting(store: Store) -> None:
    """A backup, or whoever has written to the cache, may have left them."""
    key = hashlib.sha256(b"key").hexdigest()
    memos = (f"memo/{kind}/{key}" for kind in ("initrd", "kind"))
    for name in ("temp/x", "locks/x", "locks/tidied", f"partial/{ABC}", f"blobs/sha256/{ABC[:2]}/{ABC}", *memos):
        (store.folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(store.folder / name)
    again = Store(store.folder)
    tidy(again)
    assert usage(again.folder)["other files"][0] == 1
    guests = SnapshotCache(again)
    os.mkfifo(guests.path("key"))
    assert guests.get("key") is None
    assert again.cached("kind", "key", lambda: "made") == "made"
    assert again.partial(ABC).read_bytes() == b""
    assert again.verified(again.add_bytes(b"abc")).read_bytes() == b"abc"
    left = sorted(path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*") if path.is_fifo())
    assert left == ["locks/tidied", f"memo/initrd/{key}", f"snapshots/{key}"]


def test_a_file_changed_within_the_process_is_checked_again(store: Store) -> None:
    store.add_bytes(b"abc")
    store.verified(ABC)
    store.blob(ABC).unlink()
    store.blob(ABC).write_bytes(b"xyz")
    with pytest.raises(UntrustedError, match="damaged"):
        store.verified(ABC)


def test_a_missing_file_is_an_error_that_says_what_to_do(store: Store) -> None:
    with pytest.raises(UntrustedError, match="Run again"):
        store.verified(ABC)


def test_records(store: Store) -> None:
    assert store.memo("image", "key") is None
    store.set_memo("image", "key", b"one\ntwo")
    store.set_memo("other", "key", b"")
    assert store.memo("image", "key") == b"one\ntwo"
    assert store.memo("other", "key") == b""
    store.set_memo("image", "key", b"three")
    assert Store(store.folder).memo("image", "key") == b"three"


@pytest.mark.parametrize("change", [damage, lambda path: path.write_bytes(b""), lambda path: os.truncate(path, 70)])
def test_a_damaged_record_counts_as_none(store: Store, change: object) -> None:
    store.set_memo("image", "key", b"a record of some length")
    (path,) = (store.folder / "memo/image").iterdir()
    assert callable(change)
    change(path)
    assert store.memo("image", "key") is None
    assert not path.exists()


def test_a_cached_value_is_made_once(store: Store) -> None:
    made: list[str] = []

    def make() -> tuple[str, int]:
        made.append(store.add_bytes(b"abc"))
        return ABC, 3

    assert tuple(store.cached_file("layer", "key", make)) == (ABC, 3)
    assert tuple(Store(store.folder).cached_file("layer", "key", make)) == (ABC, 3)
    assert made == [ABC]
    store.blob(ABC).unlink()
    assert tuple(store.cached_file("layer", "key", make)) == (ABC, 3)
    assert made == [ABC, ABC]
    assert store.has(ABC)


def test_a_cached_digest_is_made_anew_when_its_file_is_gone(store: Store) -> None:
    assert store.cached_digest("initrd", "key", lambda: store.add_bytes(b"abc")) == ABC
    store.blob(ABC).unlink()
    other = store.cached_digest("initrd", "key", lambda: store.add_bytes(b"abcd"))
    assert store.verified(other).read_bytes() == b"abcd"
    assert store.memo("initrd", "key") == other.encode()


def test_nothing_is_cached_of_what_failed(store: Store) -> None:
    def fail() -> int:
        raise ValueError("not made")

    with pytest.raises(ValueError, match="not made"):
        store.cached("number", "key", fail)
    assert store.cached("number", "key", lambda: 1) == 1
    assert store.cached("number", "key", fail) == 1
    assert files_of(store.folder) == {f"memo/number/{hashlib.sha256(b'key').hexdigest()}"}


def test_threads_make_a_cached_value_once(store: Store) -> None:
    made: list[int] = []

    def make() -> int:
        time.sleep(0.02)
        made.append(1)
        return 1

    threads = [threading.Thread(target=store.cached, args=("number", "key", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert made == [1]


def test_kinds_are_no_paths(store: Store) -> None:
    with pytest.raises(ValueError, match="invalid kind"):
        store.memo("../blobs", "key")


def test_one_thread_at_a_time(store: Store) -> None:
    inside, most, guard = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(30):
            with store.once("image", "key"):
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert files_of(store.folder) == set()


COUNTER = """
import sys
from pathlib import Path
from bootmatrix.store import Store
store = Store(Path(sys.argv[1]))
for _ in range(200):
    with store.once("count", "er"):
        number = int(store.memo("count", "er") or b"0")
        store.set_memo("count", "er", str(number + 1).encode())
"""


def test_one_process_at_a_time(store: Store) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", COUNTER, str(store.folder)]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert store.memo("count", "er") == b"600"


HOLDER = """
import sys, time
from pathlib import Path
from bootmatrix.store import Store
store = Store(Path(sys.argv[1]))
with store.once("image", "key"), store.writer() as writer:
    writer.write(b"x" * (1 << 20))
    print("holding", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_nothing_and_leaves_nothing(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(store.folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"holding\n"
        living = Store(store.folder)
        assert len(list((store.folder / "temp").iterdir())) == 1, "a living process's file was taken from it"
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    started = time.monotonic()
    with living.once("image", "key"):
        assert time.monotonic() - started < 50
    assert len(list((store.folder / "temp").iterdir())) == 1
    Store(store.folder)
    assert files_of(store.folder) == set()


def test_a_folder_goes_when_its_maker_is_gone_and_not_before(store: Store) -> None:
    abandoned = store.folder / "temp/folder"
    (abandoned / "below").mkdir(parents=True)
    with store.workspace() as folder:
        (folder / "half").write_text("x")
        Store(store.folder)
        assert (folder / "half").is_file()
        assert not abandoned.exists()
    assert not list((store.folder / "temp").iterdir())


def test_downloads_that_nobody_took_up_are_removed(store: Store) -> None:
    old, young = store.partial("a" * 64), store.partial("b" * 64)
    for path in (old, young):
        path.write_bytes(b"part")
    long_ago_s = time.time() - PARTIAL_MAX_AGE_S - 60
    os.utime(old, (long_ago_s, long_ago_s))
    Store(store.folder)
    assert (old.exists(), young.exists()) == (False, True)


FILLER = """
import sys
from pathlib import Path
from bootmatrix.errors import HostError
from bootmatrix.store import Store
folder = Path(sys.argv[1])
store = Store(folder)
kept = store.add_bytes(b"small")
for attempt in (
    lambda: store.add_bytes(b"x" * (1 << 20)),
    lambda: store.add_bytes(b"x" * 300_000),
    lambda: store.set_memo("image", "key", b"x" * (1 << 20)),
):
    try:
        attempt()
    except HostError as error:
        print(error)
print(store.verified(kept).read_bytes())
print(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
    f"blobs/sha256/{kept[:2]}/{kept}"])
"""


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    result = run_on_small_disk(tmp_path, 256, FILLER)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.startswith("no space left for the cache in") for line in lines[0:6:2]] == [True, True, True]
    assert "BOOTMATRIX_CACHE" in lines[1]
    assert lines[6:] == ["b'small'", "True"]


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_cache_that_cannot_be_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HostError, match="BOOTMATRIX_CACHE"):
        Store(tmp_path / name)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BOOTMATRIX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == tmp_path / ".cache/bootmatrix"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg/bootmatrix"
    monkeypatch.setenv("BOOTMATRIX_CACHE", "~/own")
    assert default_cache() == tmp_path / "own"


@pytest.mark.parametrize(
    ("name", "mode", "fault"),
    [
        ("", 0o777, "writable by everybody"),
        ("memo", 0o777, "writable by everybody"),
        ("memo", 0o1777, "writable by everybody"),  # sticky: others could add records
        ("blobs/sha256", 0o1777, "writable by everybody"),
        ("blobs/sha256/00", 0o777, "writable by everybody"),
        ("memo/kind", 0o777, "writable by everybody"),
        ("", 0o1777, ""),  # as /tmp: the folders in it are ours
    ],
)
def test_a_cache_that_others_can_write_to_is_refused(tmp_path: Path, name: str, mode: int, fault: str) -> None:
    folder = tmp_path / "cache"
    Store(folder)
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name).chmod(mode)
    if not fault:
        Store(folder)
        return
    with pytest.raises(HostError, match=fault):
        Store(folder)


@pytest.mark.parametrize("name", ["temp", "locks", "partial", "snapshots", "blobs/sha256", "reservations", "try"])
@pytest.mark.parametrize("opened", [Store, Reservations.of_cache])
def test_a_folder_of_other_things_is_not_tidied_as_a_cache(
    tmp_path: Path, name: str, opened: Callable[[Path], object]
) -> None:
    """As a home with a folder `temp`."""
    mine = tmp_path / name / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    os.utime(mine, (0, 0))
    with pytest.raises(InputError, match=f"is not a cache, and .*{name} has files"):
        opened(tmp_path)
    assert mine.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [name.partition("/")[0]]


def test_a_cache_with_files_is_opened_again(tmp_path: Path) -> None:
    (tmp_path / "cache/temp").mkdir(parents=True)  # as of a process that was killed while it made the cache
    (tmp_path / "cache/index-key").write_bytes(bytes(16))
    kept = Store(tmp_path / "cache").add_bytes(b"x")
    for name in ("temp", "partial", "memo"):
        (tmp_path / "cache" / name).rmdir()  # as by a tool that saves no empty folders
    assert Store(tmp_path / "cache").has(kept)


def test_a_folder_that_others_prepared_in_a_sticky_cache_is_refused(tmp_path: Path) -> None:
    """A snapshot is a guest's whole memory: whoever writes it writes the verdicts."""
    (tmp_path / "snapshots").mkdir()
    tmp_path.chmod(0o1777)
    (tmp_path / "snapshots").chmod(0o777)
    with pytest.raises(HostError, match=r"untrusted cache .*snapshots: it is writable by everybody"):
        SnapshotCache(Store(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_cache_of_another_user_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    os.chown(folder, 12345, 12345)
    with pytest.raises(HostError, match="untrusted cache"):
        Store(folder)


HOLD = """
from bootmatrix.store import temporary_folder
with temporary_folder() as folder:
    print(folder, flush=True)
    input()
"""


def test_an_abandoned_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe", "nothing"):
        link = tmp_path / f"link-{name}"
        link.symlink_to(name)
        remove_abandoned(link)
        assert not link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_temporary_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    (tmp_path / "bootmatrix-temp-link").symlink_to(tmp_path)
    words = [sys.executable, "-c", HOLD]
    with (
        subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout and living.stdout
        left, held = (Path(process.stdout.readline().strip()) for process in (killed, living) if process.stdout)
        (left / "file").touch()
        killed.kill()
        killed.wait()
        assert left.is_dir()
        subprocess.run(words, env=environment, input="\n", text=True, check=True, capture_output=True)
        assert (left.exists(), held.is_dir()) == (False, True)
        living.communicate("\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bootmatrix-temp-link"]

"""What the host lacks or has damaged: said before anything is downloaded, tried once, and healed in one pass."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bootmatrix.errors import DamagedCache, QemuUnsuitable
from bootmatrix.qemu.suitability import check_machine
from bootmatrix.store import Store, healed
from guests import make_machine
from stage import Stage, set_up
from test_boot_qemu import pc


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return set_up(tmp_path_factory.mktemp("lacks"), ("sound",))


@pytest.mark.parametrize("command", ["matrix", "run"])
def test_a_missing_qemu_is_said_before_any_download_and_once(
    stage: Stage, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("BOOTMATRIX_CACHE", str(tmp_path / "cache"))
    program = stage.folder / "bin/qemu-system-fake"
    program.rename(program.with_name("gone"))
    try:
        words = (stage.matrix("sound", more="retries: 3\n"),) if command == "matrix" else ("fake.yml", "--arch", "fake")
        done = stage.run(command, *words)
    finally:
        program.with_name("gone").rename(program)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "qemu-system-fake is not installed" in done.stdout + done.stderr
    assert "once more" not in done.stdout
    blobs = tmp_path / "cache/blobs"
    assert not [path for path in blobs.rglob("*") if path.is_file()], "nothing was downloaded"


class Memory:
    """A memory that counts."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def memo(self, _kind: str, key: str) -> bytes | None:
        return self.kept.get(key)

    def set_memo(self, _kind: str, key: str, value: bytes) -> None:
        self.kept[key] = value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"machine": "none-such"}, "unsupported machine type 'none-such'"),
        ({"cpu": "none-such-cpu"}, "none-such-cpu"),
        ({"cpu": "none-such-cpu,+aes"}, "none-such-cpu"),
    ],
)
def test_a_machine_or_cpu_that_qemu_lacks_is_found_out_without_a_guest(changes: dict[str, str], message: str) -> None:
    memory = Memory()
    with pytest.raises(QemuUnsuitable, match=message):
        check_machine(pc(**changes), memory)
    assert not memory.kept, "a QEMU that is mended is asked again"
    check_machine(pc(), memory)
    assert memory.kept


def test_a_qemu_that_lists_nothing_is_not_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", stage.environment()["PATH"])
    check_machine(make_machine(), Memory())


def _damage(cache: Path, count: int) -> int:
    """Damage files of a cache that is linked to another one: what they are linked to stays as it is."""
    largest_first = sorted((cache / "blobs").rglob("*"), key=lambda path: -path.stat().st_size)
    files = [path for path in largest_first if path.is_file()][:count]
    for path in files:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-3] + b"???")
    return len(files)


def test_a_cache_of_which_every_file_is_damaged_heals_in_one_run(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTMATRIX_CACHE", str(tmp_path / "cache"))
    words = ("build", "fake.yml", "--arch", "fake", "--kernel", "6.1")
    first = stage.run(*words, "-o", f"{tmp_path}/first")
    assert first.returncode == 0, first.stderr
    shutil.copytree(tmp_path / "cache", tmp_path / "other", copy_function=os.link)
    assert _damage(tmp_path / "other", 1000) > 5
    monkeypatch.setenv("BOOTMATRIX_CACHE", str(tmp_path / "other"))
    done = stage.run("matrix", stage.matrix("sound", more="retries: 0\n"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_damaged_again_and_again_is_given_up(tmp_path: Path) -> None:
    store, tries = Store(tmp_path), []

    def work() -> None:
        tries.append(1)
        store.verified("a" * 64)

    with pytest.raises(DamagedCache):
        healed(work)
    assert len(tries) == 3

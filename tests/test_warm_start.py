"""Guests of their own that start from the inputs of the last one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import DamagedCache
from bootmatrix.guest.serve import PORT
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Artefact, Bootable, Forkable
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.snapshot.pool import SnapshotPool, no_limit
from bootmatrix.snapshot.snapshot import new_memory, taken
from bootmatrix.store import Store, default_cache
from bootmatrix.workspace import warm_start

TOOL = Path(sys.executable).with_name("bootmatrix")


def snapshot_key(program: Path) -> str:
    status = program.stat()
    return json.dumps({"qemu": [str(program), "7.2.22", status.st_size, status.st_mtime_ns]})


FIELDS: dict[str, Any] = {"snapshot": snapshot_key(Path("/bin/sh")), "disk": "", "others": []}


def keep(store: Store, key: str, good_for_s: float, **fields: object) -> None:
    values = {**FIELDS, "good_until_s": time.time() + good_for_s, **fields}
    store.set_memo(warm_start.KIND, key, json.dumps(values).encode())


def test_a_look_for_inputs_makes_no_cache(tmp_path: Path) -> None:
    assert warm_start.find(tmp_path / "cache", "key") is None
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_found_until_an_index_is_to_be_asked_for_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store, "now", 60)
    keep(store, "over", -1)
    keep(store, "never", 1e9)
    assert warm_start.find(tmp_path, "now")
    assert [warm_start.find(tmp_path, key) for key in ("over", "never", "unknown")] == [None, None, None]


def test_another_qemu_needs_a_plan(tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    program.write_bytes(b"7.2")
    keep(Store(tmp_path / "cache"), "key", 60, snapshot=snapshot_key(program))
    assert warm_start.find(tmp_path / "cache", "key")
    program.write_bytes(b"10.0")
    assert warm_start.find(tmp_path / "cache", "key") is None
    program.unlink()
    assert warm_start.find(tmp_path / "cache", "key") is None


def test_records_of_other_days_are_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in ("old", "new"):
        keep(store, key, 60)
    old, new = sorted((tmp_path / "memo" / warm_start.KIND).iterdir(), key=lambda path: path.stat().st_mtime_ns)
    os.utime(old, (0, 0))
    store.forget_memos(warm_start.KIND, older_than_s=warm_start.LONGEST_S)
    assert list((tmp_path / "memo" / warm_start.KIND).iterdir()) == [new]


def test_a_copy_needs_its_snapshot_and_its_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    disk, kernel = store.add_bytes(b"a disk"), store.add_bytes(b"a kernel")
    keep(store, "key", 60, disk=disk, others=[kernel])
    assert find(tmp_path).snapshot() is None, "it is not there"
    snapshots = SnapshotCache(store)
    snapshots.put(FIELDS["snapshot"], taken(new_memory(1), 1, b"state", b"console"))
    found = find(tmp_path)
    found.check_copy()
    assert (found.snapshot() or pytest.fail()).state == b"state"
    spoil(store, kernel)
    find(tmp_path).check_copy()  # which does not need the kernel
    with pytest.raises(DamagedCache, match="a damaged file"):
        find(tmp_path).check_others()
    spoil(store, disk)
    with pytest.raises(DamagedCache, match="a damaged file"):
        find(tmp_path).check_copy()
    assert find(tmp_path).snapshot() is None, "its disk is not there"


def test_a_damaged_snapshot_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    snapshots = SnapshotCache(store)
    keep(store, "key", 60, disk=store.add_bytes(b"a disk"))
    memory = new_memory(1)
    os.pwrite(memory, b"of the guest", 4096)
    snapshots.put(FIELDS["snapshot"], taken(memory, 1, b"state", b"console"))
    path = snapshots.path(FIELDS["snapshot"])
    path.write_bytes(path.read_bytes().replace(b"of the guest", b"of a stranger"[:12]))
    with pytest.raises(DamagedCache, match="a damaged snapshot"):
        find(tmp_path).check_copy()
    assert not path.exists()


def find(cache: Path) -> warm_start.WarmStart:
    found = warm_start.find(cache, "key")
    assert found
    return found


def spoil(store: Store, sha256: str) -> None:
    store.blob(sha256).chmod(0o644)
    store.blob(sha256).write_bytes(b"spoilt")


async def test_what_a_copy_needs_not_is_checked_before_it_is_used(tmp_path: Path) -> None:
    def check() -> None:
        raise DamagedCache("a damaged kernel", "Run again.", "0")

    pool = SnapshotPool(SnapshotCache(Store(tmp_path)), 0, lambda _: None, check)
    machine = load_profiles([CHECKOUT / "arch"])["x86_64"].machine("q35")
    artefact = Artefact(kind="kernel", name="k", path="/k", sha256="0" * 64, size_bytes=1)
    forkable = Forkable(initrd=artefact, disk=artefact)
    bootable = Bootable(kernel=artefact, initrd=artefact, forkable=forkable)
    with pytest.raises(DamagedCache):
        async with pool.origin(machine, bootable, no_limit):
            pytest.fail("a guest was booted")
    with pytest.raises(DamagedCache):
        pool.discard(machine, bootable, "no copy came up")


def test_the_users_own_files_decide_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = [warm_start.key_of("settings"), warm_start.key_of("others")]
    (tmp_path / "kernels.yml").write_text("kernels: {}\n")
    keys.append(warm_start.key_of("settings"))
    (tmp_path / "arch").mkdir()
    (tmp_path / "arch/mine.yml").write_text("name: mine\n")
    keys.append(warm_start.key_of("settings"))
    (tmp_path / "arch/mine.yml").write_text("name: other\n")
    keys.append(warm_start.key_of("settings"))
    assert len(set(keys)) == len(keys)
    assert warm_start.key_of("settings") == keys[-1]


def test_files_that_variables_name_decide_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOOTMATRIX_ARCH", f"{tmp_path}/more")
    (tmp_path / "more").mkdir()
    before = warm_start.key_of("settings")
    (tmp_path / "more/mine.yml").write_text("name: mine\n")
    assert warm_start.key_of("settings") != before


def test_links_of_the_current_folder_lead_round_in_no_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arch").mkdir()
    for name in ("a", "b"):
        (tmp_path / "arch" / name).symlink_to(".")
    (tmp_path / "arch/c").symlink_to("nowhere")
    before = warm_start.key_of("settings")
    (tmp_path / "arch/mine.yml").write_text("name: mine\n")
    assert warm_start.key_of("settings") != before


# In a real guest

GUEST = ("--arch", "x86_64", "--image", "busybox", "--no-tree")


def sh(text: str, memory: str = "513M", **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(TOOL), "exec", *GUEST, "--memory", memory, "--", "/bin/sh", "-c", text]
    env = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)


@pytest.mark.boots
def test_the_second_guest_needs_no_plan() -> None:
    sh("true")
    second = sh("exit 7", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rsplit("|", 1)[1].strip() for line in second.stderr.splitlines() if line.startswith("import time")}
    assert second.returncode == 7
    assert "bootmatrix.workspace.warm_guest" in imported
    assert not imported & {"bootmatrix.plan", "bootmatrix.cell.run", "bootmatrix.source.archive", "yaml"}
    index = sh(f"wget -q -O - http://127.0.0.1:{PORT}/debian/dists/bookworm/InRelease")
    assert index.stdout.startswith("-----BEGIN PGP SIGNED MESSAGE-----"), index.stderr


@pytest.mark.boots
def test_inputs_that_are_damaged_are_made_again() -> None:
    sh("true", "514M")
    records = (path for path in (default_cache() / "memo" / warm_start.KIND).iterdir() if is_ours(path))
    record = max(records, key=lambda path: path.stat().st_mtime)
    value = json.dumps({**fields_of(record), "disk": "0" * 64}).encode()
    record.write_bytes(hashlib.sha256(value).hexdigest().encode() + b"\n" + value)
    done = sh("exit 8", "514M")
    assert (done.returncode, done.stderr) == (8, "")
    assert fields_of(record)["disk"] != "0" * 64


def fields_of(record: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(record.read_bytes().partition(b"\n")[2])
    return fields


def is_ours(record: Path) -> bool:
    return '"memory_mib":514,' in fields_of(record).get("machine", "")

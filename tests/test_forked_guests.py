"""Guests that are copies of one that was booted before: real ones, with the verdicts of cold ones, and no two alike."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.assembly.fork import FORK, disk_tree, why_not
from bootmatrix.assembly.tree import Tree, text_file
from bootmatrix.cell.verification import differences, doubt_of
from bootmatrix.judge.completeness import NO_RESULT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Bootable, Forkable, ImageConfig, Judgement, Machine, StoredImage, SubResult, Verdict
from bootmatrix.report.cell_parts import facts
from bootmatrix.runs.consoles import read_console
from bootmatrix.runs.run_store import load_run
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.snapshot.pool import SnapshotPool, key_of
from bootmatrix.snapshot.snapshot import new_memory, read, taken
from bootmatrix.store import Store, default_cache
from guests import artefact, make_bootable, make_machine
from samples import green_records

ROOT = Path(__file__).parents[1]
ARCHS = "aarch64"
SPEC = """
init: ["@pkg:./images/init", "@pkg:./images/crun"]
onboot:
  - name: work
    image: "@pkg:./images/busybox"
    net: host
    command: [/bin/sh, /work/work]
    binds: ["/work:/work:ro"]
    readonly: {readonly}
    annotations: {{bootmatrix.network: user}}
files:
  - path: work/work
    contents: |
      echo "random $(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n')"
      echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"
      echo "mac $(cat /sys/class/net/eth0/address)"
      echo "time $(date +%s)"
      echo "ok 1 - it ran"
      exit {status}
"""


def boot(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], Path]:
    """Exit status, records by id, and the run's folder."""
    done = subprocess.run(
        [sys.executable, "-m", "bootmatrix.cli.main", "matrix", *arguments, "--reports", str(folder / "reports")],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    path = folder / "reports/latest"
    assert path.exists(), done.stdout + done.stderr
    records = json.loads((path / "run.json").read_bytes())["records"]
    names = ("spec_name", "arch", "kernel")
    return done.returncode, {"/".join(one["cell"][name] for name in names): one for one in records}, path.resolve()


def specs(folder: Path) -> None:
    shutil.copytree(ROOT / "specs/images", folder / "images")
    (folder / "one.yml").write_text(SPEC.format(readonly="true", status=0))
    (folder / "two.yml").write_text(SPEC.format(readonly="false", status=0))
    (folder / "bad.yml").write_text(SPEC.format(readonly="true", status=3))
    (folder / "own.yml").write_text('kernel: {cmdline: "quiet"}\n' + SPEC.format(readonly="true", status=0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("forks")
    specs(folder)
    names = ("one.yml", "two.yml", "bad.yml")
    return boot(folder, *names, "--arch", ARCHS, "--kernel", "6.1", "--boot", "fork", "--verify-fork", "1")


def said(run: tuple[int, dict[str, Any], Path], word: str) -> list[str]:
    """What the guests of a run printed after a word."""
    folder = run[2]
    consoles = [read_console(folder, record).decode() for record in load_run(folder).records]
    return [found for text in consoles for found in re.findall(rf"^work\| {word} (\S+)", text, re.MULTILINE)]


@pytest.mark.boots
def test_copies_come_to_the_verdicts_of_cold_guests(run: tuple[int, dict[str, Any], Path]) -> None:
    status, records, _ = run
    for name, record in records.items():
        assert record["boot"] == "fork", record["cold_reason"] or record["judgement"]
        expected = "fail" if name.startswith("bad") else "pass"
        assert record["judgement"]["verdict"] == expected, (name, record["judgement"])
    assert status == 1
    verified = [name.split("/")[0] for name, record in records.items() if record["verified"]]
    assert sorted(verified) == ["bad", "one"], "one was asked for, and what fails is booted cold as well"


@pytest.mark.long
@pytest.mark.boots
def test_copies_of_a_big_endian_guest_that_has_its_disk_on_a_channel(tmp_path: Path) -> None:
    specs(tmp_path)
    status, records, _ = boot(tmp_path, "one.yml", "--arch", "s390x", "--kernel", "6.1", "--boot", "fork")
    (record,) = records.values()
    assert (status, record["boot"], record["cold_reason"]) == (0, "fork", "")


@pytest.mark.boots
def test_no_two_copies_are_alike(run: tuple[int, dict[str, Any], Path]) -> None:
    for word in ("random", "boot_id", "mac"):
        found = said(run, word)
        assert len(found) == 3, word
        assert len(set(found)) == len(found), (word, found)
    for text in said(run, "time"):
        assert abs(int(text) - time.time()) < 600


@pytest.mark.boots
def test_a_fault_that_only_a_copy_has_is_not_its_guests(tmp_path: Path) -> None:
    specs(tmp_path)
    only_a_copy = "if grep -q mode=template /proc/cmdline; then exit 3; fi"
    (tmp_path / "unlike.yml").write_text(SPEC.format(readonly="true", status=0).replace("exit 0", only_a_copy))
    status, records, _ = boot(tmp_path, "unlike.yml", "--arch", "aarch64", "--kernel", "6.1", "--boot", "fork")
    (record,) = records.values()
    assert (status, record["boot"], record["judgement"]["verdict"]) == (3, "fork", "infra-error")
    assert record["judgement"]["reason"].startswith("as a copy this guest differs from a cold one: ")


@pytest.mark.boots
def test_what_cannot_be_forked_boots_cold_and_says_why(tmp_path: Path) -> None:
    specs(tmp_path)
    status, records, _ = boot(tmp_path, "own.yml", "--arch", "aarch64", "--kernel", "6.1", "--boot", "fork")
    (record,) = records.values()
    assert (status, record["boot"]) == (0, "cold")
    assert record["cold_reason"] == "the spec has a kernel command line of its own"


def test_a_machine_that_qemu_does_not_restore_is_not_forked() -> None:
    profile = load_profiles([ROOT / "arch"])["ppc64le"]
    config = ImageConfig(labels={FORK: "1"})
    init = [StoredImage(reference="init", digest="0" * 64, layers=(), config=config, size_bytes=1)]
    assert not why_not(profile.machines["pseries"], "", init)
    assert why_not(profile.machines["powernv9"], "", init).startswith("QEMU does not restore")


def key_and_snapshot(record: dict[str, Any]) -> tuple[str, Path]:
    """The key of the snapshot that a record's copies start from, and its file in the user's cache."""
    machine = Machine.model_validate_json(json.dumps(record["machine_profile"]))
    key = key_of(machine, Bootable.model_validate_json(json.dumps(record["bootable"])))
    return key, SnapshotCache(Store(default_cache())).path(key)


@pytest.fixture
def own_cache() -> Iterator[Path]:
    """All that the user's cache has, but for the snapshots, of which it has none."""
    shared = default_cache()
    with tempfile.TemporaryDirectory(dir=shared.parent) as folder:
        for path in shared.iterdir():
            if path.name != "snapshots":
                Path(folder, path.name).symlink_to(path)
        yield Path(folder)


@pytest.mark.boots
def test_a_snapshot_that_qemu_cannot_load_is_no_verdict(
    run: tuple[int, dict[str, Any], Path], tmp_path: Path, own_cache: Path
) -> None:
    key, path = key_and_snapshot(run[1]["one/aarch64/6.1"])
    cache = SnapshotCache(Store(own_cache))
    cache.put(key, replace(read(path), state=b"nonsense"))
    specs(tmp_path)
    forked = ("--kernel", "6.1", "--boot", "fork", "--cache", str(own_cache))
    status, records, _ = boot(tmp_path, "one.yml", "--arch", "aarch64", *forked)
    (again,) = records.values()
    assert (status, again["boot"]) == (0, "cold")
    assert "no copy of the guest" in again["cold_reason"]
    assert not cache.path(key).exists()


@pytest.mark.boots
def test_two_runs_at_once_make_a_damaged_snapshot_anew_and_both_copy_it(
    run: tuple[int, dict[str, Any], Path], tmp_path: Path, own_cache: Path
) -> None:
    key, sound = key_and_snapshot(run[1]["one/aarch64/6.1"])
    cache = SnapshotCache(Store(own_cache))
    cache.path(key).parent.mkdir(exist_ok=True)
    damaged = bytearray(sound.read_bytes())
    damaged[-1000] ^= 1
    cache.path(key).write_bytes(damaged)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        specs(folder)
    words = ("one.yml", "--arch", "aarch64", "--kernel", "6.1", "--boot", "fork", "--cache", str(own_cache))
    with ThreadPoolExecutor() as both:
        ended = list(both.map(lambda folder: boot(folder, *words), folders))
    assert [(status, one["boot"]) for status, records, _ in ended for one in records.values()] == [(0, "fork")] * 2
    kept = cache.get(key)
    assert kept
    kept.close()


def judgement(verdict: Verdict, *results: tuple[str, Verdict]) -> Judgement:
    subresults = tuple(SubResult(name=name, verdict=one) for name, one in results)
    return Judgement(verdict=verdict, reason="why", subresults=subresults)


def test_judgements_that_differ_are_told() -> None:
    good = judgement(Verdict.PASS, ("a", Verdict.PASS), ("b", Verdict.PASS))
    assert differences(good, good) == ""
    assert "cold pass (why), forked fail (why)" in differences(good, judgement(Verdict.FAIL))
    assert "cold b pass" in differences(good, judgement(Verdict.PASS, ("a", Verdict.PASS)))
    swapped = judgement(Verdict.PASS, ("b", Verdict.PASS), ("a", Verdict.PASS))
    assert differences(good, swapped) == "", "checks run at the same time"
    twice = judgement(Verdict.PASS, ("a", Verdict.PASS), ("b", Verdict.PASS), ("b", Verdict.PASS))
    assert "differ in number" in differences(good, twice)


def test_a_check_that_a_failed_guest_did_not_come_to_is_no_difference() -> None:
    def failed(check: Verdict, detail: str, other: Verdict = Verdict.FAIL, *more: SubResult) -> Judgement:
        results = (
            SubResult(name="service server", verdict=other, detail="ended unasked with status 1"),
            SubResult(name="check test", verdict=check, detail=detail),
        )
        return Judgement(verdict=Verdict.FAIL, reason="why", subresults=(*results, *more))

    cut = failed(Verdict.FAIL, NO_RESULT)
    told = SubResult(name="test: 1", verdict=Verdict.PASS)
    assert differences(failed(Verdict.PASS, "", Verdict.FAIL, told), cut) == ""
    assert differences(cut, failed(Verdict.PASS, "")) == ""
    assert "check test" in differences(failed(Verdict.PASS, ""), failed(Verdict.FAIL, "exited with status 1"))
    assert "service server" in differences(failed(Verdict.PASS, "", Verdict.PASS), cut)


def test_a_cold_boot_that_failed_for_the_hosts_sake_says_nothing_about_the_copy() -> None:
    failed = judgement(Verdict.FAIL)
    assert doubt_of(failed, failed) is None
    stopped = doubt_of(judgement(Verdict.INFRA_ERROR), failed)
    assert stopped
    assert (stopped.verdict, stopped.reason) == (
        Verdict.INFRA_ERROR,
        "the cold boot that was to confirm fail (why) failed: why",
    )
    other = doubt_of(judgement(Verdict.PASS), failed)
    assert other
    assert (other.verdict, other.reason[:24]) == (Verdict.INFRA_ERROR, "as a copy this guest dif")


def test_only_the_order_of_parallel_containers_is_free() -> None:
    containers = ["onboot a", "onboot b", "check c", "check d", "service s", "onshutdown z"]
    tests = ["a: 1", "b: 1", "c: 1", "c: 2", "d: 1"]

    def passed(*names: str) -> Judgement:
        return judgement(Verdict.PASS, *((name, Verdict.PASS) for name in (*containers, *names)))

    cold = passed(*tests)
    assert differences(cold, passed("a: 1", "b: 1", "d: 1", "c: 1", "c: 2")) == "", "the checks ended otherwise"
    assert differences(cold, passed("d: 1", "a: 1", "c: 2", "b: 1", "c: 1")) == "", "onboot's are in order"
    assert "cold onboot a, onboot b" in differences(cold, passed("b: 1", "a: 1", "c: 1", "c: 2", "d: 1"))
    first = judgement(Verdict.PASS, ("onboot a", Verdict.PASS), ("onboot b", Verdict.PASS))
    second = judgement(Verdict.PASS, ("onboot b", Verdict.PASS), ("onboot a", Verdict.PASS))
    assert differences(first, second).startswith("their order differs")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"cold_reason": "a <reason>"}, "cold: a <reason>"),
        ({"boot": "fork"}, "copy of a booted guest"),
        ({"boot": "fork", "verified": True}, "copy of a booted guest, confirmed by a cold boot"),
    ],
)
def test_the_report_says_how_a_guest_came_up(changes: dict[str, Any], words: str) -> None:
    assert dict(facts(green_records()[0].model_copy(update=changes)))["Boot"] == words


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, Bootable]:
    """What can be forked on a machine whose QEMU does nothing but say its version."""
    program = folder / "qemu-system-fake"
    program.write_text("#!/bin/sh\necho QEMU emulator version 9.9.9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    parts = Forkable(initrd=artefact("initrd", "/base"), disk=artefact("disk", "/disk"))
    return make_machine(), make_bootable(forkable=parts)


@pytest.mark.long
@pytest.mark.boots
def test_a_guest_whose_cpu_has_no_random_numbers_is_forked(tmp_path: Path) -> None:
    specs(tmp_path)
    words = ("one.yml", "--arch", "x86_64@x86-64-v1", "--kernel", "6.1", "--boot", "fork")
    (good,) = boot(tmp_path, *words)[1].values()
    assert (good["boot"], good["judgement"]["verdict"]) == ("fork", "pass"), good["cold_reason"]


def test_a_snapshot_depends_on_all_that_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, bootable = fake(tmp_path, monkeypatch)
    parts = bootable.forkable
    assert parts
    key = key_of(machine, bootable)
    others = [
        key_of(make_machine(memory_mib=256), bootable),
        key_of(make_machine(cpu="another"), bootable),
        key_of(machine, bootable.model_copy(update={"kernel": artefact("kernel", "/k2")})),
        key_of(machine, bootable.model_copy(update={"network": True})),
        key_of(machine, bootable.model_copy(update={"forkable": Forkable(initrd=parts.disk, disk=parts.disk)})),
    ]
    assert len({key, *others}) == 6
    other_disk = Forkable(initrd=parts.initrd, disk=artefact("disk", "/another"))
    assert key_of(machine, bootable.model_copy(update={"forkable": other_disk})) == key
    program = tmp_path / machine.qemu
    program.write_text(program.read_text() + "# another build\n")
    assert key_of(machine, bootable) != key


@pytest.mark.parametrize(("memory_mib", "kept"), [(0, False), (64, True)])
async def test_idle_snapshots_are_bounded_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_mib: int, kept: bool
) -> None:
    machine, bootable = fake(tmp_path, monkeypatch)
    cache = SnapshotCache(Store(tmp_path / "cache"))
    memory = new_memory(8)
    os.pwrite(memory, b"guest", 0)
    cache.put(key_of(machine, bootable), taken(memory, 8, b"state", b""))
    forks = SnapshotPool(cache, memory_mib, lambda _: None)
    async with forks.origin(machine, bootable, lambda _machine, _memory_mib=None: nullcontext()) as snapshot:
        assert os.pread(snapshot.memory, 5, 0) == b"guest"
    assert (snapshot.memory >= 0) is kept
    async with forks.origin(machine, bootable, lambda _machine, _memory_mib=None: nullcontext()) as again:
        assert (again is snapshot) is kept
        assert os.pread(again.memory, 5, 0) == b"guest"
    forks.close()
    assert again.memory < 0


def test_a_spec_that_replaces_an_init_images_file_has_no_disk(tmp_path: Path) -> None:
    whole = Tree()
    whole.put("tmp", text_file("no folder"))
    _, reason = disk_tree(whole, [], Store(tmp_path), writes=False)
    assert reason == "the spec replaces /tmp of the init images"

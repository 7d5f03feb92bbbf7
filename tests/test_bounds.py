"""Control groups: where they can be made, what they keep a QEMU from, that none is left. Real ones, where there are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.qemu import cgroup, host
from bootmatrix.qemu.cgroup import Bound, CgroupLocation, bounded, candidates, places, side_by_side, sweep
from guests import make_machine

ALL = ("memory", "cpu", "pids")


# --- where


def lay_out(folder: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> Path:
    """A host whose kernel says that this process is in such a group, and has these files of groups."""
    for name, text in {"proc/self/cgroup": own, **{f"cgroup/{name}": text for name, text in files.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(host, "PROC", folder / "proc")
    monkeypatch.setattr(host, "CGROUPS", folder / "cgroup")
    return folder / "cgroup"


def second(folder: str, enabled: str = "", **limits: str) -> dict[str, str]:
    """Files of a group of version 2."""
    files = {"cgroup.controllers": "cpu memory pids\n", "cgroup.subtree_control": enabled, **limits}
    return {f"{folder}/{name.replace('_', '.') if name in limits else name}": text for name, text in files.items()}


def test_of_version_2_where_most_can_be_bounded_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = second("", "cpu memory pids\n") | second("user", "cpu memory pids\n")
    files |= second("user/app", "memory pids\n") | second("user/app/shell")
    root = lay_out(tmp_path, monkeypatch, "0::/user/app/shell\n", files)
    assert [(place.folder, set(place.controllers)) for place in candidates()] == [
        (root / "user", set(ALL)),
        (root, set(ALL)),
        (root / "user/app", {"memory", "pids"}),
    ]


def test_of_version_2_one_place_alone_as_a_process_is_in_one_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = second("user", "cpu\n") | second("user/app", "memory pids\n") | second("user/app/shell")
    files |= {"cpuset/cpuset.cpus": "0", "pids/pids.max": "max"}
    root = lay_out(tmp_path, monkeypatch, "3:pids:/\n0::/user/app/shell\n", files)
    assert [place.folder for place in candidates()] == [root / "user/app", root / "user", root / "pids"]
    assert [place.folder for place in side_by_side(candidates())] == [root / "user/app", root / "pids"]


def test_groups_are_where_the_kernel_says_that_they_are_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 2 beside version 1, and of a container's groups only its own."""
    lay_out(tmp_path, monkeypatch, "4:cpu,cpuacct:/docker/abc/job\n1:name=systemd:/\n0::/job\n", {})
    (tmp_path / "proc/self/mountinfo").write_text(
        "30 25 0:26 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n"
        "31 25 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    cgroup = Path("/sys/fs/cgroup")
    assert list(host.groups("cpu")) == [
        *(cgroup / "cpu,cpuacct/job", cgroup / "cpu,cpuacct"),
        *(cgroup / "unified/job", cgroup / "unified"),
    ]


@pytest.mark.parametrize("limit", [{"memory_max": "1000000\n"}, {"cpu_max": "50000 100000\n"}, {"pids_max": "9\n"}])
def test_guests_stay_within_what_was_set_for_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, str]
) -> None:
    files = second("ci", "cpu memory pids\n") | second("ci/job", **limit)
    lay_out(tmp_path, monkeypatch, "0::/ci/job\n", files)
    assert list(candidates()) == []
    unlimited = {name: "max\n" if name != "cpu_max" else "max 100000\n" for name in limit}
    lay_out(tmp_path, monkeypatch, "0::/ci/job\n", second("ci/job", **unlimited))
    assert [place.controllers for place in candidates()] == [ALL]


def test_of_version_1_our_own_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"memory/memory.limit_in_bytes": "1", "memory/job/memory.limit_in_bytes": "1", "pids/job/pids.max": "max"}
    root = lay_out(tmp_path, monkeypatch, "4:memory:/job\n3:cpu,cpuacct:/job\n2:pids:/job\n0::/\n", files)
    assert list(candidates()) == [
        CgroupLocation(root / "memory/job", 1, ("memory",)),
        CgroupLocation(root / "pids/job", 1, ("pids",)),
    ]


def test_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, monkeypatch, "0::/\n", {"cgroup.controllers": "", "cgroup.subtree_control": ""})
    assert list(candidates()) == []


def test_a_folder_that_is_no_group_does_not_work(tmp_path: Path) -> None:
    assert not cgroup._works(CgroupLocation(tmp_path / "absent", 2, ALL))


# --- what they keep from


@pytest.fixture
def writable() -> tuple[CgroupLocation, ...]:
    """Groups of this host in which groups can be made."""
    found = tuple(places())
    if not found:
        pytest.skip("no cgroup of this host is writable")
    return found


def test_limits_are_those_of_the_machine(writable: tuple[CgroupLocation, ...]) -> None:
    machine = make_machine(cpus=3, memory_mib=512)
    with bounded(machine) as bound, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        bound.hold(child.pid)
        groups = Path(f"/proc/{child.pid}/cgroup").read_text()
        folders = bound._folders
        for place, folder in zip(writable, folders, strict=True):
            assert folder.parent == place.folder
            assert folder.name in groups
            read = {name: (folder / cgroup.FILES[place.version][name]).read_text() for name in place.controllers}
            expected = {"memory": f"{(512 + cgroup.QEMU_MIB) << 20}", "cpu": "400000", "pids": f"{64 + 3}"}
            assert {name: text.split()[0] for name, text in read.items()} == {name: expected[name] for name in read}
    assert not any(folder.exists() for folder in folders)


NICE_HOLDER = """
import pathlib, sys
from bootmatrix.qemu.cgroup import bounded
from guests import make_machine
with bounded(make_machine()) as bound:
    print(*(file.read_text().strip() for folder in bound._folders for file in folder.glob(sys.argv[1])))
"""


def test_a_nice_run_has_nice_guests(writable: tuple[CgroupLocation, ...]) -> None:
    place = next((place for place in writable if "cpu" in place.controllers), None)
    if place is None:
        pytest.skip("no cgroup of this host limits cores")
    name = {1: "cpu.shares", 2: "cpu.weight.nice"}[place.version]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for steps in (0, 5):
        nice = os.getpriority(os.PRIO_PROCESS, 0) + steps
        command = ["nice", "-n", f"{steps}", sys.executable, "-c", NICE_HOLDER, name]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert int(told) == (nice if place.version == 2 else round(1024 / 1.25**nice))


def test_a_group_that_told_of_no_such_end_has_no_fault(tmp_path: Path) -> None:
    for name, text in (("a", "oom 0\noom_kill 0\n"), ("b", "low 0\noom_kill 2\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "memory.events").write_text(text)
    assert Bound(5, (tmp_path / "a",)).fault() == ""
    assert "5 MiB" in Bound(5, (tmp_path / "a", tmp_path / "b")).fault()
    assert Bound(5, ()).fault() == ""


def test_swap_is_bounded_with_the_memory(tmp_path: Path) -> None:
    for version, text in ((1, "5"), (2, "0")):
        file = tmp_path / cgroup.SWAP[version]
        cgroup._bound_swap(file, 5 if version == 1 else 0)
        assert not file.exists()
        file.write_text("max")
        cgroup._bound_swap(file, 5 if version == 1 else 0)
        assert file.read_text() == text


# --- none is left

FORKS = "setsid sh -c 'trap \"\" TERM HUP; echo $$; exec sleep 300' & cat >/dev/null"


def test_what_a_process_started_is_ended_with_its_group(writable: tuple[CgroupLocation, ...]) -> None:
    """A QEMU that was broken into may have started something that neither session nor parent lead to."""
    for place in writable:
        check_that_all_are_ended(place)


def check_that_all_are_ended(place: CgroupLocation) -> None:
    with cgroup._group(place, {}) as folder:
        command = ["sh", "-c", f"read go; {FORKS}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin
            assert child.stdout
            (folder / cgroup.MEMBERS).write_text(f"{child.pid}")
            print("go", file=child.stdin, flush=True)
            escaped = int(child.stdout.readline())
            child.kill()
        assert Path(f"/proc/{escaped}").exists()
    assert not folder.exists()
    state = Path(f"/proc/{escaped}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


HOLDER = """
import sys
from pathlib import Path
from bootmatrix.qemu.cgroup import CgroupLocation, _group
with _group(CgroupLocation(Path(sys.argv[1]), 2, ()), {}) as folder:
    print(folder, flush=True)
    input()
"""


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    """A plain folder has locks too."""
    check_that_leftovers_are_removed(tmp_path)


def test_groups_that_a_killed_process_left_are_removed(writable: tuple[CgroupLocation, ...]) -> None:
    for place in writable:
        check_that_leftovers_are_removed(place.folder)


def check_that_leftovers_are_removed(folder: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        held = Path(os.fsdecode(child.stdout.readline().strip()))
        sweep(folder)
        assert held.parent == folder
        assert held.exists()
        os.kill(child.pid, signal.SIGKILL)
    assert held.exists()
    sweep(folder)
    assert not held.exists()

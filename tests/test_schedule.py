"""Which cells begin first, how many at once, and what the host has for them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from bootmatrix import operating_system
from bootmatrix.execute.budget import QEMU_OVERHEAD_MIB, Budget
from bootmatrix.execute.executor import longest_first
from bootmatrix.model import Cell
from bootmatrix.qemu import host
from bootmatrix.qemu.host import available_cores, available_memory_mib, children_cpu_s, idle_cpu_s
from guests import LINUX, make_machine

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def cell(arch: str, spec: str = "hello") -> Cell:
    return Cell(spec=spec, spec_name=spec, arch=arch, machine="board", machine_is_default=True, kernel="6.1")


FACTORS = {"quick": 1.0, "slow": 4.0}


def order(cells: list[Cell], usual_s: dict[str, float]) -> list[str]:
    return [one.id for one in longest_first(cells, lambda one: FACTORS[one.arch], usual_s)]


def test_slow_machines_begin_first_where_nothing_is_known() -> None:
    assert order([cell("quick"), cell("slow")], {}) == ["hello/slow/6.1", "hello/quick/6.1"]


def test_what_took_longest_before_begins_first() -> None:
    cells = [cell("slow"), cell("quick"), cell("quick", "big")]
    usual_s = {"hello/slow/6.1": 8.0, "hello/quick/6.1": 2.0, "big/quick/6.1": 60.0}
    assert order(cells, usual_s) == ["big/quick/6.1", "hello/slow/6.1", "hello/quick/6.1"]


def test_a_new_cell_is_taken_to_be_as_slow_as_its_machine() -> None:
    cells = [cell("quick"), cell("quick", "new"), cell("slow", "new")]
    assert order(cells, {"hello/quick/6.1": 10.0}) == ["new/slow/6.1", "hello/quick/6.1", "new/quick/6.1"]


async def running(budget: Budget, count: int, guests: float, idle: float, memory_mib: int = 128) -> int:
    """How many of so many guests run at once, when those that run use so many cores and the host has so many idle."""
    begun = 0

    async def guest() -> None:
        nonlocal begun
        async with budget.hold(make_machine(memory_mib=memory_mib)):
            begun += 1
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(guest)
        for _ in range(5):
            await anyio.wait_all_tasks_blocked()
            budget.lend(guests, idle)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    return begun


async def test_a_core_that_guests_leave_idle_is_lent() -> None:
    assert await running(Budget(2, 10_000), 5, guests=0.6, idle=1.4) == 4


async def test_no_more_guests_than_cores_where_all_are_busy() -> None:
    assert await running(Budget(2, 10_000), 5, guests=1.9, idle=2.0) == 2


async def test_no_more_guests_than_cores_where_others_keep_the_host_busy() -> None:
    assert await running(Budget(2, 10_000), 5, guests=0.6, idle=0.2) == 2


async def test_memory_is_never_lent() -> None:
    assert await running(Budget(4, 1000), 5, guests=0.1, idle=3.9, memory_mib=240) == 2


async def test_a_guest_that_is_known_to_take_little_is_counted_so() -> None:
    budget, machine = Budget(4, 1000), make_machine(memory_mib=512)
    async with budget.hold(machine, 100), budget.hold(machine, 100):
        assert budget.memory_mib == 800
    async with budget.hold(machine, 5000):
        assert budget.memory_mib == 1000 - 512 - QEMU_OVERHEAD_MIB


async def test_what_was_held_is_free_again() -> None:
    budget = Budget(2, 10_000)
    await running(budget, 5, guests=0.1, idle=1.9)
    assert (budget.cores, budget.memory_mib) == (2, 10_000)


def group(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, files: dict[str, str]) -> None:
    """A host of 8 GiB whose kernel says that this process is in such a control group."""
    for name, text in {"proc/self/cgroup": line, "proc/meminfo": "MemAvailable: 8388608 kB\n", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(host, "PROC", folder / "proc")
    monkeypatch.setattr(operating_system, "MEMINFO", folder / "proc/meminfo")
    monkeypatch.setattr(host, "CGROUPS", folder / "cgroup")


def test_limits_of_a_group_and_of_those_around_it_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mib = 1 << 20
    files = {
        "cgroup/ci/cpu.max": "100000 100000\n",
        "cgroup/ci/job/cpu.max": "max 100000\n",
        "cgroup/ci/memory.max": f"{1000 * mib}\n",
        "cgroup/ci/memory.current": f"{600 * mib}\n",
        "cgroup/ci/memory.stat": f"anon 5\ninactive_file {200 * mib}\n",
        "cgroup/ci/job/memory.max": "max\n",
        "cgroup/ci/job/memory.current": "5\n",
    }
    group(tmp_path, monkeypatch, "0::/ci/job\n", files)
    assert available_cores() == 1
    assert available_memory_mib() == 600


def test_limits_of_the_first_version_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mib = 1 << 20
    files = {
        "cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
        "cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        "cgroup/memory/job/memory.limit_in_bytes": f"{300 * mib}\n",
        "cgroup/memory/job/memory.usage_in_bytes": f"{100 * mib}\n",
        "cgroup/memory/job/memory.stat": f"total_inactive_file {50 * mib}\n",
    }
    group(tmp_path, monkeypatch, "4:memory:/job\n3:cpu,cpuacct:/job\n", files)
    assert available_cores() == 1
    assert available_memory_mib() == 250


@LINUX
def test_without_limits_the_host_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group(tmp_path, monkeypatch, "0::/\n", {})
    assert available_memory_mib() == 8192


def test_what_children_use_is_seen() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        limit = time.monotonic() + 20
        while children_cpu_s() < 0.05 and time.monotonic() < limit:
            time.sleep(0.02)
        assert children_cpu_s() >= 0.05
    finally:
        busy.kill()
        busy.wait()


@LINUX
def test_an_idle_host_is_seen() -> None:
    before = idle_cpu_s()
    assert before > 0
    assert idle_cpu_s() >= before

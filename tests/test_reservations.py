"""Guests of several runs on one host stay within its cores and memory together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from bootmatrix.execute.budget import OTHERS_S, QEMU_OVERHEAD_MIB, Budget, Others
from bootmatrix.execute.reservations import FOLDER, PATIENCE_S, TICKET, Reservations, Room
from bootmatrix.model import Machine
from bootmatrix.progress import NullObserver
from guests import make_machine

pytestmark = pytest.mark.anyio

TOTAL = Room(2, 2000)

HOLDER = """
import sys, time
from pathlib import Path
from bootmatrix.execute.reservations import Reservations, Room
kept = Reservations(Path(sys.argv[1])).take(Room(2, 500), Room(2, 2000))
print(kept is not None, flush=True)
time.sleep(600)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Notes(NullObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


async def guest(budget: Budget, machine: Machine, began: anyio.Event) -> None:
    """Begin when there is room."""
    async with budget.hold(machine):
        began.set()


def test_reservations_of_all_add_up(tmp_path: Path) -> None:
    one, other = Reservations(tmp_path), Reservations(tmp_path)
    first = one.take(Room(1, 1500), TOTAL)
    assert first
    assert other.take(Room(1, 600), TOTAL) is None
    second = other.take(Room(1, 500), TOTAL)
    assert second
    assert one.held() == Room(2, 2000)
    first.release()
    assert other.held() == Room(1, 500)
    second.release()
    assert not list(tmp_path.iterdir())


def test_runs_that_wait_have_their_turns(tmp_path: Path) -> None:
    """Also if the other run asks again in the moment in which it has released."""
    busy, waiting, third = (Reservations(tmp_path) for _ in range(3))
    first, second = busy.take(Room(1, 10), TOTAL), busy.take(Room(1, 10), TOTAL)
    assert first
    assert second
    assert waiting.take(Room(1, 10), TOTAL) is None
    assert third.take(Room(1, 10), TOTAL) is None
    first.release()
    assert busy.take(Room(1, 10), TOTAL) is None
    assert third.take(Room(1, 10), TOTAL) is None
    assert waiting.take(Room(1, 10), TOTAL)
    second.release()
    assert busy.take(Room(1, 10), TOTAL) is None
    assert third.take(Room(1, 10), TOTAL)


def test_a_run_that_no_longer_asks_loses_its_turn(tmp_path: Path) -> None:
    busy, suspended, other = (Reservations(tmp_path) for _ in range(3))
    first = busy.take(Room(2, 10), TOTAL)
    assert first
    assert suspended.take(Room(1, 10), TOTAL) is None
    first.release()
    assert other.take(Room(1, 10), TOTAL) is None
    (ticket,) = sorted(tmp_path.glob(f"{TICKET}*"))[:1]
    long_ago_s = ticket.stat().st_mtime - 2 * PATIENCE_S
    os.utime(ticket, (long_ago_s, long_ago_s))
    assert other.take(Room(1, 10), TOTAL)
    suspended.leave()
    assert not list(tmp_path.glob(f"{TICKET}*"))


def test_a_turn_may_be_given_up_while_another_run_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = Reservations(tmp_path), Reservations(tmp_path)
    held = other.take(Room(2, 10), TOTAL)
    assert first.take(Room(1, 10), TOTAL) is None
    assert held
    held.release()
    looks = iter([lambda: None, first.leave])
    scan = os.scandir

    def scandir(folder: Path) -> list[os.DirEntry[str]]:
        entries = list(scan(folder))
        next(looks)()
        return entries

    monkeypatch.setattr(os, "scandir", scandir)
    assert other.take(Room(1, 10), TOTAL)


async def test_a_waiting_guest_that_is_given_up_leaves_no_ticket(tmp_path: Path) -> None:
    assert Reservations(tmp_path).take(Room(2, 10), TOTAL)
    budget = Budget(2, 2000, Others(Reservations(tmp_path), TOTAL))
    with anyio.move_on_after(0.1):
        await guest(budget, make_machine(), anyio.Event())
    assert not list(tmp_path.glob(f"{TICKET}*"))


def test_a_guest_larger_than_the_host_runs_alone(tmp_path: Path) -> None:
    reservations = Reservations(tmp_path)
    large = reservations.take(Room(8, 90_000), TOTAL)
    assert large
    assert reservations.take(Room(1, 100), TOTAL) is None


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        waiting = Reservations(tmp_path)
        assert waiting.take(Room(1, 100), TOTAL) is None
        process.kill()
    assert waiting.take(Room(1, 100), TOTAL)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", [b"", b"many", b"1", b"-1 5", b"1 2 3"])
def test_a_damaged_reservation_counts_nothing(tmp_path: Path, text: bytes) -> None:
    reservations = Reservations(tmp_path)
    kept = reservations.take(Room(1, 1), TOTAL)
    assert kept
    kept.path.write_bytes(text)
    assert reservations.held() == Room()


async def test_a_run_waits_for_another_and_says_so(tmp_path: Path) -> None:
    notes, machine = Notes(), make_machine(memory_mib=1000)
    reservations = Reservations.of_cache(tmp_path)
    budget = Budget(2, 2000, Others(reservations, TOTAL, notes))
    kept = reservations.take(Room(1, 1000), TOTAL)
    assert kept
    async with anyio.create_task_group() as tasks:
        began = anyio.Event()
        tasks.start_soon(guest, budget, machine, began)
        await anyio.sleep(3 * OTHERS_S)
        assert not began.is_set()
        assert len(notes.lines) == 1
        kept.release()
        with anyio.fail_after(30):
            await began.wait()
    assert budget.cores == 2
    assert not list((tmp_path / FOLDER).iterdir())


async def test_a_core_that_other_runs_leave_idle_is_lent(tmp_path: Path) -> None:
    reservations, machine = Reservations(tmp_path), make_machine(memory_mib=200)
    budget = Budget(2, 2000, Others(reservations, TOTAL))
    assert reservations.take(Room(2, 100), TOTAL)
    async with anyio.create_task_group() as tasks:
        began = anyio.Event()
        tasks.start_soon(guest, budget, machine, began)
        await anyio.sleep(2 * OTHERS_S)
        assert not began.is_set()
        budget.lend(0.0, 0.5)
        await anyio.sleep(2 * OTHERS_S)
        assert not began.is_set()
        budget.lend(0.0, 1.5)
        with anyio.fail_after(30):
            await began.wait()


async def test_one_run_is_limited_by_its_own_budget_as_before(tmp_path: Path) -> None:
    budget = Budget(1, 2000, Others(Reservations(tmp_path), TOTAL))
    async with budget.hold(make_machine(memory_mib=200)):
        assert (budget.cores, budget.memory_mib) == (0, 2000 - 200 - QEMU_OVERHEAD_MIB)
    assert (budget.cores, budget.memory_mib) == (1, 2000)

"""Phases and their limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootmatrix.boot.cpu_contention import MAX_POINTS, StarvationMeter, waits_s
from bootmatrix.boot.deadlines import PANIC_GRACE_S, PhaseClock, phase_limits
from bootmatrix.model import Bootable, Phase, Timeouts
from fake_qemu import TEXTS
from guests import make_bootable, make_machine, make_messages

LIMITS = Timeouts(boot=10, onboot=20, services=30, shutdown=40, silence=100)


def clock(
    bootable: Bootable | None = None, factor: float = 1, limits: Timeouts = LIMITS
) -> tuple[PhaseClock, list[Phase]]:
    phases: list[Phase] = []
    return PhaseClock(make_machine(time_factor=factor), bootable or make_bootable(), limits, phases.append), phases


def test_phases_follow_the_messages() -> None:
    watch, phases = clock()
    steps = []
    for message in make_messages():
        watch.message(message)
        steps.append(watch.phase)
    assert phases == ["boot", "onboot", "services", "checks", "shutdown"]
    assert steps[0] == "onboot"
    assert steps[TEXTS.index("service server start")] == "services"
    assert steps[TEXTS.index("services up")] == "checks"
    assert steps[TEXTS.index("check write exit 0")] == "checks"
    assert steps[TEXTS.index("check ping exit 0")] == "shutdown"


def test_phases_that_a_spec_does_not_have_are_left_out() -> None:
    watch, phases = clock(make_bootable(onboot=(), checks={}))
    for message in make_messages(("ready 6.1", "services up", "shutdown")):
        watch.message(message)
    assert phases == ["boot", "services", "shutdown"]


def test_a_failed_onboot_container_leads_to_the_shutdown() -> None:
    watch, phases = clock()
    for message in make_messages(("ready 6.1", "onboot prepare start", "onboot prepare exit 1", "shutdown")):
        watch.message(message)
    assert phases == ["boot", "onboot", "shutdown"]


@pytest.mark.parametrize("factor", [1.0, 2.5])
@pytest.mark.parametrize("count", range(len(TEXTS)))
def test_each_phase_has_its_limit_from_its_own_beginning(count: int, factor: float) -> None:
    watch, _ = clock(factor=factor)
    began, phase = 0.0, "boot"
    for message in make_messages()[:count]:
        watch.message(message)
        watch.heard(message.at_s)
        if watch.phase != phase:
            began, phase = message.at_s, watch.phase
    limit = phase_limits(make_machine(time_factor=factor), make_bootable(), LIMITS)[watch.phase]
    assert watch.expired(began + limit - 0.01) is None
    expired = watch.expired(began + limit + 0.01)
    assert expired is not None
    assert (expired.limit, expired.phase) == (phase, phase)


def test_checks_may_take_the_sum_of_their_times_and_the_guest_ends_them_first() -> None:
    bootable = make_bootable(checks={"a": 60.0, "b": 30.0})
    assert phase_limits(make_machine(time_factor=1.5), bootable, LIMITS)["checks"] > (60 + 30) * 2


def test_silence_is_measured_from_the_last_byte() -> None:
    watch, _ = clock(limits=Timeouts(boot=1000, silence=10), factor=2)
    watch.heard(50)
    assert watch.expired(59.9) is None
    expired = watch.expired(60.1)
    assert expired is not None
    assert (expired.limit, expired.phase) == ("silence", "boot")


def test_services_may_be_silent_for_longer_than_a_kernel_that_boots() -> None:
    watch, _ = clock(limits=Timeouts(onboot=1000, silence=10), factor=2)
    watch.message(make_messages()[0])
    watch.heard(50)
    assert watch.phase == "onboot"
    assert watch.expired(69.9) is None
    assert watch.expired(70.1) is not None


def test_time_without_a_core_of_the_host_does_not_count() -> None:
    watch, _ = clock(limits=Timeouts(boot=1000, silence=10))
    watch.heard(10)
    watch.starved(20)
    assert watch.expired(34.9) is None
    assert watch.expired(35.1) is not None
    watch.starved(1_000_000)
    assert watch.expired(1000) is not None, "a busy host does not keep a boot for ever"


def test_what_a_process_waited_for_a_core_is_read_from_its_threads(tmp_path: Path) -> None:
    for thread, text in (("1", "5 2000000000 9\n"), ("2", "5 3500000000 9\n"), ("3", "nonsense"), ("4", "")):
        (tmp_path / "7" / "task" / thread).mkdir(parents=True)
        (tmp_path / "7" / "task" / thread / "schedstat").write_text(text)
    assert waits_s(7, tmp_path) == {"1": 2.0, "2": 3.5}
    assert waits_s(8, tmp_path) == {}
    assert waits_s(os.getpid())


def test_each_wait_of_a_thread_counts_and_not_only_that_of_the_one_that_waited_longest_so_far() -> None:
    meter = StarvationMeter()
    meter.sample({"1": 30.0, "2": 0.0}, 40.0)
    meter.sample({"1": 30.0, "2": 15.0}, 60.0)
    meter.sample({}, 61.0)
    meter.sample({"2": 15.5, "3": 0.0}, 62.0)
    assert meter.total_s == 45.5
    assert meter.points == [(40.0, 30.0), (60.0, 45.0)]


def test_a_long_boot_on_a_busy_host_has_a_bounded_number_of_points() -> None:
    meter = StarvationMeter()
    for second in range(10 * MAX_POINTS):
        meter.sample({"1": float(second)}, second)
    assert MAX_POINTS / 3 < len(meter.points) <= MAX_POINTS
    assert meter.points[-1][0] > 9 * MAX_POINTS


def test_a_check_may_be_silent_for_as_long_as_it_may_last() -> None:
    watch, _ = clock(make_bootable(checks={"slow": 300.0}), limits=Timeouts(silence=10))
    for message in make_messages()[:8]:
        watch.message(message)
    watch.heard(8)
    assert watch.phase == "checks"
    assert watch.expired(8 + 299) is None
    assert watch.expired(8 + 301) is not None


def test_a_kernel_that_panicked_has_a_moment_to_leave() -> None:
    watch, _ = clock()
    watch.panicked(1)
    watch.panicked(2)
    assert watch.expired(1 + PANIC_GRACE_S - 0.1) is None
    expired = watch.expired(1 + PANIC_GRACE_S)
    assert expired is not None
    assert expired.limit == "panic"

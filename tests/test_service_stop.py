"""Services that ignore SIGTERM: killed after 2 s, or after the time that their annotation says, and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.boot.deadlines import phase_limits, silence_limits
from bootmatrix.model import GuestMessage, Record, Timeouts
from bootmatrix.report.notes import lost_time, lost_time_of_run
from command_line import booted
from samples import make_bootable, make_cell, make_machine, make_outcome, make_record

SPEC = """
init: ["bootmatrix/init", "bootmatrix/crun"]
services:
  - name: stubborn
    image: "bootmatrix/busybox"
    command: [/bin/sh, -c, "trap '' TERM; while :; do sleep 1; done"]
  - name: slow
    image: "bootmatrix/busybox"
    command: [/bin/sh, -c, "trap 'sleep 4; echo saved; exit 0' TERM; while :; do sleep 0.1; done"]
    annotations: {bootmatrix.stop: 30s}
  - name: check
    image: "bootmatrix/busybox"
    command: [/bin/sh, -c, "sleep 1"]
    annotations: {bootmatrix.check: 20s}
"""


@pytest.mark.boots
def test_a_service_that_ignores_sigterm_is_killed_soon_and_named(tmp_path: Path) -> None:
    spec = tmp_path / "stops.yml"
    spec.write_text(SPEC, encoding="utf-8")
    arguments = ("matrix", str(spec), "--arch", "aarch64", "--kernel", "6.1")
    record, printed = booted(*arguments, reports=tmp_path / "reports", limit_s=200)
    killed = [one["words"] for one in record["outcome"]["messages"] if one["words"][1:2] == ["killed"]]
    assert [words[0] for words in killed] == ["stubborn"]
    assert 1900 <= int(killed[0][2]) <= 15000
    assert "note: service stubborn ignores SIGTERM: " in printed
    assert "slow" not in printed.partition("note: ")[2].partition("\n")[0]
    (path,) = (tmp_path / "reports/latest").glob("cells/*/*/*/*/console.log")
    console = path.read_text(encoding="utf-8", errors="replace")
    assert "saved" in console
    html = (tmp_path / "reports/latest/report.html").read_text(encoding="utf-8")
    assert "service stubborn ignores SIGTERM: " in html


def record_with(*messages: tuple[str, ...], arch: str = "x86_64", wall_s: float = 29) -> Record:
    heard = tuple(GuestMessage(kind="service", words=words, at_s=8.0) for words in messages)
    outcome = make_outcome(wall_s).model_copy(update={"messages": heard})
    return make_record(make_cell(arch)).model_copy(update={"outcome": outcome})


def test_lost_time_is_told_of_each_cell_and_once_for_a_run() -> None:
    slow = record_with(("srv", "start"), ("srv", "killed", "21003"))
    quick = record_with(("srv", "killed", "2003"), arch="aarch64", wall_s=9)
    assert list(lost_time(slow)) == ["service srv ignores SIGTERM: 21 of 29 s"]
    (line,) = lost_time_of_run([quick, slow, record_with(("srv", "start"))])
    assert line.startswith("service srv ignores SIGTERM: 21 of 29 s in influxdb/x86_64/6.1 and 1 more; ")


@pytest.mark.parametrize("words", ["srv killed", "srv killed -1", "srv killed 1e9", "killed x 1", "srv exit 137"])
def test_other_messages_are_no_lost_time(words: str) -> None:
    assert list(lost_time(record_with(tuple(words.split())))) == []


def test_the_shutdown_may_take_as_long_as_a_service_may() -> None:
    machine, limits = make_machine(), Timeouts()
    plain = make_bootable(make_cell("x86_64"))
    patient = plain.model_copy(update={"stops": {"influxdb": 90.0, "other": 5.0}})
    for of in (phase_limits, silence_limits):
        before, after = of(machine, plain, limits), of(machine, patient, limits)
        assert after.pop("shutdown") == before.pop("shutdown") + 90
        assert after == before

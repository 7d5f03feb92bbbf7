"""Costs of runs on machines by the hour."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from benchmarks.nightlies import Night, Pool, replay, survey_nights

from bootmatrix.cli.arguments import PORT, amount
from bootmatrix.cloud.cost import Prices, cost_of
from bootmatrix.execute.dask.hosts.machines import IDLE_S
from bootmatrix.model import MachineUse
from bootmatrix.report.view import view_run
from bootmatrix.runs.run_store import RunWriter
from command_line import Tool, refused
from samples import green_records

pytest_plugins = ("command_line",)


def test_a_run_of_an_hour_on_one_machine() -> None:
    cost = cost_of([1800, 1800], 1, 1, Prices(0.72, 194.72, start_s=0), runs=30)
    assert (cost.wall_s, cost.paid_s, cost.run, cost.cell) == (3600, 3600, 0.72, 0.36)
    assert cost.month == pytest.approx(21.6)
    assert cost.break_even == pytest.approx(194.72 / 0.72)


def test_cells_side_by_side_and_the_start_of_each_machine() -> None:
    cost = cost_of([100, 60, 40, 10], 2, 1, Prices(36, start_s=20), runs=1)
    assert (cost.wall_s, cost.paid_s, cost.run) == (130, 250, 2.5)
    assert cost.break_even is None


def test_least_time_and_machines_without_a_cell() -> None:
    assert cost_of([1], 3, 2, Prices(3600, start_s=0), 1).run == 60
    assert cost_of([], 3, 2, Prices(1, 100), 1).run == 0


def test_a_night_by_the_rules_of_the_pool() -> None:
    """Two machines of one core: the first two cells begin at 61 s, the other two follow on the one that is free."""
    night = Night(Pool(machines=2, cores=1, cells=2, start_s=60), [100.0, 60.0, 35.0, 10.0]).run()
    assert (night.now_s, [(each.begun_s, each.ended_s) for each in night.machines]) == (166, [(0, 166), (0, 166)])
    late = Night(Pool(machines=2, cores=2, cells=2, start_s=60), [100.0, 10.0, 10.0, 10.0]).run()
    assert [each.ended_s for each in late.machines] == [161, 71 + IDLE_S], "one machine is enough for the last cell"
    assert late.paid_s == 161 + 91


def test_a_year_of_nights() -> None:
    """Recorded cells on machines that start for them, beside one that is always on; the estimate is near."""
    year = replay(survey_nights(365), Pool())
    assert year.cells > 10_000
    assert all(night.demand == 0 and not night.waiting for night in year.nights)
    assert year.cost < 12 * 194.72 / 10
    assert year.break_even > 30
    assert 0.9 < year.estimated_s / year.paid_s < 1.1


def test_the_command(tool: Tool) -> None:
    done = tool("cost", "hello", "--hour", "0.72", "--month", "194.72", "--cell", "3540")
    assert done.returncode == 0, done.stderr
    assert "estimated at 3540 s a cell" in done.stdout
    assert "cheaper from" in done.stdout
    refused(tool("cost", "hello", "--hour", "0"), "must be positive")
    refused(tool("cost", "--hour", "1"), "or a run that has ended")


@pytest.mark.parametrize(
    "text", ["nan", "-1", "inf", "much", "1_000", "1e400", "0x10", " 1", "+1", "٣", "", "9" * 5000]
)
def test_an_amount_is_finite_and_not_negative(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a number of at least 0"):
        amount(text)
    assert amount("0.72") == 0.72


@pytest.mark.parametrize(
    "text", ["nan", "-1", "-0", "0", "1_0", "0x1", " 1", "+1", "٣", "²", "1.0", "", "9" * 5000, "70000"]
)
def test_a_number_is_in_digits_and_within_its_limits(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a number from 1 to 65535"):
        PORT(text)
    assert PORT("65535") == 65535


@pytest.mark.parametrize("words", [("--shard", ""), ("--baseline=",), ("--cache", "")])
def test_an_option_whose_variable_is_not_set_is_refused(tool: Tool, words: tuple[str, ...]) -> None:
    refused(tool("matrix", "hello", "--arch", "x86_64", *words), f"{words[0].removesuffix('=')}: the value is empty")


def test_the_report_tells_the_cost_of_machines_that_were_started(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "nightly")
    for record in green_records():
        writer.adopt(record, writer.folder(record.cell))
    writer.add_use(MachineUse(machines=2, paid_s=1800, hour=0.72, month=194.72))
    run = writer.finish()
    facts = dict(view_run(run, lambda _: b"").facts)
    assert facts["Machines"] == "2 started, 1800 s paid"
    assert facts["Cost"] == f"0.3600, {0.36 / len(run.records):.5f} a cell"
    assert facts["Always on"] == "194.72 a month: cheaper from 541 such runs a month on"
    assert "Cost" not in dict(view_run(run.model_copy(update={"machines": ()}), lambda _: b"").facts)

"""Parts of a plan: shards, patterns, budgets, repeated failures."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix import __version__
from bootmatrix.boot.acceleration import accelerated
from bootmatrix.errors import InputError
from bootmatrix.history.extract import inputs_of
from bootmatrix.history.values import Input, PastVerdict, Standing
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Plan, Record, Skip, Verdict
from bootmatrix.model.guest_size import GuestSize
from bootmatrix.subset.budget import CellPast, CellWorth, Worth, expected_s, present_inputs, within, worth_of
from bootmatrix.subset.shard import Shard, only, parse_shard, shard_of, split
from command_line import Tool, refused, tool
from samples import make_cell, make_record, write_dated

__all__ = ["tool"]

CELLS = [make_cell(arch, kernel) for arch in ("x86_64", "aarch64", "armv7", "ppc64le") for kernel in ("6.1", "7.2")]
PLAN = Plan(cells=tuple(CELLS), skips=tuple(Skip(cell=make_cell("s390x", f"6.{n}"), reason="no") for n in range(3)))
SECONDS = {cell.id: 10.0 for cell in CELLS}
INPUTS = (Input("spec", "influxdb", "a" * 64), Input("bootmatrix", "", version="1"))


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0.1, 1000), max_size=40), st.integers(1, 12))
def test_shards_are_disjoint_whole_and_fair(seconds: dict[str, float], count: int) -> None:
    shards = split(seconds, count)
    assert sorted(name for shard in shards for name in shard) == sorted(seconds)
    loads = [sum(seconds[name] for name in shard) for shard in shards]
    assert max(loads) - min(loads) <= max(seconds.values(), default=0) + 1e-6
    assert split(dict(reversed(seconds.items())), count) == shards


def test_shards_of_a_plan_are_the_plan() -> None:
    parts = [shard_of(PLAN, Shard(number, 4), SECONDS) for number in range(1, 5)]
    assert sorted(cell.id for part in parts for cell in part.cells) == sorted(cell.id for cell in PLAN.cells)
    assert sorted(skip.cell.id for part in parts for skip in part.skips) == sorted(skip.cell.id for skip in PLAN.skips)
    assert [len(part.cells) for part in parts] == [2, 2, 2, 2]


def test_a_slow_cell_has_a_shard_of_its_own() -> None:
    seconds = {**SECONDS, CELLS[3].id: 70.0}
    assert [cell.id for cell in shard_of(PLAN, Shard(1, 2), seconds).cells] == [CELLS[3].id]


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "1/9999", "-1/4"])
def test_what_is_not_a_shard(text: str) -> None:
    with pytest.raises(InputError, match="--shard"):
        parse_shard(text)


def test_patterns_select_cells_and_skips() -> None:
    part = only(PLAN, ["influxdb/*/6.1", "*/s390x/6.2"])
    assert {cell.kernel for cell in part.cells} == {"6.1"}
    assert [skip.cell.kernel for skip in part.skips] == ["6.1", "6.2"]
    with pytest.raises(InputError, match="matches no cell") as caught:
        only(PLAN, ["influxdb/aarch46/6.1"])
    assert "influxdb/aarch64/6.1" in caught.value.hint


def past(*standings: Standing, flaky: bool = False) -> CellPast:
    verdicts = {Standing.GOOD: "pass", Standing.FAULT: "infra-error"}
    entries = [
        PastVerdict(f"run{n}", f"2026-11-{n + 1:02}T00:00:00+00:00", verdicts.get(one, "fail"), one, 5, flaky, "1", "h")
        for n, one in enumerate(standings)
    ]
    return CellPast(entries, INPUTS)


GOOD, BAD = Standing.GOOD, Standing.BAD


@pytest.mark.parametrize(
    ("known", "inputs", "worth"),
    [
        (CellPast(), INPUTS, Worth.NEW),
        (past(Standing.SKIP), INPUTS, Worth.NEW),
        (past(GOOD, GOOD, BAD, GOOD), INPUTS, Worth.FAILED_LATELY),
        (past(GOOD, Standing.FAULT), INPUTS, Worth.FAILED_LATELY),
        (past(BAD, GOOD, GOOD, GOOD), INPUTS, Worth.FLAKY),
        (past(GOOD, GOOD), (Input("spec", "influxdb", "b" * 64), INPUTS[1]), Worth.CHANGED_INPUTS),
        (past(GOOD, GOOD), INPUTS, Worth.USUAL),
        (past(Standing.FORESEEN), INPUTS, Worth.USUAL),
    ],
)
def test_the_worth_of_a_cell(known: CellPast, inputs: tuple[Input, ...], worth: Worth) -> None:
    assert worth_of(CELLS[0], known, inputs).worth is worth


PROFILES = load_profiles([CHECKOUT / "arch"])


@pytest.mark.parametrize("way", ["emulated", "accelerated", "another", "larger", "grown"])
def test_a_machine_that_ran_in_any_way_is_unchanged(way: str) -> None:
    """A record has the machine with one accelerator, of those that its profile names."""
    cell = CELLS[0].model_copy(update={"arch": "x86_64", "machine": "q35", "size": GuestSize(grows=way == "grown")})
    machine = PROFILES["x86_64"].machine("q35")
    ran = accelerated(machine, machine.native()[0]) if way == "accelerated" else machine.emulated()
    if way != "emulated":
        ran = ran.model_copy(update={"another": {"cpu": "486"}, "accelerated": {}}.get(way, {"memory_mib": 4096}))
    record = make_record(cell).model_copy(update={"machine_profile": ran, "spec_sha256": "a" * 64})
    known = CellPast(past(GOOD, GOOD).past, list(inputs_of(record, __version__)))
    now = present_inputs(cell, PROFILES, {cell.spec: "a" * 64}, known.inputs)
    changed = way in {"another", "larger"}
    assert worth_of(cell, known, now).worth is (Worth.CHANGED_INPUTS if changed else Worth.USUAL)


def test_a_budget_takes_what_is_worth_most_and_says_why_the_rest_is_left() -> None:
    worths = {cell.id: CellWorth(Worth.USUAL, f"2026-11-{20 - n:02}T10:00:00+00:00") for n, cell in enumerate(CELLS)}
    worths[CELLS[1].id] = CellWorth(Worth.NEW, "")
    part = within(PLAN, 35, worths, SECONDS, "35s")
    assert [cell.id for cell in part.cells] == [CELLS[1].id, CELLS[6].id, CELLS[7].id]
    reasons = {skip.cell.id: skip.reason for skip in part.skips}
    assert reasons[CELLS[0].id] == "beyond the budget of 35s (passed, last run 20 Nov 2026, 10:00)"
    assert len(within(PLAN, 0.1, worths, SECONDS, "100ms").cells) == 1


def test_new_cells_are_as_slow_as_their_machines() -> None:
    cells = [make_cell("x86_64"), make_cell("armv7")]
    factors = {"x86_64": 1.0, "armv7": 3.0}
    found = expected_s(cells, lambda cell: factors[cell.arch], {cells[0].id: 5.0})
    assert found == {cells[0].id: 5.0, cells[1].id: 15.0}


ARCHES = ["--arch", "x86_64,aarch64,armv7,ppc64le", "--kernel", "6.1,7.2"]


def planned(tool: Tool, *arguments: str) -> list[str]:
    done = tool("plan", "hello", *ARCHES, *arguments)
    assert done.returncode == 0, done.stderr
    return [line.split()[0] for line in done.stdout.splitlines()[:-1] if "skipped" not in line]


def records(spec: str = "hello", failing: str = "") -> list[Record]:
    return [
        make_record(
            cell, Verdict.FAIL if cell.id == failing else Verdict.PASS, seconds=60 if cell.arch == "armv7" else 6
        )
        for cell in (
            make_cell(arch, kernel, spec) for arch in ("x86_64", "aarch64", "armv7") for kernel in ("6.1", "7.2")
        )
    ]


def test_shards_follow_the_history(tool: Tool, tmp_path: Path) -> None:
    whole = planned(tool)
    parts = [planned(tool, "--shard", f"{number}/3") for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(whole)
    write_dated(tmp_path / "reports", 3, records(), "hello")
    timed = [planned(tool, "--shard", f"{number}/3") for number in (1, 2, 3)]
    assert sorted(name for part in timed for name in part) == sorted(whole)
    assert timed[0] == ["hello/armv7/6.1"] and timed[1] == ["hello/armv7/7.2"]


def test_a_repetition_takes_what_was_not_as_expected(tool: Tool, tmp_path: Path) -> None:
    name = write_dated(tmp_path / "reports", 3, records(failing="hello/armv7/7.2"), "hello")
    assert planned(tool, "--rerun-failed", name) == ["hello/armv7/7.2"]
    green = write_dated(tmp_path / "reports", 4, records(), "hello")
    refused(tool("plan", "hello", *ARCHES, "--rerun-failed", green), "all of its cells are as expected")
    refused(tool("plan", "hello", *ARCHES, "--rerun-failed", "none"), "no such run")


def test_a_budget_prefers_new_and_failed_cells(tool: Tool, tmp_path: Path) -> None:
    write_dated(tmp_path / "reports", 3, records(failing="hello/x86_64/7.2"), "hello")
    chosen = planned(tool, "--budget", "1s")
    assert len(chosen) == 1 and chosen[0].startswith("hello/ppc64le/")  # of which there is no run
    assert set(planned(tool, "--budget", "24h")) == set(planned(tool))
    refused(tool("plan", "hello", *ARCHES, "--budget", "soon"), "--budget 'soon' is not a duration")
    empty = tool("plan", "hello", *ARCHES, "--shard", "900/900")
    assert (empty.returncode, empty.stdout) == (0, "0 cells, 0 skipped\n")


def test_parts_cannot_be_combined_with_resume(tool: Tool) -> None:
    refused(tool("matrix", "--resume", "x", "--shard", "1/2"), "--resume cannot be combined")

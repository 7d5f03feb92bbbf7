"""Thirty nights under a false clock: what each command said on each morning."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from small_disk import run_on_small_disk

PROGRAM = Path(__file__).with_name("month.py")
RUN = """
import runpy, sys
from pathlib import Path
sys.argv = [sys.argv[2], str(Path(sys.argv[1]).parent), *sys.argv[3:]]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
DISK_KIB = 128 << 10
CLOCK = {
    "LD_PRELOAD": "/usr/$LIB/faketime/libfaketime.so.1",
    "FAKETIME": "@2026-03-01 00:00:00",
    "FAKETIME_NO_CACHE": "1",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    "NO_FAKE_STAT": "1",
    "TZ": "UTC",
    "CI": "true",
    "COLUMNS": "120",
}


@dataclass(frozen=True)
class Morning:
    """The statuses and words of a day's last commands, by command; its metrics and index page."""

    status: dict[str, int]
    said: dict[str, str]
    metrics: str
    index: str

    def metric(self, name: str) -> float:
        found = re.search(rf"^bootmatrix_run_{name} (\S+)$", self.metrics, re.MULTILINE)
        return float(found[1]) if found else float("nan")


Days = Callable[..., Morning]


def play(folder: Path, *seed: str) -> list[dict[str, Any]]:
    """Play a month in a folder; return what was said."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("BOOTMATRIX_")}
    environment = {**ours, **CLOCK, "BOOTMATRIX_CACHE": str(folder / "cache")}
    (folder / "reports").mkdir()
    words = (str(PROGRAM), *seed)
    done = run_on_small_disk(folder / "reports", DISK_KIB, RUN, *words, environment=environment, limit_s=400)
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return told


@pytest.fixture(scope="module")
def mornings(tmp_path_factory: pytest.TempPathFactory) -> Days:
    """The month; `mornings(day, number)` is what was seen on a day, the last time unless a number is given."""
    told = play(tmp_path_factory.mktemp("month"))

    def morning(day: int, number: int = -1) -> Morning:
        entries = [entry for entry in told if entry["day"] == day]
        ends = [place for place, entry in enumerate(entries, 1) if "index" in entry]
        seen = entries[: ends[number]]
        metrics = next(entry["metrics"] for entry in reversed(seen) if "metrics" in entry)
        names = [" ".join(entry["command"].split()[: 2 if "signoff" in entry["command"] else 1]) for entry in entries]
        pairs = list(zip(names, entries, strict=True))
        until = pairs if number == -1 else pairs[: ends[number]]
        return Morning(
            {name: entry["status"] for name, entry in until},
            {name: entry["said"] for name, entry in until},
            metrics,
            seen[-1]["index"],
        )

    return morning


def headline(morning: Morning) -> str:
    """The index page's first words, without tags."""
    found = re.search(r'<p class="headline.*?</p>', morning.index, re.DOTALL)
    return re.sub(r"<[^>]+>", "", found[0]) if found else ""


def test_a_regression_stays_red_until_it_is_accepted_or_fixed(mornings: Days) -> None:
    assert mornings(3).said["compare"] == "no regressions since 2026-03-02T02-00-00Z-shop: 4 unchanged\n"
    for day in (4, 5):
        red = mornings(day)
        assert (red.status["matrix"], red.status["report"], red.status["compare"]) == (1, 1, 1)
        assert "1 regression since 2026-03-03T02-00-00Z-shop: 1 new failure, 3 unchanged" in red.said["compare"]
        assert "shop/x86_64/7.2  pass → fail  since 4 Mar 2026, 02:00" in red.said["compare"]
        assert "pytest: 1 of 2 failed: test_refund" in red.said["compare"]
        assert ("regressed 1 run ago" in red.said["compare"]) is (day == 5)
        assert red.metric('regressions{title="shop"}') == 1
        assert headline(red) == f"Newest: shop, {day} Mar 2026, 02:00 UTC: 1 of 4 not as expected"


def test_an_acceptance_is_named_and_ends(mornings: Days) -> None:
    for day in (6, 8, 12):
        accepted = mornings(day)
        assert (accepted.status["report"], accepted.status["compare"]) == (0, 0)
        assert "1 accepted failure, 3 unchanged" in accepted.said["compare"]
        assert "accepted by Ann until 12 March 2026: no refunds until 1.8" in accepted.said["compare"]
        assert accepted.metric('accepted_cells{title="shop"}') == accepted.metric('unexpected_cells{title="shop"}') == 1
    assert "accepted by Ann until 12 March 2026" in mornings(8).index
    both = mornings(9)
    assert both.status["compare"] == 1
    assert "1 regression since 2026-03-08T02-00-00Z-shop: 1 new failure, 1 accepted failure" in both.said["compare"]
    over = mornings(13)
    assert (over.status["matrix"], over.status["compare"]) == (1, 1)
    assert "acceptance by Ann ended 12 March 2026: no refunds until 1.8" in over.said["compare"]
    fixed = mornings(14)
    assert fixed.status["matrix"] == 0
    assert re.search(r"^fixed +shop/x86_64/7.2  fail → pass$", fixed.said["compare"], re.MULTILINE)
    assert "input changed: spec shop: " in fixed.said["compare"]


def test_a_sign_off_holds_until_a_byte_changes(mornings: Days) -> None:
    assert mornings(14).status["signoff verify"] == 0
    assert "unchanged; signed by ed25519.pub" in mornings(14).said["signoff verify"]
    assert "note: not compared with an earlier run" in mornings(14).said["signoff latest"]
    tampered = mornings(18)
    assert tampered.status["signoff verify"] == 1
    assert "junit.xml: changed" in tampered.said["signoff verify"]


def test_an_interrupted_night_is_no_result_and_can_be_finished(mornings: Days) -> None:
    stopped = mornings(16, 0)
    assert (stopped.status["matrix"], stopped.status["report"], stopped.status["compare"]) == (130, 130, 130)
    assert "To finish it: bootmatrix matrix --resume reports/2026-03-16T02-00-00Z-shop" in stopped.said["matrix"]
    assert "no regressions so far since" in stopped.said["compare"]
    assert "3 not tested, 1 unchanged" in stopped.said["compare"]
    assert "gone" not in stopped.said["compare"]
    assert headline(stopped).endswith("1 as expected, 3 not tested, interrupted: SIGINT")
    assert "v-none" in stopped.index
    assert "note: the newest run, 2026-03-16T02-00-00Z-shop, is interrupted" in stopped.said["history"]
    done = mornings(16)
    assert (done.status["matrix"], done.status["compare"]) == (0, 0)
    assert headline(done).endswith("4 as expected")


def test_a_full_disk_costs_no_result_and_is_no_green_night(mornings: Days) -> None:
    full = mornings(27, 0)
    assert (full.status["matrix"], full.status["report"], full.status["compare"]) == (3, 130, 130)
    assert re.search(r"No space left on device: 'reports/2026-03-27\S+'$", full.said["matrix"], re.MULTILINE)
    hint = "Free some space on its disk, then: bootmatrix matrix --resume reports/2026-03-27T02-00-00Z-shop"
    assert hint in full.said["matrix"]
    assert full.metric('good{title="shop"}') == 0
    assert full.said["runs"].splitlines()[1].endswith(" not tested, interrupted: disk full")
    done = mornings(27)
    assert (done.status["matrix"], done.status["compare"]) == (0, 0)
    assert headline(done).endswith("27 Mar 2026, 02:00 UTC: 4 as expected")


@pytest.mark.parametrize(("day", "state"), [(17, "damaged"), (20, "other format")])
def test_a_run_that_cannot_be_read_is_no_green_night(mornings: Days, day: int, state: str) -> None:
    assert mornings(day, 0).status["compare"] == 0
    found = mornings(day)
    assert (found.status["report"], found.status["compare"]) == (2, 2)
    assert f"2026-03-{day}T02-00-00Z-shop" in found.said["compare"]
    assert f"  {state}: run.json: " in found.said["runs"]
    assert f"-{day}T02-00-00Z-shop, is {state}" in found.said["history"]
    assert found.metric(f'state{{state="{state}",title="shop"}}') == 1
    assert found.metric('good{title="shop"}') == 0
    assert f": {state}: " in headline(found)
    assert "4 unchanged" in mornings(day + 1).said["matrix"] or day == 18


def test_a_fault_of_the_infrastructure_is_neither_green_nor_a_regression(mornings: Days) -> None:
    fault = mornings(19)
    assert (fault.status["matrix"], fault.status["compare"]) == (3, 3)
    assert "1 no verdict" in fault.said["compare"]
    assert fault.metric('regressions{title="shop"}') == 0
    assert "no verdict since 19 Mar 2026, 02:00 (infra-error); before: passes" in fault.said["history"]
    assert fault.metric('good{title="shop"}') == 0


def test_a_run_of_the_future_and_a_damaged_index_change_nothing(mornings: Days) -> None:
    for day in (21, 22, 30):
        lines = mornings(day).said["runs"].splitlines()
        assert lines[1].startswith(f"2026-03-{day}T02-00-00Z-shop")
        assert lines[2].startswith("2027-01-21T02-00-00Z-shop") and "dated in the future" in lines[2]
        assert "2027" not in mornings(day).said["history"]
        assert "21 Jan 2027" not in mornings(day).index.partition("Runs</h2>")[0]
        assert headline(mornings(day)).startswith(f"Newest: shop, {day} Mar 2026, 02:00 UTC: 4 as expected")
    assert "1 regression since 2026-03-22T02-00-00Z-shop" in mornings(24).said["compare"]


def test_prune_keeps_what_was_asked_for(mornings: Days) -> None:
    """The newest five, the baseline of the oldest of them, and what was signed off: not each baseline's baseline."""
    pruned = mornings(25)
    assert pruned.status["prune"] == 0
    removed = re.findall(r"^removed 2026-03-(\d+)T", pruned.said["prune"], re.MULTILINE)
    assert {"17", "20", "01", "15"} <= set(removed)
    assert "14" not in removed
    assert re.search(r"^\d+ removed, [5-9] kept$", pruned.said["prune"], re.MULTILINE)
    assert "2026-03-15T02" not in pruned.index


SEEN = {
    "none": (0, 0, "4 as expected"),
    "refund": (1, 1, "1 of 4 not as expected"),
    "panic": (1, 1, "1 of 4 not as expected"),
    "mirror": (3, 3, "3 as expected, 1 without a verdict"),
    "interrupted": (130, 130, "not tested, interrupted: SIGINT"),
    "killed": (None, 130, "not tested, interrupted: killed"),
    "full disk": (3, 130, "not tested, interrupted: disk full"),
    "damaged": (0, 2, "damaged: run.json: "),
    "other format": (0, 2, "other format: run.json: "),
}
"""Of each fault by docs/nightly.md: the night's status, the morning's, the state. Others change nothing."""


@pytest.mark.long
@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_each_morning_tells_the_fault_of_the_night(tmp_path: Path, seed: str) -> None:
    """Thirty nights, a fault by chance in each."""
    entries: list[dict[str, Any]] = []
    days, began, is_unfinished = 0, 0, False
    for entry in play(tmp_path, seed):
        entries.append(entry)
        if "fault" not in entry:
            continue
        said = {seen["command"].split()[0]: seen for seen in entries}
        words = f"seed {seed}, {entry['day']} March: {entry['fault']}"
        night, morning, state = SEEN.get(entry["fault"], SEEN["none"])
        if night is not None:
            assert said["matrix"]["status"] == night, words
        assert (said["report"]["status"], said["compare"]["status"]) == (morning, morning), words
        began = began if is_unfinished else entry["day"]
        is_unfinished = "interrupted" in state
        newest = said["runs"]["said"].splitlines()[1]
        assert newest.startswith(f"2026-03-{began:02}T") and state in newest, words
        assert f"{began} Mar 2026" in headline(Morning({}, {}, "", entry["index"])), words
        metrics = Morning({}, {}, next(seen["metrics"] for seen in entries if "metrics" in seen), "")
        assert metrics.metric('good{title="shop"}') == (morning == 0), words
        assert said.get("prune", {"status": 0})["status"] == 0, words
        entries, days = [], days + 1
    assert days == 30

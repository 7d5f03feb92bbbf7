"""Small guests, each with a peculiarity: all of cases/ are booted, cold and as copies, and say what is right."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CASES = Path(__file__).with_name("cases")
ARCH, KERNEL = "x86_64", "6.1"
HEADER = re.compile(r"^# (verdict|reason|boot): (.+)$")

Records = dict[str, dict[str, dict[str, Any]]]
"""Records by way of booting and by case."""


@dataclass(frozen=True)
class Case:
    """A spec, and what its header says: the verdict, a pattern of the reason, and how it is booted."""

    name: str
    verdict: str
    reason: str
    boots: tuple[str, ...]


def _read(path: Path) -> Case:
    found = (HEADER.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    header = {match[1]: match[2] for match in found if match}
    boots = (header["boot"],) if "boot" in header else ("cold", "fork")
    return Case(path.stem, header["verdict"], header.get("reason", ""), boots)


ALL = [_read(path) for path in sorted(CASES.glob("*.yml"))]


def _boot(folder: Path, way: str) -> dict[str, dict[str, Any]]:
    specs = [f"{case.name}.yml" for case in ALL if way in case.boots]
    cells = ("--arch", ARCH, "--kernel", KERNEL, "--boot", way, "--reports", f"reports-{way}")
    command = [sys.executable, "-m", "bootmatrix.cli.main", "matrix", *specs, *cells]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    run = folder / f"reports-{way}/latest/run.json"
    assert run.exists(), done.stdout + done.stderr
    return {one["cell"]["spec_name"]: one for one in json.loads(run.read_bytes())["records"]}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """All of them in one run for each way of booting."""
    folder = tmp_path_factory.mktemp("cases")
    shutil.copytree(CASES, folder, dirs_exist_ok=True)
    (folder / "images").symlink_to(ROOT / "specs/images")
    return {way: _boot(folder, way) for way in ("cold", "fork")}


@pytest.mark.boots
@pytest.mark.parametrize(
    ("case", "way"), [pytest.param(case, way, id=f"{case.name}-{way}") for case in ALL for way in case.boots]
)
def test_each_case_comes_to_its_verdict(records: Records, case: Case, way: str) -> None:
    record = records[way][case.name]
    judgement = record["judgement"]
    assert judgement["verdict"] == case.verdict, json.dumps(judgement, indent=1)
    assert re.search(case.reason, judgement["reason"]), judgement["reason"]
    assert way == "cold" or record["boot"] == "fork" or case.verdict != "pass", record["cold_reason"]

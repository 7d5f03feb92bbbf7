"""Small guests, each with a peculiarity: all of cases/ are booted, as copies and cold, and say what is right."""

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

Records = dict[str, dict[str, Any]]
"""Records by case."""


@dataclass(frozen=True)
class Case:
    """A spec, and what its header says: the verdict, a pattern of the reason, and whether it can be forked."""

    name: str
    verdict: str
    reason: str
    is_forked: bool


def _read(path: Path) -> Case:
    found = (HEADER.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    header = {match[1]: match[2] for match in found if match}
    return Case(path.stem, header["verdict"], header.get("reason", ""), header.get("boot") != "cold")


ALL = [_read(path) for path in sorted(CASES.glob("*.yml"))]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """All in one run. Each copy is verified by a cold boot; where they differ, the verdict is infra-error."""
    folder = tmp_path_factory.mktemp("cases")
    shutil.copytree(CASES, folder, dirs_exist_ok=True)
    (folder / "images").symlink_to(ROOT / "specs/images")
    specs = [f"{case.name}.yml" for case in ALL]
    ways = ("--boot", "fork", "--verify-fork", str(len(ALL)))
    cells = ("--arch", ARCH, "--kernel", KERNEL, *ways, "--reports", "reports")
    command = [sys.executable, "-m", "bootmatrix.cli.main", "matrix", *specs, *cells]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    run = folder / "reports/latest/run.json"
    assert run.exists(), done.stdout + done.stderr
    return {one["cell"]["spec_name"]: one for one in json.loads(run.read_bytes())["records"]}


@pytest.mark.boots
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_each_case_comes_to_its_verdict(records: Records, case: Case) -> None:
    record = records[case.name]
    judgement = record["judgement"]
    assert judgement["verdict"] == case.verdict, json.dumps(judgement, indent=1)
    assert re.search(case.reason, judgement["reason"]), judgement["reason"]
    assert (record["boot"] == "fork", record["verified"]) == (case.is_forked, case.is_forked), record["cold_reason"]

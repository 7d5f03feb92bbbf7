"""Small guests, each with a peculiarity: cases/*.yml, whose headers say what each comes to.

`test_cases.py` boots all of them on one architecture, `python -m benchmarks.trials cases` on any.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.model import Record
from bootmatrix.runs.run_store import load_run

CASES = Path(__file__).with_name("cases")
IMAGES = Path(__file__).parents[1] / "specs/images"
HEADER = re.compile(r"^# (verdict|reason|boot): (.+)$")


@dataclass(frozen=True)
class Case:
    """A spec, and what its header says: the verdict, a pattern of the reason, and whether it can be forked."""

    name: str
    verdict: str
    reason: str
    is_forked: bool

    def faults(self, record: Record) -> Iterator[str]:
        """Yield the differences of a record from the header."""
        judgement = record.judgement
        if record.verdict != self.verdict:
            yield f"{self.verdict} expected: {judgement.model_dump_json(indent=1)}"
        elif not re.search(self.reason, judgement.reason):
            yield f"a reason like {self.reason!r} expected: {judgement.reason}"


def _read(path: Path) -> Case:
    found = (HEADER.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    header = {match[1]: match[2] for match in found if match}
    return Case(path.stem, header["verdict"], header.get("reason", ""), header.get("boot") != "cold")


ALL = [_read(path) for path in sorted(CASES.glob("*.yml"))]


def boot_cases(folder: Path, cases: Sequence[Case], arch: str, kernel: str, ways: Iterable[str]) -> dict[str, Record]:
    """Boot cases in one run, with further options of `bootmatrix matrix`; return the records by case."""
    shutil.copytree(CASES, folder, dirs_exist_ok=True)
    (folder / "images").symlink_to(IMAGES)
    specs = [f"{case.name}.yml" for case in cases]
    cells = ("--arch", arch, "--kernel", kernel, *ways, "--reports", "reports")
    command = [sys.executable, "-m", "bootmatrix.cli.main", "matrix", *specs, *cells]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    run = folder / "reports/latest"
    assert run.exists(), done.stdout + done.stderr
    return {one.cell.spec_name: one for one in load_run(run).records}

"""A month of nights in one process under a false clock (libfaketime), told as JSON: what each command said.

    python tests/month.py FOLDER [SEED]

With a seed each night has one of FAULTS by chance, unless it finishes the night before. FOLDER/reports is a disk of its
own, which is full some nights. The command line is the real one. Its executor is a plug-in of this file's: instead of
booting, it returns the records that the night's story says, each with evidence that bears its verdict out.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from types import MappingProxyType

import anyio

from bootmatrix.cli.main import main
from bootmatrix.execute.executor import ExecutorSettings
from bootmatrix.model import Cell, Lock, Record, SubResult, Verdict
from bootmatrix.model.run_config import CellBundle, CellRequest
from samples import CHECK_RESULTS, console_of, make_record
from signoff_fixtures import write_keys

MATRIX = 'specs: [shop.yml]\narch: [x86_64, aarch64]\nkernel: ["6.1", "7.2"]\n'
SPEC = """
init: ["@pkg:./images/init"]
services:
  - {name: check, image: "@pkg:./images/busybox", command: [/bin/true], annotations: {bootmatrix.check: 60s}}
"""
FAILED = (
    SubResult(name="pytest: test_order", verdict=Verdict.PASS),
    SubResult(name="pytest: test_refund", verdict=Verdict.FAIL, detail="assert 3 == 4"),
)
PLUGIN = "[bootmatrix.executors]\nstory = __main__:open_executor\n"
ROOT = Path(__file__).parents[1]
NOTHING: Mapping[str, tuple[Verdict, str]] = MappingProxyType({})
WORDS = ("--executor", "story", "--fail-on", "regression")
NIGHT = ("matrix", "shop.matrix.yml", "--resume-or-start", *WORDS)
LEFT_BYTES = 456 << 10
story: dict[str, tuple[Verdict, str]] = {}
"""Verdicts of tonight's cells, by id; others pass. The verdict `skip` stands for an interruption there, by SIGKILL if
it has a reason."""


class Story:
    """An executor that returns what the story says."""

    def __init__(self, settings: ExecutorSettings) -> None:
        self._folder_of = settings.folder_of
        self._cells: list[Cell] = []

    async def submit(self, request: CellRequest) -> None:
        self._cells.append(request.cell)

    async def results(self) -> AsyncIterator[CellBundle]:
        for cell in self._cells:
            verdict, reason = story.get(cell.id, (Verdict.PASS, "all checks passed"))
            if verdict is Verdict.SKIP:
                await anyio.sleep(2 if reason else 0)
                os.kill(os.getpid(), signal.SIGKILL if reason else signal.SIGINT)
                await anyio.sleep(60)
            record = _record(cell, verdict, reason)
            folder = self._folder_of(cell)
            if record.console:
                (folder / record.console).write_text(console_of(record), encoding="utf-8")
            yield CellBundle(record=record, folder=folder, used=Lock(kernels={}, packages={}))

    def cancel(self) -> None:
        self._cells.clear()


def _record(cell: Cell, verdict: Verdict, reason: str) -> Record:
    results = FAILED if verdict is Verdict.FAIL else CHECK_RESULTS if verdict is Verdict.PASS else ()
    record = make_record(cell, verdict, reason, subresults=results)
    return record.model_copy(update={"spec_sha256": hashlib.sha256(Path("shop.yml").read_bytes()).hexdigest()})


@asynccontextmanager
async def open_executor(settings: ExecutorSettings) -> AsyncIterator[Story]:
    """The entry point."""
    yield Story(settings)


class Month:
    """A folder with a matrix, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[dict[str, object]] = []
        self.day = 0
        (folder / "shop.yml").write_text(SPEC, encoding="utf-8")
        (folder / "shop.matrix.yml").write_text(MATRIX, encoding="utf-8")
        (folder / "images").symlink_to(ROOT / "specs/images")
        plugin = folder / "story-1.dist-info"
        plugin.mkdir()
        (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: story\nVersion: 1\n", encoding="utf-8")
        (plugin / "entry_points.txt").write_text(PLUGIN, encoding="utf-8")
        sys.path.append(str(folder))

    def at(self, day: int, hour: int) -> None:
        """Set the clock to an hour of a day of March."""
        self.day = day
        os.environ["FAKETIME"] = f"@2026-03-{day:02} {hour:02}:00:00"

    def say(self, *words: str) -> None:
        """Run a command, and keep what it said."""
        out, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(errors):
            try:
                status = main(words)
            except SystemExit as left:
                status = left.code if isinstance(left.code, int) else 1
        gc.collect()  # a process that ended would hold no run
        said = out.getvalue() + errors.getvalue()
        self.told.append({"day": self.day, "command": " ".join(words), "status": status, "said": said})

    @property
    def newest(self) -> Path:
        """The newest run."""
        return (self.folder / "reports/latest").resolve()

    def night(
        self, day: int, tonight: Mapping[str, tuple[Verdict, str]] = NOTHING, *, is_looked_at: bool = True
    ) -> None:
        """Run the matrix at night, and look at it in the morning."""
        self.at(day, 2)
        story.clear()
        story.update(tonight)
        self.say(*NIGHT)
        if is_looked_at:
            self.morning()

    def morning(self) -> None:
        """Look at the night as its operator does."""
        self.at(self.day, 8)
        self.say("runs", "-n", "1")
        self.say("report", "latest", "--fail-on", "regression", "--format", "openmetrics", "--output", "metrics.prom")
        self.told[-1]["metrics"] = (self.folder / "metrics.prom").read_text(encoding="utf-8")
        self.say("history", "shop/*")
        self.say("compare", "latest", "--fail-on", "regression")
        index = self.folder / "reports/index.html"
        self.told[-1]["index"] = index.read_text(encoding="utf-8") if index.exists() else ""


X61, X72, A61, A72 = (f"shop/{arch}/{kernel}" for arch in ("x86_64", "aarch64") for kernel in ("6.1", "7.2"))
REFUND = {X72: (Verdict.FAIL, "check 'check' exited with 1: pytest: 1 of 2 failed: test_refund")}
PANIC = {A61: (Verdict.PANIC, "kernel panic: VFS: Unable to mount root fs")}
INTERRUPTED = {A72: (Verdict.SKIP, "")}
MIRROR = {X61: (Verdict.INFRA_ERROR, "the mirror does not answer")}
KILLED = {A72: (Verdict.SKIP, "killed")}
FAULTS = {
    "none": NOTHING, "refund": REFUND, "panic": PANIC, "interrupted": INTERRUPTED, "mirror": MIRROR, "killed": KILLED,
    "full disk": NOTHING, "damaged": NOTHING, "other format": NOTHING, "future": NOTHING,
    "index, mended unseen": NOTHING, "prune": NOTHING,
}  # fmt: skip
"""Verdicts of a night with this fault."""
UNFINISHED = {"interrupted", "killed", "full disk"}
"""Faults after which the next night only finishes the run."""


def first_half(month: Month) -> None:
    """A regression that stays, is accepted, joined by another, and fixed after the acceptance ended; a sign-off."""
    for day in (1, 2, 3):
        month.night(day, is_looked_at=day == 3)
    change(Path("shop.yml"), lambda text: f"{text}# 1.7, with refunds\n")
    for day in (4, 5, 6):
        month.night(day, REFUND)
    month.say("accept", X72, "--reason", "no refunds until 1.8", "--by", "Ann", "--until", "2026-03-12")
    month.morning()
    for day in (7, 8):
        month.night(day, REFUND, is_looked_at=day == 8)
    month.night(9, REFUND | PANIC)
    for day in (10, 11, 12, 13):
        month.night(day, REFUND, is_looked_at=day > 11)
    change(Path("shop.yml"), lambda text: f"{text}# 1.8\n")
    month.night(14)
    write_keys(month.folder)
    month.say("signoff", "latest", "--release", "shop-1.8", "--sign-key", "ed25519.pem", "--no-pdf")
    month.say("signoff", "verify", "latest", "--key", "ed25519.pub")
    month.say(
        "signoff",
        "verify",
        "latest/signoff/shop-1.8/report.html".replace("latest", str(month.newest)),
        "--key",
        "ed25519.pub",
    )
    month.say("report", "latest")
    month.night(15, is_looked_at=False)


def second_half(month: Month) -> None:
    """Faulty runs: interrupted, damaged, tampered with, of another version, dated in the future."""
    month.night(16, INTERRUPTED)
    month.at(16, 10)
    story.clear()
    month.say("matrix", "--resume", "latest", *WORDS)
    month.morning()
    month.night(17)
    damage(month, "damaged")
    month.morning()
    month.night(18)
    signed = next(month.folder.glob("reports/2026-03-14*"))
    change(signed / "junit.xml", lambda text: text.replace("shop", "shed", 1))
    month.say("signoff", "verify", signed.name, "--key", "ed25519.pub")
    month.night(19, MIRROR)
    month.night(20)
    damage(month, "other format")
    month.morning()
    month.night(21)
    damage(month, "future")
    month.morning()
    damage(month, "index, mended unseen")
    month.night(22)
    for day in (23, 24):
        month.night(day, PANIC)
    month.night(25)
    month.say("prune", "--keep", "5", "--unreadable")
    month.morning()
    month.night(26)
    with filled(month.folder / "reports"):
        month.night(27)
    month.say("matrix", "--resume", "latest", *WORDS)
    month.morning()
    for day in range(28, 31):
        month.night(day, is_looked_at=day == 30)


def damage(month: Month, fault: str) -> None:
    """Do to the newest run, or to what is kept beside it, what a fault is called by."""
    newest, later = month.newest, month.folder / f"reports/2027-01-{month.day:02}T02-00-00Z-shop"
    if fault == "damaged":
        change(newest / "run.json", lambda text: text[:-300])
    elif fault == "other format":
        change(newest / "run.json", lambda text: text.replace('"format": 2', '"format": 99', 1))
    elif fault == "future":
        shutil.copytree(newest, later)
        change(later / "run.json", lambda text: text.replace(newest.name, later.name).replace("2026-03", "2027-01"))
    elif fault.startswith("index"):
        (month.folder / "reports/.index.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 4000)
    elif fault == "prune":
        month.say("prune", "--keep", "5", "--unreadable")


def at_random(month: Month, seed: str) -> None:
    """Thirty nights, with a fault each by chance; the first one has none, and those that finish another."""
    chance, fault = random.Random(seed), ""
    for day in range(1, 31):
        fault = "none" if day == 1 or fault in UNFINISHED else chance.choice(list(FAULTS))
        child = os.fork() if fault == "killed" else 0
        if not child:
            with filled(month.folder / "reports") if fault == "full disk" else nullcontext():
                month.night(day, FAULTS[fault], is_looked_at=False)
        else:
            os.waitpid(child, 0)
            month.at(day, 2)
        damage(month, fault)
        month.morning()
        month.told[-1]["fault"] = fault


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill the disk of a folder, but for a little, as others do who use it too."""
    with tempfile.TemporaryFile(dir=folder) as file:
        disk = os.statvfs(folder)
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - LEFT_BYTES)
        yield


def change(file: Path, edit: Callable[[str], str]) -> None:
    """Edit a file of a run, as an accident or an attacker would."""
    text = file.read_text(encoding="utf-8")
    assert edit(text) != text
    file.write_text(edit(text), encoding="utf-8")


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    played = Month(Path.cwd())
    if sys.argv[2:]:
        at_random(played, sys.argv[2])
    else:
        first_half(played)
        second_half(played)
    Path("told.json").write_text(json.dumps(played.told), encoding="utf-8")

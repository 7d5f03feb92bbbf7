"""A large run, made up: 10,000 cells with records, consoles and pages, and what each came to in 20 runs.

Run as a program it reads a run from its folder, writes all forms of its report, and says what that took.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bootmatrix.history.values import (
    CellChange,
    CellHistory,
    CellKey,
    ChangeKind,
    Comparison,
    Past,
    PastVerdict,
    Standing,
)
from bootmatrix.model import (
    Artefact,
    Bootable,
    Cell,
    Evidence,
    GuestMessage,
    Judgement,
    Kernel,
    Machine,
    Outcome,
    Package,
    PhaseTime,
    Record,
    Run,
    SubResult,
    Traits,
    Verdict,
)
from bootmatrix.report.cell_view import PAGE_FILE, CellContext, CellView
from bootmatrix.report.console_view import Extent
from bootmatrix.report.html import render_cell
from bootmatrix.report.writer import console_reader, write_reports
from bootmatrix.runs.run_json import write_run
from bootmatrix.runs.run_store import RUN_FILE, cell_folder, load_run

SPECS, TARGETS, KERNELS, RUNS = 10, 40, 25, 20
BAD_SHARE = 0.04
SHA256 = "0123456789abcdef" * 4
CONSOLE = "".join(f"[{number / 50:12.6f}] a line as a kernel prints it, number {number}\n" for number in range(300))
MACHINE = Machine(
    description="a board",
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    min_qemu="7.0",
    machine="virt",
    memory_mib=512,
    console="ttyS0",
    kernel_form="Image",
    bus="virtio-pci",
    result="virtio-serial",
    exit="poweroff",
    time_factor=1,
)
STARTED = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Rendered:
    """What a process took that wrote the report: seconds to write it, seconds in all, and its memory at the most."""

    write_s: float
    all_s: float
    memory_mib: float


def render_in_a_process(folder: Path) -> Rendered:
    """Write the report of a run in a process of its own."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", __name__, folder], capture_output=True, check=True)
    return Rendered(**json.loads(done.stdout) | {"all_s": time.monotonic() - started})


def _render(folder: Path) -> Rendered:
    run = load_run(folder)
    past = past_of(run)
    started = time.monotonic()
    write_reports(run, folder, past)
    write_s = time.monotonic() - started
    return Rendered(write_s, 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def write_large(folder: Path) -> Run:
    """Write consoles, pages and records as a run leaves them, without waiting for the disk; the run."""
    began = STARTED.isoformat()
    run = Run(name="large", title="large", tool_version="0", started_at=began, ended_at=began, records=tuple(records()))
    write_run(folder / RUN_FILE, run)
    context = CellContext(console_reader(folder), extent=Extent.PAGE)
    for record in run.records:
        place = cell_folder(folder, record.cell)
        place.mkdir(parents=True)
        (place / record.console).write_text(CONSOLE, encoding="utf-8")
        if record.verdict is Verdict.PASS:
            (place / PAGE_FILE).write_bytes(render_cell(CellView(record, context)))
    return run


def records() -> Iterator[Record]:
    """The records, of which some fail."""
    dice = random.Random(1)
    for spec in range(SPECS):
        for target in range(TARGETS):
            for kernel in range(KERNELS):
                yield _record(_cell(spec, target, kernel), dice)


def _cell(spec: int, target: int, kernel: int) -> Cell:
    version = f"{5 + kernel // 10}.{kernel % 10}"
    return Cell(
        spec=f"specs/spec{spec}.yml",
        spec_name=f"spec{spec}",
        arch=f"arch{target:02}",
        machine="virt",
        machine_is_default=True,
        kernel=version,
        traits=Traits(bits=64, endian="little", page_kib=4, kernel_version=version),
    )


def _record(cell: Cell, dice: random.Random) -> Record:
    bad = dice.random() < BAD_SHARE
    took_s = dice.uniform(3, 12)
    kernel, initrd = _artefact("kernel", 9_000_000), _artefact("initrd", 30_000_000)
    images = (_artefact("image", 40_000_000), _artefact("image", 1_000_000))
    judgement = Judgement(
        verdict=Verdict.PANIC if bad else Verdict.PASS,
        reason=f"kernel panic: made up, kind {dice.randrange(40)}" if bad else "all checks passed",
        evidence=(
            Evidence(source="console", text="a line as a kernel prints it", line=200),
            Evidence(source="qmp", text="SHUTDOWN guest-shutdown"),
        ),
        subresults=tuple(SubResult(name=f"check {one}", verdict=Verdict.PASS) for one in range(4)),
    )
    outcome = Outcome(
        exit_status=0,
        ended_by="guest",
        messages=tuple(GuestMessage(kind="check", words=("exit", "0"), at_s=1.0, sequence=one) for one in range(8)),
        started_at=STARTED.isoformat(),
        wall_s=took_s,
    )
    names = ("fetch", "build", "boot", "onboot", "services", "checks", "shutdown")
    return Record(
        cell=cell,
        judgement=judgement,
        expected=not bad,
        outcome=outcome,
        kernel=Kernel(name=cell.kernel, release=cell.kernel, version="1", architecture="all", packages=(_package(),)),
        artefacts=(kernel, initrd, *images),
        phases=tuple(PhaseTime(name=name, seconds=took_s / len(names)) for name in names),
        command=("qemu-system", "-nodefaults", "-m", "512", "-kernel", kernel.path, "-initrd", initrd.path),
        cmdline="console=ttyS0 panic=-1",
        qemu_version="7.2.22",
        console="console.log",
        started_at=STARTED.isoformat(),
        wall_s=took_s + 1,
        machine_profile=MACHINE,
        bootable=Bootable(
            kernel=kernel, kernel_release=cell.kernel, initrd=initrd, images=images, checks={"check": 60.0}
        ),
    )


def _artefact(kind: str, size_bytes: int) -> Artefact:
    path = f"/cache/blobs/{SHA256}"
    return Artefact.model_validate(
        {"kind": kind, "name": f"made-up/{kind}", "path": path, "sha256": SHA256, "size_bytes": size_bytes}
    )


def _package() -> Package:
    return Package(
        name="linux-image",
        version="1",
        architecture="all",
        suite="made-up",
        filename="pool/linux-image.deb",
        size_bytes=60_000_000,
        sha256=SHA256,
    )


def past_of(run: Run) -> Past:
    """Twenty nights; what fails now has failed for some of them."""
    dice, histories, changes = random.Random(2), {}, []
    nights = [(STARTED - timedelta(days=days)).isoformat() for days in range(RUNS - 1, -1, -1)]
    for record in run.records:
        cell, bad = record.cell, record.verdict is not Verdict.PASS
        since = dice.randrange(RUNS) if bad else RUNS
        past = tuple(_night(nights[night], night >= since, dice) for night in range(RUNS))
        key = CellKey(cell.spec_name, cell.arch, cell.machine, cell.kernel, "cold")
        first = past[since] if bad else None
        histories[cell.id] = CellHistory(cell.id, key, past, failing_since=first)
        kind = (
            ChangeKind.UNCHANGED
            if not bad
            else ChangeKind.NEW_FAILURE
            if since == RUNS - 1
            else ChangeKind.STILL_FAILING
        )
        new = kind is ChangeKind.NEW_FAILURE
        since_when = first.started_at if first else ""
        changes.append(CellChange(cell.id, "cold", kind, "pass", str(record.verdict), new, since=since_when))
    return Past(Comparison(run.name, "the-night-before", nights[-2], tuple(changes)), histories)


def _night(started_at: str, bad: bool, dice: random.Random) -> PastVerdict:
    standing = Standing.BAD if bad else Standing.GOOD
    return PastVerdict(f"run-{started_at}", started_at, "panic" if bad else "pass", standing, dice.uniform(3, 12))


if __name__ == "__main__":
    print(json.dumps(asdict(_render(Path(sys.argv[1])))))

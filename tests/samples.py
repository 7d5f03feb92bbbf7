"""Runs as they come out, for tests of what is made of them: every verdict, four architectures, a real-looking boot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from bootmatrix.model import (
    Artefact,
    Bootable,
    Cell,
    Evidence,
    Judgement,
    Kernel,
    Machine,
    Outcome,
    Package,
    PhaseTime,
    Record,
    Run,
    SubResult,
    Verdict,
)
from bootmatrix.runs.run_store import RUN_FILE, STARTED_FILE, RunWriter, write_model
from guests import left, make_messages

STARTED = "2026-11-24T01:40:05+00:00"
RELEASES = {"6.1": "6.1.0-50", "6.12": "6.12.9", "7.2": "7.2.4-1"}
TIMES_S = {"x86_64": 4.1, "aarch64": 6.3, "armv7": 11.8, "ppc64le": 7.2}
MACHINES = {"x86_64": "pc", "aarch64": "virt", "armv7": "virt", "ppc64le": "pseries"}
BOOT_LOG = """\
[    0.000000] Linux version {release} (debian-kernel@lists.debian.org) (gcc-12, GNU ld 2.40) #1 SMP
[    0.000000] Command line: console=ttyS0 panic=-1 bootmatrix.channel=virtio-serial
[    0.412345] \x1b[1;32mvirtio_blk\x1b[0m virtio1: [vda] 2048 512-byte logical blocks
[    1.002211] Run /init as init process
influxd: ts=2026-11-24T01:40:09.1Z lvl=info msg="InfluxDB starting" version=1.6.7
influxd: ts=2026-11-24T01:40:09.4Z lvl=info msg="Listening on HTTP" addr=[::]:8086 https=false
"""
PANIC_LOG = "[    1.223344] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"


def digest(text: str) -> str:
    """A digest of the right form."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_cell(arch: str, kernel: str = "6.1", spec: str = "influxdb", machine: str = "", expect: str = "") -> Cell:
    """A cell; with `machine` one that is not the architecture's first."""
    return Cell(
        spec=f"specs/{spec}.yml",
        spec_name=spec,
        arch=arch,
        machine=machine or MACHINES.get(arch, "virt"),
        machine_is_default=not machine,
        kernel=kernel,
        expect=expect,
    )


ENDS = {Verdict.PANIC: "panic", Verdict.HANG: "silence", Verdict.TIMEOUT: "checks"}
"""Limits that end a guest."""


def make_bootable(cell: Cell) -> Bootable:
    """What such a cell boots."""
    release = RELEASES.get(cell.kernel, cell.kernel)
    return Bootable(
        kernel=_artefact("kernel", release, 8_400_000),
        kernel_release=release,
        initrd=_artefact("initrd", "initrd.img", 31_234_567),
        images=(_artefact("image", "bootmatrix/influxdb", 42_000_000), _artefact("image", "bootmatrix/init", 700_000)),
        services=("influxdb",),
        checks={"check": 60.0},
        protocol=2,
    )


def _artefact(kind: str, name: str, size_bytes: int) -> Artefact:
    return Artefact.model_validate(
        {
            "kind": kind,
            "name": name,
            "path": f"/cache/blobs/{digest(name)}",
            "sha256": digest(name),
            "size_bytes": size_bytes,
        }
    )


def make_machine() -> Machine:
    """A board."""
    return Machine(
        description="a generic board",
        qemu="qemu-system-x86_64",
        qemu_package="qemu-system-x86",
        min_qemu="7.0",
        machine="virt",
        memory_mib=512,
        console="ttyS0",
        kernel_form="bzImage",
        bus="virtio-pci",
        result="virtio-serial",
        exit="poweroff",
        time_factor=1,
    )


def make_kernel(cell: Cell) -> Kernel:
    """A kernel out of one package."""
    release = RELEASES.get(cell.kernel, cell.kernel)
    package = Package(
        name=f"linux-image-{release}-cloud",
        version=f"{release}+deb",
        architecture="all",
        suite="bookworm",
        filename="pool/main/l/linux/x.deb",
        size_bytes=68_000_000,
        sha256=digest(release),
    )
    return Kernel(name=cell.kernel, release=release, version=package.version, architecture="all", packages=(package,))


def make_outcome(seconds: float) -> Outcome:
    """Return the outcome of a boot that passed."""
    return outcome_of(Verdict.PASS, RELEASES["6.1"], seconds)


def outcome_of(verdict: Verdict, release: str, seconds: float) -> Outcome:
    """Return an outcome whose evidence gives this verdict."""
    status = "0" if verdict is Verdict.PASS else "1"
    texts = [f"ready {release}", "service influxdb start", "services up", "check check start"]
    ends = ENDS.get(verdict)
    if ends is None:
        texts += [f"check check exit {status}", "shutdown"]
    messages = make_messages(tuple(texts), "" if ends else "pass" if verdict is Verdict.PASS else "fail")
    share = seconds * 0.7 / len(messages)
    return Outcome.model_validate(
        {
            "exit_status": 0,
            "ended_by": "host" if ends else "guest",
            "limit": ends or "",
            "limit_phase": "checks" if ends else None,
            "messages": tuple(
                one.model_copy(update={"at_s": seconds * 0.3 + share * number}) for number, one in enumerate(messages)
            ),
            "events": () if ends else (left(),),
            "started_at": STARTED,
            "wall_s": seconds,
            "boot_s": seconds * 0.3,
        }
    )


def make_record(  # one argument for each thing that tests vary
    cell: Cell,
    verdict: Verdict = Verdict.PASS,
    reason: str = "all checks passed",
    *,
    evidence: Iterable[Evidence] = (),
    subresults: Iterable[SubResult] = (),
    advice: str = "",
    expected: bool | None = None,
    seconds: float | None = None,
) -> Record:
    """A record. A guest's verdict has a boot behind it, one of ours has not, nor a skip without seconds."""
    judgement = Judgement(
        verdict=verdict, reason=reason, evidence=tuple(evidence), subresults=tuple(subresults), advice=advice
    )
    common = {
        "cell": cell,
        "judgement": judgement,
        "expected": verdict in {Verdict.PASS, Verdict.SKIP} if expected is None else expected,
        "started_at": STARTED,
    }
    if verdict is Verdict.SKIP and not seconds:
        return Record.model_validate({**common, "wall_s": 0})
    if not verdict.is_guests and verdict is not Verdict.SKIP:
        return Record.model_validate({**common, "wall_s": 1.3, "attempts": 2 if verdict is Verdict.INFRA_ERROR else 1})
    took_s = seconds or TIMES_S.get(cell.arch, 5.0)
    bootable = make_bootable(cell)
    more = {
        "outcome": outcome_of(verdict, bootable.kernel_release, took_s),
        "kernel": make_kernel(cell),
        "artefacts": tuple(one for one in (bootable.kernel, bootable.initrd, *bootable.images) if one),
        "phases": (
            PhaseTime(name="fetch", seconds=0.012),
            PhaseTime(name="build", seconds=0.4),
            PhaseTime(name="boot", seconds=took_s * 0.3),
            PhaseTime(name="onboot", seconds=took_s * 0.1),
            PhaseTime(name="services", seconds=took_s * 0.15),
            PhaseTime(name="checks", seconds=took_s * 0.4),
            PhaseTime(name="shutdown", seconds=took_s * 0.05),
        ),
        "command": (
            f"qemu-system-{cell.arch}",
            "-nodefaults",
            "-machine",
            "virt,accel=tcg",
            "-m",
            "512",
            "-display",
            "none",
            "-kernel",
            f"/cache/blobs/{digest('kernel')}",
            "-initrd",
            f"/cache/blobs/{digest('initrd')}",
            "-append",
            "console=ttyS0 panic=-1 quiet",
            "-serial",
            "stdio",
        ),
        "cmdline": "console=ttyS0 panic=-1 quiet",
        "qemu_version": "7.2.22",
        "console": "console.log",
        "wall_s": took_s + 0.9,
        "machine_profile": make_machine(),
        "bootable": bootable,
    }
    return Record.model_validate({**common, **more})


CHECK_RESULTS = (
    SubResult(name="influxdb: service", verdict=Verdict.PASS, detail="up"),
    SubResult(name="check: write points", verdict=Verdict.PASS, detail="204 No Content"),
    SubResult(name="check: read them back", verdict=Verdict.PASS, detail="1000 of 1000"),
    SubResult(name="check: read them after a restart", verdict=Verdict.PASS, detail="1000 of 1000"),
)


def green_records() -> list[Record]:
    """Eight passes: four architectures and two kernels."""
    return [
        make_record(
            make_cell(arch, kernel),
            evidence=(
                Evidence(source="result", text="end pass, sequence 1 to 9 intact, digest right"),
                Evidence(source="qmp", text="SHUTDOWN guest-shutdown"),
            ),
            subresults=CHECK_RESULTS,
            seconds=TIMES_S[arch] * (1.0 if kernel == "6.1" else 1.1),
        )
        for arch in TIMES_S
        for kernel in ("6.1", "7.2")
    ]


def mixed_records() -> list[Record]:
    """One of everything that can happen, and some passes."""
    many = [SubResult(name=f"CONFIG_OPTION_{number}", verdict=Verdict.PASS) for number in range(60)]
    return [
        *(make_record(make_cell(arch), subresults=CHECK_RESULTS) for arch in ("x86_64", "aarch64", "ppc64le")),
        make_record(make_cell("armv7")),
        make_record(make_cell("x86_64", spec="check"), subresults=many),
        make_record(
            make_cell("x86_64", "7.2"),
            Verdict.FAIL,
            "check 'check' exited with 1: 998 of 1000 points were read back",
            evidence=(
                Evidence(source="result", text="check check exit 1"),
                Evidence(source="console", text='influxd: msg="InfluxDB starting"', line=5),
            ),
            subresults=(
                *CHECK_RESULTS[:2],
                SubResult(name="check: read them back", verdict=Verdict.FAIL, detail="998 of 1000\n# missing: 17, 401"),
                SubResult(name="check: read them after a restart", verdict=Verdict.SKIP, detail="nothing to read"),
            ),
            advice="See the check's own lines on the console.",
        ),
        make_record(
            make_cell("aarch64", "7.2"),
            Verdict.PANIC,
            "kernel panic: VFS: Unable to mount root fs on unknown-block(0,0)",
            evidence=(Evidence(source="console", text=PANIC_LOG.strip(), line=7),),
            advice="The initrd may lack a module that the root file system needs.",
        ),
        make_record(
            make_cell("armv7", "7.2"),
            Verdict.HANG,
            "no sign of life for 180 s in phase services",
            evidence=(Evidence(source="clock", text="silent since 31.2 s"),),
            seconds=211.2,
        ),
        make_record(
            make_cell("armv7", "7.2", machine="raspi2b"), Verdict.TIMEOUT, "boot took more than 540 s", seconds=540
        ),
        make_record(
            make_cell("ppc64le", "6.12"),
            Verdict.BUILD_ERROR,
            "specs/images/influxdb/build.yml:4: bookworm has no package 'influxdb' for this architecture",
            advice="Did you mean 'influxdb-client'?",
        ),
        make_record(
            make_cell("ppc64le", "7.2"),
            Verdict.INFRA_ERROR,
            "the archive's index does not match its signed digest (a mirror in mid-update), after 2 attempts",
            advice="Try again in an hour, or use --locked.",
        ),
        make_record(make_cell("armv7", "5.10"), Verdict.SKIP, "excluded: this release needs Linux 6.1"),
        make_record(
            make_cell("aarch64", "6.12", expect="issue 412: 16k pages break the index"),
            Verdict.FAIL,
            "check 'check' exited with 1",
            expected=True,
        ),
        make_record(make_cell("x86_64", "6.12", expect="issue 99: flaky clock"), expected=False),
    ]


def write_run(
    reports: Path, records: Iterable[Record], title: str = "influxdb", interrupted: bool = False
) -> tuple[Run, Path]:
    """A finished run on disk, with consoles."""
    writer = RunWriter.create(reports, title)
    for record in records:
        folder = writer.folder(record.cell)
        if record.console:
            (folder / record.console).write_text(console_of(record), encoding="utf-8")
        writer.add(record)
    return writer.finish(interrupted=interrupted), writer.path


def write_dated(
    reports: Path, day: int, records: Iterable[Record], title: str = "influxdb", interrupted: bool = False
) -> str:
    """A run as it would have been written on a day of November; its name."""
    run, folder = write_run(reports, records, title, interrupted)
    name = f"2026-11-{day:02}T02-00-00Z-{title}"
    dated = run.model_copy(update={"name": name, "started_at": f"2026-11-{day:02}T02:00:00+00:00"})
    write_model(folder / RUN_FILE, dated)
    started = {"records": (), "ended_at": "", "wall_s": 0.0, "interrupted": False, "unfinished": ()}
    write_model(folder / STARTED_FILE, dated.model_copy(update=started))
    folder.rename(reports / name)
    return name


def console_of(record: Record) -> str:
    """What the guest of a record printed."""
    text = BOOT_LOG.format(release=RELEASES.get(record.cell.kernel, "6.1"))
    return text + (PANIC_LOG if record.verdict is Verdict.PANIC else "reboot: Power down\r\n")

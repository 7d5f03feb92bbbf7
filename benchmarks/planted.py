"""Kernels of one's own: ten planted bugs, each with its verdict and first line, and the loop of make and boot."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import guests
from benchmarks.own_kernel import LIMIT_S, OwnKernel, bootmatrix, kernel_test, own_kernel
from benchmarks.peers import settings
from benchmarks.results import Result, median

ARCH = "x86_64"
DEBUG = (
    *("SMP", "BUG", "DEBUG_BUGVERBOSE", "KALLSYMS", "DEBUG_KERNEL", "PROVE_LOCKING", "DETECT_HUNG_TASK"),
    *("SOFTLOCKUP_DETECTOR", "UNWINDER_FRAME_POINTER", "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT", "DEBUG_INFO_REDUCED"),
)
"""Options that find the bugs, and what their first lines name."""
VIRTME = ("VIRTIO_MENU", "NETWORK_FILESYSTEMS", "NET_9P", "NET_9P_VIRTIO", "9P_FS", "INOTIFY_USER", "OVERLAY_FS")
"""Options that virtme-ng needs beside ours."""
HUNG_TASK_S = 10
BARE_RATIO, VIRTME_RATIO = 1.15, 0.9


@dataclass(frozen=True)
class Bug:
    """A bug of planted.c: what sets it off, and the verdict and the beginning of the reason that it must have."""

    name: str
    verdict: str
    reason: str
    append: str = ""
    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    has_own_init: bool = False


SYSFS = "/sys/kernel/planted/bug"
BUGS = (
    Bug("BUG in an initcall", "panic", r"kernel BUG at lib/planted\.c:\d+, at planted_bug\+0x", "planted=bug"),
    Bug(
        "NULL in an initcall",
        "panic",
        r"BUG: kernel NULL pointer dereference.*, at planted_dereference\+0x\S+ \(lib/planted\.c:\d+\)",
        "planted=null",
    ),
    Bug(
        "NULL by sysfs",
        "fail",
        r"the kernel reported a fault: BUG: kernel NULL pointer dereference.*, at planted_dereference\+0x\S+ \(lib/",
        command=("sh", "-c", f"echo null >{SYSFS}"),
    ),
    Bug(
        "WARN",
        "fail",
        r"the kernel reported a fault: WARNING: .*at lib/planted\.c:\d+ planted_warn\+0x",
        "planted=warn",
        options=("--fail-on-warning",),
    ),
    Bug(
        "lockdep",
        "fail",
        r"the kernel reported a fault: WARNING: possible circular locking dependency detected",
        "planted=lockdep",
    ),
    Bug(
        "hung task",
        "fail",
        rf"the kernel reported a fault: INFO: task sh:\d+ blocked for more than {HUNG_TASK_S} seconds",
        f"sysctl.kernel.hung_task_timeout_secs={HUNG_TASK_S}",
        command=("sh", "-c", f"echo wait >{SYSFS}"),
    ),
    Bug(
        "initcall that waits for ever",
        "hang",
        r"the guest hangs in phase boot: .*initcall planted_init\+0x\S+ did not return; CPU 0 at \w*(?:idle|halt)",
        "planted=wait",
    ),
    Bug(
        "IRQs off",
        "hang",
        r"the guest hangs in phase boot: .*initcall planted_init\+0x\S+ did not return; "
        r"CPU 0 at planted_spin\+0x\S+ \(lib/planted\.c:\d+\).*, interrupts off",
        "planted=irqs-off",
    ),
    Bug(
        "IRQs off by sysfs",
        "hang",
        r"the guest hangs in phase \w+: .*; by a second boot: all initcalls returned; "
        r"CPU 0 at planted_spin\+0x\S+ \(lib/planted\.c:\d+\).*, interrupts off",
        command=("sh", "-c", f"echo irqs-off >{SYSFS}"),
        options=("--cpus", "1", "--timeout", "40s"),  # longer than a silence that is a hang
    ),
    Bug(
        "init that sleeps",
        "hang",
        r"the guest hangs in phase boot: .*; init \(busybox\) sleeps in \w*sleep.*: all initcalls returned; CPU 0 at ",
        has_own_init=True,
    ),
)


def planted(args: argparse.Namespace) -> Iterator[Result]:
    """The ten bugs, on a kernel built here with what finds them."""
    with own_kernel(args, "bugs", ARCH) as kernel:
        if kernel is None:
            return
        kernel.configure((), DEBUG)
        kernel.make()
        for bug in BUGS:
            yield _try(args, bug, kernel)


def _try(args: argparse.Namespace, bug: Bug, kernel: OwnKernel) -> Result:
    words = [*bug.options, "--explain-hang", *(["--append", bug.append] if bug.append else [])]
    with tempfile.TemporaryDirectory() as reports:
        started = time.monotonic()
        if bug.has_own_init:
            _sleep(args, kernel, Path(reports))
        else:
            kernel_test(args, kernel, Path(reports), words, bug.command)
        wall_s = time.monotonic() - started
        run = json.loads((Path(reports) / "latest/run.json").read_bytes())
    (record,) = run["records"]
    verdict, reason = (record["judgement"][key] for key in ("verdict", "reason"))
    return Result(
        name=f"planted: {bug.name}",
        value=f"{verdict}: {reason.replace('|', '/')} ({wall_s:.0f} s)",
        target=f"{bug.verdict}, and where",
        ok=verdict == bug.verdict and re.match(bug.reason, reason) is not None,
    )


def _sleep(args: argparse.Namespace, kernel: OwnKernel, reports: Path) -> None:
    """Boot the kernel with an init that sleeps."""
    folder = reports / "project"
    kernels = {"planted": {ARCH: {"parts": [{"kind": "tree", "path": str(kernel.out)}]}}}
    init = {"path": "init", "mode": "0755", "contents": "#!/bin/busybox sh\nexec /bin/busybox sleep 3600\n"}
    files = {
        "images/sleeps/build.yml": {"from": "bootmatrix/busybox", "files": [init]},
        "sleeps.yml": {"init": ["@pkg:./images/sleeps"]},
        "sleeps.matrix.yml": {"specs": ["sleeps.yml"], "arch": [ARCH], "kernel": ["planted"], "console": "never shown"},
        "kernels.yml": {"kernels": kernels},
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(data), encoding="utf-8")
    words = ["matrix", str(folder / "sleeps.matrix.yml"), "--explain-hang", "--reports", str(reports)]
    bootmatrix(args, words, {"BOOTMATRIX_KERNELS": str(folder / "kernels.yml")})


def loop(args: argparse.Namespace) -> Iterator[Result]:
    """From the end of make to the verdict, beside QEMU by hand and virtme-ng with the same kernel, in turns."""
    with own_kernel(args, "loop", ARCH) as kernel, tempfile.TemporaryDirectory() as name:
        if kernel is None:
            return
        folder = Path(name)
        kernel.configure(("agent",), VIRTME)
        kernel.make()
        kernel_test(args, kernel, folder / "reports", ["--save", str(folder / "project")])
        ways: dict[str, Callable[[], None]] = {
            "ours": partial(_ours, args, kernel, folder),
            "bare": partial(_bare, args, kernel, folder),
            **({"virtme-ng": partial(_virtme_ng, kernel.out)} if shutil.which("vng") else {}),
        }
        samples: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.pairs):
            for way, boot in ways.items():
                (kernel.tree / "init/version.c").touch()  # so that each way has a kernel that it has not seen
                kernel.make()
                started = time.monotonic()
                boot()
                samples[way].append(time.monotonic() - started)
    yield _ratio("QEMU by hand", samples["ours"], samples["bare"], BARE_RATIO)
    if "virtme-ng" in samples:
        yield _ratio("virtme-ng", samples["ours"], samples["virtme-ng"], VIRTME_RATIO)
    else:
        print("left out: virtme-ng: it is not installed", file=sys.stderr)


def _ours(args: argparse.Namespace, kernel: OwnKernel, folder: Path) -> None:
    if kernel_test(args, kernel, folder / "reports", []):
        raise guests.BenchmarkError("kernel-test: the unplanted kernel does not pass")


def _bare(args: argparse.Namespace, kernel: OwnKernel, folder: Path) -> None:
    """Boot the kernel in QEMU, with the settings of others, and an initrd made once."""
    common = settings()
    prefix = folder / "bare"
    if not (folder / "bare-initrd.img").exists():
        spec = folder / "project/kernel-test.yml"
        words = ["build", str(spec), "--arch", ARCH, "--kernel", kernel.out.name, "-o", str(prefix)]
        bootmatrix(args, words, {"BOOTMATRIX_KERNELS": str(folder / "project/kernels.yml")})
    cmdline = f"console={common[ARCH]['console']} panic=-1 {(folder / 'bare-cmdline').read_text(encoding='utf-8')}"
    command = (
        *("qemu-system-x86_64", *common["common"], *common[ARCH]["arguments"]),
        *("-kernel", str(kernel.out / "arch/x86/boot/bzImage"), "-initrd", f"{prefix}-initrd.img", "-append", cmdline),
    )
    guests.boot_by(command, "QEMU by hand", LIMIT_S)


def _virtme_ng(out: Path) -> None:
    """Boot the kernel as virtme-ng does.

    Without an initramfs it needs CONFIG_BLOCK, to mount its 9p share as /dev/root. Without udev on the host, its guest
    finds no ports for output and status, and prints on the console: shown with --verbose.
    """
    image = str(out / "arch/x86/boot/bzImage")
    words = ("--verbose", "--run", image, "--disable-kvm", "--force-initramfs", "--", "echo", "end pass")
    guests.boot_by(("vng", *words), "virtme-ng", LIMIT_S)


def _ratio(other: str, ours_s: list[float], others_s: list[float], target: float) -> Result:
    ratio = median([one / two for one, two in zip(ours_s, others_s, strict=True)])
    return Result(
        name=f"own kernel, make → verdict, kernel-test ÷ {other}",
        value=f"{median(ours_s):.2f} s, {median(others_s):.2f} s: ×{ratio:.3f}",
        target=f"×{target}",
        ok=ratio <= target,
        details={"ours_s": ours_s, "others_s": others_s},
    )

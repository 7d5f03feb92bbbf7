"""Kernels of one's own: nine planted bugs, each with its verdict and first line, and the loop of make and boot."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import guests, own_kernel
from benchmarks.peers import settings
from benchmarks.results import Result, median

ARCH = "x86_64"
DEBUG = (
    *("SMP", "BUG", "DEBUG_BUGVERBOSE", "KALLSYMS", "DEBUG_KERNEL", "PROVE_LOCKING", "DETECT_HUNG_TASK"),
    *("SOFTLOCKUP_DETECTOR", "UNWINDER_FRAME_POINTER", "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT", "DEBUG_INFO_REDUCED"),
)
"""Options that find the bugs, and what their first lines name."""
VIRTME = ("VIRTIO_MENU", "NETWORK_FILESYSTEMS", "NET_9P", "NET_9P_VIRTIO", "9P_FS", "INOTIFY_USER")
"""Options that virtme-ng needs beside ours."""
HUNG_TASK_S = 10
BARE_RATIO, VIRTME_RATIO = 1.15, 0.9
LIMIT_S = 600


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
        r"the guest hangs in phase boot: .*initcall planted_init\+0x\S+ did not return; CPU 0 at \w*idle",
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
        "init that sleeps",
        "hang",
        r"the guest hangs in phase boot: .*by a second boot: all initcalls returned; CPU 0 at \w*idle",
        has_own_init=True,
    ),
)


def planted(args: argparse.Namespace) -> Iterator[Result]:
    """The nine bugs, on a kernel built here with what finds them."""
    with _trees(args) as folder:
        if folder is None:
            return
        tree = own_kernel.unpacked(args.linux, folder)
        own_kernel.configured(tree, folder / "bugs", ARCH, (), DEBUG)
        own_kernel.make(tree, folder / "bugs")
        for bug in BUGS:
            yield _try(args, bug, folder / "bugs")


def _try(args: argparse.Namespace, bug: Bug, tree: Path) -> Result:
    words = [*bug.options, "--explain-hang", *(["--append", bug.append] if bug.append else [])]
    with tempfile.TemporaryDirectory() as reports:
        started = time.monotonic()
        if bug.has_own_init:
            _sleep(args, tree, Path(reports))
        else:
            _kernel_test(args, tree, Path(reports), words, bug.command)
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


def _sleep(args: argparse.Namespace, tree: Path, reports: Path) -> None:
    """Boot the kernel with an init that sleeps."""
    folder = reports / "project"
    kernel = {"planted": {ARCH: {"parts": [{"kind": "tree", "path": str(tree)}]}}}
    init = {"path": "init", "mode": "0755", "contents": "#!/bin/busybox sh\nexec /bin/busybox sleep 3600\n"}
    files = {
        "images/sleeps/build.yml": {"from": "bootmatrix/busybox", "files": [init]},
        "sleeps.yml": {"init": ["@pkg:./images/sleeps"]},
        "sleeps.matrix.yml": {"specs": ["sleeps.yml"], "arch": [ARCH], "kernel": ["planted"], "console": "never shown"},
        "kernels.yml": {"kernels": kernel},
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(data), encoding="utf-8")
    words = ["matrix", str(folder / "sleeps.matrix.yml"), "--explain-hang", "--reports", str(reports)]
    _bootmatrix(args, words, {"BOOTMATRIX_KERNELS": str(folder / "kernels.yml")})


def loop(args: argparse.Namespace) -> Iterator[Result]:
    """From the end of make to the verdict, beside QEMU by hand and virtme-ng with the same kernel, in turns."""
    with _trees(args) as folder:
        if folder is None:
            return
        tree, out = own_kernel.unpacked(args.linux, folder), folder / "loop"
        own_kernel.configured(tree, out, ARCH, ("agent",), VIRTME)
        own_kernel.make(tree, out)
        _kernel_test(args, out, folder / "reports", ["--save", str(folder / "project")], ())
        ways: dict[str, Callable[[], None]] = {
            "ours": partial(_ours, args, out, folder),
            "bare": partial(_bare, args, out, folder),
            **({"virtme-ng": partial(_virtme_ng, out)} if shutil.which("vng") else {}),
        }
        samples: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.pairs):
            for way, boot in ways.items():
                (tree / "init/version.c").touch()  # so that each way has a kernel that it has not seen
                own_kernel.make(tree, out)
                started = time.monotonic()
                boot()
                samples[way].append(time.monotonic() - started)
    yield _ratio("QEMU by hand", samples["ours"], samples["bare"], BARE_RATIO)
    if "virtme-ng" in samples:
        yield _ratio("virtme-ng", samples["ours"], samples["virtme-ng"], VIRTME_RATIO)
    else:
        print("left out: virtme-ng: it is not installed", file=sys.stderr)


def _ours(args: argparse.Namespace, out: Path, folder: Path) -> None:
    if _kernel_test(args, out, folder / "reports", [], ()):
        raise guests.BenchmarkError("kernel-test: the unplanted kernel does not pass")


def _bare(args: argparse.Namespace, out: Path, folder: Path) -> None:
    """Boot the kernel in QEMU, with the settings of others, and an initrd made once."""
    common = settings()
    prefix = folder / "bare"
    if not (folder / "bare-initrd.img").exists():
        spec = folder / "project/kernel-test.yml"
        words = ["build", str(spec), "--arch", ARCH, "--kernel", out.name, "-o", str(prefix)]
        _bootmatrix(args, words, {"BOOTMATRIX_KERNELS": str(folder / "project/kernels.yml")})
    cmdline = f"console={common[ARCH]['console']} panic=-1 {(folder / 'bare-cmdline').read_text(encoding='utf-8')}"
    command = (
        *("qemu-system-x86_64", *common["common"], *common[ARCH]["arguments"]),
        *("-kernel", str(out / "arch/x86/boot/bzImage"), "-initrd", f"{prefix}-initrd.img", "-append", cmdline),
    )
    guests.boot_by(command, "QEMU by hand", LIMIT_S)


def _virtme_ng(out: Path) -> None:
    words = ("--run", str(out / "arch/x86/boot/bzImage"), "--disable-kvm", "--", "echo", "end pass")
    guests.boot_by(("vng", *words), "virtme-ng", LIMIT_S, status=0)


def _ratio(other: str, ours_s: list[float], others_s: list[float], target: float) -> Result:
    ratio = median([one / two for one, two in zip(ours_s, others_s, strict=True)])
    return Result(
        name=f"own kernel, make → verdict, kernel-test ÷ {other}",
        value=f"{median(ours_s):.2f} s, {median(others_s):.2f} s: ×{ratio:.3f}",
        target=f"×{target}",
        ok=ratio <= target,
        details={"ours_s": ours_s, "others_s": others_s},
    )


def _kernel_test(
    args: argparse.Namespace, tree: Path, reports: Path, options: Sequence[str], command: Sequence[str]
) -> int:
    words = ["kernel-test", str(tree), "--reports", str(reports), *options, *(["--", *command] if command else [])]
    return _bootmatrix(args, words)


def _bootmatrix(args: argparse.Namespace, words: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    cache = ["--cache", str(args.cache)] if args.cache else []
    at = words.index("--") if "--" in words else len(words)
    command = [str(guests.PROGRAM), *words[:at], *cache, *words[at:]]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=LIMIT_S, check=False
    )
    if done.returncode not in {0, 1}:
        raise guests.BenchmarkError(f"{' '.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.returncode


@contextmanager
def _trees(args: argparse.Namespace) -> Iterator[Path | None]:
    """Provide the folder in which kernels are built: that of --trees, which is kept, or a temporary one.

    None without a source.
    """
    if args.linux is None:
        print(f"left out: kernels of one's own: no {own_kernel.ARCHIVE}", file=sys.stderr)
        yield None
    elif args.trees:
        yield args.trees.absolute()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

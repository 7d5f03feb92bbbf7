"""Check machine types and CPU models of the installed QEMU before any download."""

import json
import subprocess
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from bootmatrix.errors import QemuUnsuitable
from bootmatrix.model import Machine
from bootmatrix.qemu.command import DISK_BUSES
from bootmatrix.qemu.version import find_qemu
from bootmatrix.store import Memos

LIMIT_S = 30
"""More than QEMU takes to list its models, even from a cold disk on a busy host."""
MAX_SAID = 300
_CHECKED: set[tuple[str | int, ...]] = set()


def check_machine(machine: Machine, memory: Memos) -> None:
    """Check that QEMU has the machine type and CPU model; cached.

    Raises QemuUnsuitable if it lacks one, HostError if QEMU is not installed.
    """
    path, build = find_qemu(machine), _build(machine)
    key = json.dumps(build)
    if memory.memo("qemu-machine", key) is None:
        _check_type(machine, path)
        _check_cpu(machine, path)
        memory.set_memo("qemu-machine", key, b"1")
    _CHECKED.add(build)


def is_checked(machine: Machine) -> bool:
    """Return whether this process checked a machine. Raises QemuMissing."""
    return _build(machine) in _CHECKED


def _build(machine: Machine) -> tuple[str | int, ...]:
    """Return what a check depends on."""
    path = find_qemu(machine)
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns, machine.machine, machine.cpu or ""


def _check_type(machine: Machine, path: Path) -> None:
    name = machine.machine.partition(",")[0]
    listed = _listed(path, "-machine")
    if listed and "=" not in name and name not in {line.partition(" ")[0] for line in listed.splitlines()}:
        raise QemuUnsuitable(
            f"{path}: unsupported machine type {name!r}",
            f"Its profile says 'machine: {machine.machine}'; '{machine.qemu} -M help' lists the available ones.",
        )


def _check_cpu(machine: Machine, path: Path) -> None:
    """Check the CPU model. If the list lacks it, try it: some have other names there."""
    name = (machine.cpu or "").partition(",")[0]
    if not name or name.lower() in (listed := _listed(path, "-cpu").lower()) or not listed:
        return
    words = (path, "-machine", machine.machine, "-cpu", machine.cpu or "", "-nodefaults", "-display", "none", "-S")
    models = _output(*words, "-monitor", "stdio", said="quit\n")[1]
    if "cpu" in models.lower() and name in models:
        raise QemuUnsuitable(
            f"{path}: {' '.join(models.split())[:MAX_SAID]}",
            f"Its profile says 'cpu: {machine.cpu}'; '{machine.qemu} -M {machine.machine} -cpu help' lists them.",
        )


@lru_cache(maxsize=64)
def _listed(path: Path, option: str) -> str:
    """Return QEMU's list of a kind; empty if unknown."""
    printed, _ = _output(path, option, "help")
    return printed


def _output(*words: str | Path, said: str = "") -> tuple[str, str]:
    """Return stdout and stderr of a command; stdout is empty if it fails."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            words, input=said, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False
        )
        return ("" if done.returncode else done.stdout), done.stderr
    return "", ""


def why_never(machine: Machine) -> str:
    """Return why no guest of a machine can be forked; empty if some can."""
    reasons = {
        "the machine has no virtio bus": machine.bus not in DISK_BUSES or machine.result != "virtio-serial",
        "the machine has flash memory": bool(machine.flash),
        "QEMU does not restore saved guests of this machine": not machine.forks,
        "only an emulated CPU is forked": not machine.emulated().is_emulated(),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")

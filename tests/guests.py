"""Machines, things to boot and outcomes for tests of booting and judging."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.model import Artefact, Bootable, GuestMessage, Machine, Outcome, QmpEvent, Timeouts
from bootmatrix.operating_system import is_portable
from fake_qemu import KERNEL, RELEASE, TEXTS

LINUX = pytest.mark.skipif(is_portable(), reason="of what only Linux has, such as copies of guests")
CORPUS = Path(__file__).parent / "corpus"
QUICK = Timeouts(boot=5, onboot=5, services=3, shutdown=3, silence=3)


def make_machine(**changes: Any) -> Machine:
    """A machine that the fake QEMU emulates."""
    values: dict[str, Any] = {
        "description": "a board that only the tests have",
        "qemu": "qemu-system-fake",
        "qemu_package": "qemu-system-fake",
        "min_qemu": "7.0",
        "machine": "board,option=on",
        "cpu": "any",
        "memory_mib": 128,
        "console": "ttyS0",
        "cmdline": ("panic=-1",),
        "kernel_form": "Image",
        "bus": "virtio-pci",
        "network": "virtio-net-pci,romfile=",
        "result": "virtio-serial",
        "exit": "poweroff",
        "time_factor": 1.0,
    }
    return Machine.model_validate({**values, **changes})


def artefact(kind: Any, path: str) -> Artefact:
    """A file that need not be there."""
    return Artefact(kind=kind, name=path, path=path, sha256=hashlib.sha256(path.encode()).hexdigest(), size_bytes=1)


def make_bootable(**changes: Any) -> Bootable:
    """Two onboot containers of one name, a service, two checks, and one container for the end."""
    values: dict[str, Any] = {
        "kernel": artefact("kernel", "/store/kernel"),
        "kernel_release": RELEASE,
        "initrd": artefact("initrd", "/store/initrd"),
        "onboot": ("prepare", "prepare"),
        "services": ("server",),
        "checks": {"ping": 1.0, "write": 1.0},
        "onshutdown": ("sweep",),
        "protocol": 2,
    }
    return Bootable.model_validate({**values, **changes})


def make_messages(texts: tuple[str, ...] = TEXTS, end: str = "pass") -> tuple[GuestMessage, ...]:
    """Messages of these texts, with an end if one is given, and the kernel's account before it."""
    account = () if any(text.startswith("kernel ") for text in texts) else (KERNEL,)
    ends = (*account, f"end {end} {'a' * 64}") if end else ()
    return tuple(
        GuestMessage(kind=text.split(" ")[0], words=tuple(text.split(" ")[1:]), at_s=float(number), sequence=number)
        for number, text in enumerate((*texts, *ends), 1)
    )


def left(reason: str = "guest-shutdown") -> QmpEvent:
    """The event of a guest that leaves."""
    return QmpEvent(name="SHUTDOWN", data={"guest": True, "reason": reason}, at_s=20)


def make_outcome(**changes: Any) -> Outcome:
    """A perfect one."""
    values: dict[str, Any] = {
        "exit_status": 0,
        "ended_by": "guest",
        "messages": make_messages(),
        "events": (
            QmpEvent(name="RESUME", at_s=0.1),
            left(),
            QmpEvent(name="STOP", at_s=20),
            QmpEvent(name="SHUTDOWN", data={"guest": False, "reason": "host-qmp-quit"}, at_s=20.1),
        ),
        "started_at": "2026-01-01T00:00:00+00:00",
        "wall_s": 20.2,
        "boot_s": 1.0,
    }
    return Outcome.model_validate({**values, **changes})


def set_up(command: list[str], said: bytes) -> subprocess.CompletedProcess[bytes]:
    """Have QEMU set up a machine without a kernel, and tell its monitor something; some want any firmware then."""
    done = subprocess.run(command, input=said, capture_output=True, timeout=60, check=False)
    if done.returncode == 0 or b"bios" not in done.stderr:
        return done
    with tempfile.NamedTemporaryFile() as firmware:
        firmware.truncate(1 << 20)
        again = [*command, "-bios", firmware.name]
        return subprocess.run(again, input=said, capture_output=True, timeout=60, check=False)

"""Whether KVM works. Only a guest that boots is a proof: the device can be there, and answer, and yet boot nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bootmatrix.boot.guest import boot
from bootmatrix.model import Bootable, Machine, Outcome, Timeouts

DEVICE = Path("/dev/kvm")
CPUS = ("host", "max")
"""Tried one after the other: some hosts boot guests with one of them only."""


async def kvm_boots(machine: Machine, bootable: Bootable, limit_s: float = 10.0) -> tuple[bool, str]:
    """Whether a guest reaches its init under KVM, each way within `limit_s`; and how that was found, in one line.

    Raises:
        HostError: QEMU is not installed.
    """
    if not DEVICE.exists():
        return False, f"there is no {DEVICE}: the host has no virtualisation, or kvm's modules are not loaded"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return False, f"{DEVICE} cannot be opened: add yourself to its group, and log in again"
    failures = []
    for cpu in CPUS:
        outcome = await _try(machine, bootable, cpu, limit_s)
        if outcome.boot_s is not None:
            return True, f"a guest booted with -cpu {cpu} in {outcome.boot_s:.1f} s"
        failures.append(f"-cpu {cpu}: {_why(outcome)}")
    return False, "no guest boots; " + "; ".join(failures)


async def _try(machine: Machine, bootable: Bootable, cpu: str, limit_s: float) -> Outcome:
    tried = machine.model_copy(update={"accelerators": ("kvm",), "cpu": cpu, "time_factor": 1.0})
    timeouts = Timeouts(boot=limit_s, silence=limit_s, onboot=1, services=1, shutdown=1)
    with tempfile.TemporaryDirectory(prefix="bootmatrix-kvm-") as folder:
        return await boot(tried, bootable, timeouts, Path(folder))


def _why(outcome: Outcome) -> str:
    if outcome.ended_by == "error":
        return " ".join(outcome.host_error.split())[-300:]
    if outcome.ended_by == "host":
        return f"it hangs, after {outcome.console_bytes} bytes on its console"
    return "it left before its init ran"

"""Accelerators such as KVM.

Only a booted guest proves that an accelerator works: its device may exist and answer, and yet boot nothing.
"""

import json
import os
import platform
import time

import anyio

from bootmatrix.boot.guest import boot
from bootmatrix.errors import HostError
from bootmatrix.model import Accelerator, Bootable, Machine, Outcome, Timeouts
from bootmatrix.qemu.sandbox import KVM
from bootmatrix.qemu.version import find_qemu, qemu_version
from bootmatrix.store import Memos, temporary_folder

REFUSED_S = 3600
"""Interval before retrying an accelerator that QEMU refused; each try takes a tenth of a second. Another user or other
rights cause a retry at once."""
LIMIT_S = 15.0
"""An accelerated guest reaches its init within about two seconds, on a busy host too."""


class Accelerators:
    """Select the first accelerator of a profile that works here; else emulate.

    Results are cached for this host's kernel, this QEMU and this machine; that no guest boots, for the guest's kernel.
    """

    def __init__(self, memory: Memos) -> None:
        self._memory, self._turn = memory, anyio.Lock()

    async def choose(self, machine: Machine, bootable: Bootable) -> Machine:
        """Return the machine with an accelerator that booted this guest, or emulated."""
        for accelerator in machine.native():
            if host() in accelerator.hosts and await self._works(machine, accelerator, bootable):
                return accelerated(machine, accelerator)
        return machine.emulated()

    async def _works(self, machine: Machine, accelerator: Accelerator, bootable: Bootable) -> bool:
        key = _key(machine, accelerator)
        async with self._turn:
            failed = _guest_key(key, bootable)
            known = self._memory.memo("accelerator", key) or self._memory.memo("accelerator", failed)
            if known is not None:
                return known == b"1"
            attempt = _attempt(machine, accelerator, bootable)
            if self._is_refused(attempt):
                return False
            outcome = await _try(accelerated(machine, accelerator), bootable, LIMIT_S)
            if outcome is None or outcome.ended_by == "error":
                self._memory.set_memo("accelerator-refused", attempt, f"{time.time()}".encode())
                return False
            works = outcome.boot_s is not None
            self._memory.set_memo("accelerator", key if works else failed, b"1" if works else b"0")
            return works

    def _is_refused(self, attempt: str) -> bool:
        at = self._memory.memo("accelerator-refused", attempt)
        return at is not None and 0 <= time.time() - float(at) < REFUSED_S


def host() -> str:
    """Return this host as `hosts` in a profile names it: `Linux/` and `uname -m`."""
    return f"{platform.system()}/{platform.machine()}"


def accelerated(machine: Machine, accelerator: Accelerator) -> Machine:
    """Return a machine with an accelerator and its settings."""
    changed = {
        "accelerators": (accelerator.name,),
        "cpu": accelerator.cpu,
        "machine": accelerator.machine or machine.machine,
    }
    return machine.model_copy(update={**changed, "qemu": accelerator.qemu or machine.qemu})


async def accelerator_boots(
    machine: Machine, accelerator: Accelerator, bootable: Bootable, limit_s: float = LIMIT_S
) -> tuple[bool, str]:
    """Return whether a guest reaches its init within `limit_s`, and a summary line."""
    outcome = await _try(accelerated(machine, accelerator), bootable, limit_s)
    ways = f"{accelerator.name}, -cpu {accelerator.cpu}"
    if outcome is None:
        return False, f"{ways}: its QEMU is not installed"
    if outcome.boot_s is not None:
        return True, f"{ways}: a guest booted in {outcome.boot_s:.1f} s"
    return False, f"{ways}: no guest boots: {_why(outcome)}"


async def _try(machine: Machine, bootable: Bootable, limit_s: float) -> Outcome | None:
    tried = machine.model_copy(update={"time_factor": 1.0})
    timeouts = Timeouts(boot=limit_s, silence=limit_s, onboot=1, services=1, shutdown=1)
    with temporary_folder() as folder:
        try:
            return await boot(tried, bootable, timeouts, folder)
        except HostError:
            return None


def _key(machine: Machine, accelerator: Accelerator) -> str:
    """Return a key of all inputs of the result: host kernel, QEMU and machine."""
    changed = accelerated(machine, accelerator)
    try:
        version, stat = qemu_version(changed), find_qemu(changed).stat()
    except HostError:
        version, stat = "", None
    build = [version, stat.st_mtime_ns, stat.st_size] if stat else []
    return json.dumps(
        [host(), platform.release(), platform.version(), build, changed.machine, accelerator.model_dump()]
    )


def _guest_key(key: str, bootable: Bootable) -> str:
    """Return a key of a guest that did not boot: the guest may be the reason.

    With our init it is the kernel with its command line, which many guests share.
    """
    parts = (bootable.kernel,) if bootable.reports and bootable.kernel else bootable.parts().values()
    return json.dumps([key, bootable.cmdline, *bootable.qemu_args, *(part.sha256 for part in parts)])


def _attempt(machine: Machine, accelerator: Accelerator, bootable: Bootable) -> str:
    """Return a key of a refusal: arguments, rights, state of KVM's device."""
    inputs = [_key(machine, accelerator), accelerated(machine, accelerator).model_dump_json(), *bootable.qemu_args]
    device = KVM.stat() if KVM.exists() else None
    state = [device.st_rdev, device.st_ctime_ns] if device else []
    return json.dumps([inputs, os.geteuid(), sorted(os.getgroups()), state])


def _why(outcome: Outcome) -> str:
    if outcome.ended_by == "error":
        return " ".join(outcome.host_error.split())[-300:]
    if outcome.ended_by == "host":
        return f"it hangs, after {outcome.console_bytes} bytes on its console"
    return "it left before its init ran"

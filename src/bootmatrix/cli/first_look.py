"""A look at the host before a download: all that is missing, one command."""

from collections.abc import Iterable
from pathlib import Path

from bootmatrix.cli.doctor import HostCheck, disk, emulator, keyring, program
from bootmatrix.errors import HostError
from bootmatrix.model import Machine
from bootmatrix.qemu.disk import MAKER
from bootmatrix.qemu.outbound import PROGRAM

LEAST_DISK_MIB = 1024
"""Room for the kernel, the packages and the initrd of a small trial."""


def check_host(machines: Iterable[Machine], cache: Path | None, *, offline: bool, outbound: bool = False) -> None:
    """Check all that a run needs of this host: the machines in their size.

    Raises HostError if something is missing; the hint has one command that installs all of it.
    """
    machines = tuple(machines)
    needed = {machine.qemu: machine for machine in machines}
    scratch = any(machine.scratch_mib for machine in machines)
    checks = [
        *(emulator(machine) for machine in needed.values()),
        program("setpriv", "ends QEMU together with bootmatrix"),
        *(() if offline else (program("gpgv", "verifies the archive's signatures"), keyring())),
        *((program(PROGRAM, "gives guests an outbound network"),) if outbound else ()),
        *((program(MAKER, "makes scratch disks"),) if scratch else ()),
        disk(cache, LEAST_DISK_MIB),
    ]
    missing = [check for check in checks if check.state == "missing"]
    if missing:
        lines = "\n".join(f"  {check.name}: {check.detail}" for check in missing)
        raise HostError(f"this host lacks what the run needs:\n{lines}", _command(missing))


def _command(missing: Iterable[HostCheck]) -> str:
    """Join hints that install packages in one command, and put the others behind it."""
    installs: dict[str, list[str]] = {}
    others = []
    for check in missing:
        command, _, package = check.hint.rpartition(" ")
        if command.startswith("sudo "):
            installs.setdefault(command, []).append(package)
        else:
            others.append(check.hint)
    lines = [f"{command} {' '.join(dict.fromkeys(packages))}" for command, packages in installs.items()]
    return "\n  ".join(dict.fromkeys((*lines, *others)))

"""User-mode emulation: emulator, registration, containers' commands.

Everything runs in namespaces of our own, made by bubblewrap without root. The kernel of the host serves the system
calls.
"""

import os
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import HostError
from bootmatrix.model import Profile
from bootmatrix.model.user_tier import UserContainer
from bootmatrix.packaged import packaged
from bootmatrix.qemu.sandbox import LEASH, OWN_UIDS, STILL_OURS

BWRAP = "bwrap"
ELF_BYTES = 20
"""Magic, class, byte order and machine of an ELF header (elf(5))."""
MASK = b"\xff" * 7 + b"\x00" + b"\xff" * 8
"""All of e_ident but EI_OSABI; the type and the machine follow."""
TREE_MIB = 2048
"""Limit of all files of a guest's tree and of what its containers write: a tmpfs."""
LOG_FOLDER = "/dev/.emulator"
"""Folder of a container where the emulator lists what it lacks."""
BASE = "/tmp"  # noqa: S108  (a tmpfs in a namespace of its own)
ELF = b"\x7fELF"
MARK_AT = 9
"""Place of a mark in e_ident's padding (elf(5)), which programs have as zeros, of the tools that are not refused."""
MARK = "\\001"
TOOLS = "awk bwrap cat find fold head mkdir mount sed sleep sort timeout"
"""Programs of this host that the script runs after the registration."""
NAME = re.compile(r"[A-Za-z0-9_.+-]+")
MIN_KERNEL = (6, 7)
"""The first kernel with a binfmt_misc for each user namespace (its release notes)."""


@dataclass(frozen=True)
class Emulator:
    """An emulator's program, and the beginning of the programs that it runs."""

    program: Path
    header: bytes

    @property
    def rules(self) -> tuple[str, str]:
        """The kernel's rules (admin-guide/binfmt-misc.rst). F: opened now; P: argv[0].

        The newest is tried first: programs of the emulated architecture. All other ones lead to an empty file, which
        nothing can run: a processor of that architecture does not run them either.
        """
        foreign = ELF[:4] + bytes(ELF_BYTES - 4)
        mask = b"\xff" * 4 + bytes(MARK_AT - 4) + b"\xff" * (16 - MARK_AT) + bytes(4)
        refusal = f":foreign:M::{_escaped(foreign)}:{_escaped(mask)}:{BASE}/bin/foreign:F"
        little = self.header[5] == 1
        kind = b"\x02\x00" if little else b"\x00\x02"
        kind_mask = b"\xfe\xff" if little else b"\xff\xfe"  # EXEC and DYN differ in the last bit
        magic = self.header[:7] + bytes(9) + kind + self.header[18:20]
        rule = f":bootmatrix:M::{_escaped(magic)}:{_escaped(MASK + kind_mask + bytes([255, 255]))}:{BASE}/emulator:PF"
        return refusal, rule


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def find_emulator(profile: Profile, header: bytes) -> Emulator | None:
    """Find the emulator for an ELF header; None if the host runs it.

    Raises HostError if it is not installed, or the kernel cannot register it for a user.
    """
    if shutil.which(BWRAP) is None:
        raise HostError(f"{BWRAP} is not installed", "Install it: sudo apt-get install bubblewrap")
    if _identity(header) == _identity(Path(sys.executable).read_bytes()[:ELF_BYTES]):
        return None
    names = dict.fromkeys((profile.names.gnu.partition("-")[0], profile.names.oci.split("/")[1], profile.names.qemu))
    for name in names:
        for program in (f"qemu-{name}-static", f"qemu-{name}"):
            if path := shutil.which(program):
                return Emulator(Path(path).resolve(), header)
    raise HostError(
        f"user-mode emulation of {profile.name} is not installed", "Install it: sudo apt-get install qemu-user-static"
    )


def _identity(header: bytes) -> tuple[bytes, bytes]:
    return header[4:6], header[18:20]


def check_kernel(release: str) -> None:
    """Check that users can register an emulator. Raises HostError if not."""
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if version < MIN_KERNEL:
        wanted = ".".join(map(str, MIN_KERNEL))
        raise HostError(
            f"the user tier needs Linux {wanted} or later for foreign programs, and this host has {release[:60]}",
            "Use the system tier, which needs no kernel of its own.",
        )


def leashed(command: Sequence[str]) -> tuple[str, ...]:
    """Return a command that ends with us, as its own user if we are root."""
    user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        uid = secrets.choice(OWN_UIDS)
        user = (f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all")
    return (*LEASH, *user, "--", *STILL_OURS, str(os.getpid()), *command)


def sandbox(script: str) -> tuple[str, ...]:
    """Return a script's command in namespaces that end with it and us."""
    alone = ("--unshare-all", "--uid", "0", "--gid", "0", "--die-with-parent", "--cap-add", "ALL")
    view = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--chdir", "/")
    return (BWRAP, *alone, *view, "--", "sh", "-c", script)


def script(containers: Sequence[UserContainer], emulator: Emulator | None, volumes: Iterable[str], cpu: str) -> str:
    """Return the script that runs containers in order.

    Each line of the console is one write below PIPE_BUF, which no other container's interrupts.

    It reads the guest's tree as a tar archive on stdin. Its stdout is the console; its account is on stderr: `start N`,
    `end N STATUS`, `stopping`, `lacks N CALL`, `broken WORDS`, `done`.
    """
    lines = [packaged("qemu/user_mode.sh", size_mib=TREE_MIB, tools=TOOLS, mark=MARK, mark_at=MARK_AT)]
    if emulator:
        lines.append(shlex.join(("emulate", str(emulator.program), *emulator.rules)))
    lines += [f"volume {shlex.quote(name)}" for name in volumes]
    for number, container in enumerate(containers):
        command = shlex.join(_command(number, container, emulator, cpu))
        lines.append(f"prepare {number} {shlex.quote(container.root)}\nc{number}() {{ exec {command}; }}")
    lines += list(_order(containers))
    return "\n".join(lines)


SETTLE_S = 2


def _command(number: int, container: UserContainer, emulator: Emulator | None, cpu: str) -> tuple[str, ...]:
    environment = [text.partition("=") for text in container.environment if "=" in text]
    if emulator:
        environment += [("QEMU_LOG", "=", "unimp"), ("QEMU_LOG_FILENAME", "=", f"{LOG_FOLDER}/%d")]
        environment += [("QEMU_CPU", "=", cpu)] if cpu else []
    limit = ("timeout", "-k", "2", f"{container.limit_s:g}") if container.role != "service" else ()
    return (
        *limit,
        *(BWRAP, "--unshare-user", "--uid", str(container.uid), "--gid", str(container.gid)),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--new-session"),
        *(() if container.has_network else ("--unshare-net",)),
        *("--cap-drop", "ALL", "--bind", f"{BASE}/run/{number}/root", "/", "--proc", "/proc", "--dev", "/dev"),
        *(word for name in container.capabilities for word in ("--cap-add", name)),
        *(("--bind", f"{BASE}/log/{number}", LOG_FOLDER) if emulator else ()),
        *(word for path in container.tmpfs for word in ("--tmpfs", path)),
        *(
            word
            for bind in container.binds
            for word in ("--ro-bind" if bind.is_readonly else "--bind", f"{BASE}/guest{bind.source}", bind.destination)
        ),
        *(("--remount-ro", "/") if container.is_readonly else ()),
        *("--clearenv", "--chdir", container.cwd),
        *(word for name, _, value in environment for word in ("--setenv", name, value)),
        "--",
        *container.arguments,
    )


def _order(containers: Sequence[UserContainer]) -> Iterable[str]:
    """Yield steps: onboot, services, checks beside them, stop, onshutdown."""
    numbers: dict[str, list[int]] = {"onboot": [], "service": [], "check": [], "onshutdown": []}
    for number, container in enumerate(containers):
        numbers[container.role].append(number)

    def run(number: int) -> str:
        return f"run {number} {shlex.quote(containers[number].name)}"

    yield "onboot() {"
    yield from (f'\t{run(number)}; [ "$(cat status/{number})" = 0 ] || return 1' for number in numbers["onboot"])
    yield "\ttrue\n}\nif onboot; then"
    yield from (f"\t{run(number)} & s{number}=$!" for number in numbers["service"])
    yield from (f"\t{run(number)} & c{number}=$!" for number in numbers["check"])
    if numbers["check"]:
        yield "\twait " + " ".join(f'"$c{number}"' for number in numbers["check"])
    elif numbers["service"]:
        yield f"\tsleep {SETTLE_S}"
    yield "\techo stopping >&3"
    yield from (f'\tkill -KILL "$(cat pid/{number})"; wait "$s{number}"' for number in numbers["service"])
    yield "\ttrue\nfi"
    yield from (run(number) for number in numbers["onshutdown"])
    yield from (f"lacks {number}" for number in range(len(containers)))
    yield "echo done >&3"

"""Memory, CPUs and scratch disk of a guest, as people ask for them."""

import re
from typing import Annotated

from pydantic import Field, StringConstraints

from bootmatrix.errors import InputError
from bootmatrix.model.base import Model

AUTO = "auto"
"""As much memory as the guest's initrd needs, and the machine's own at least."""
MAX_MEMORY_MIB = 65536
MAX_CPUS = 64
MAX_DISK_MIB = 65536
"""As far as the disks of prebuilt guests: see WRITES_BYTES of qemu/disk.py."""
MEMORY_PATTERN = rf"^([1-9][0-9]{{0,6}}[MG]|{AUTO})$"
MemoryText = Annotated[str, StringConstraints(pattern=MEMORY_PATTERN)]
"""`512M`, `2G` or `auto`."""


LIMIT_PATTERN = r"^[1-9][0-9]{0,6}[MG]$"
LimitText = Annotated[str, StringConstraints(pattern=LIMIT_PATTERN)]
"""A number of bytes: `64M`, `2G`."""


def limit_bytes(text: str) -> int:
    """Return bytes of a size such as `2G`. Raises InputError if it is invalid."""
    if not re.fullmatch(LIMIT_PATTERN, text):
        raise InputError(f"the limit {text!r} must be a size such as 64M or 2G")
    return int(text[:-1]) << {"M": 20, "G": 30}[text[-1]]


class GuestSize(Model):
    """Memory and disk in MiB, and CPUs; None: the machine's. `grows` with the initrd.

    The disk takes what containers write.
    """

    memory_mib: int | None = None
    cpus: int | None = None
    disk_mib: int | None = None
    grows: bool = False

    def over(self, other: "GuestSize") -> "GuestSize":
        """Return this size, completed by another one."""
        has_memory = self.grows or self.memory_mib is not None
        return GuestSize(
            memory_mib=self.memory_mib if has_memory else other.memory_mib,
            cpus=other.cpus if self.cpus is None else self.cpus,
            disk_mib=other.disk_mib if self.disk_mib is None else self.disk_mib,
            grows=self.grows if has_memory else other.grows,
        )

    def largest(self, other: "GuestSize") -> "GuestSize":
        """Return a size that is enough for both."""
        return GuestSize(
            memory_mib=max(filter(None, (self.memory_mib, other.memory_mib)), default=None),
            cpus=max(filter(None, (self.cpus, other.cpus)), default=None),
            disk_mib=max(filter(None, (self.disk_mib, other.disk_mib)), default=None),
            grows=self.grows or other.grows,
        )


class SizeRequest(Model):
    """Resources as files have them: `{memory: 2G, cpus: 2, disk: 4G}`."""

    memory: MemoryText | None = None
    cpus: int | None = Field(default=None, ge=1, le=MAX_CPUS)
    disk: LimitText | None = None

    @property
    def size(self) -> GuestSize:
        """The size in numbers. Raises InputError if one is out of range."""
        return GuestSize(
            memory_mib=None if self.memory in {None, AUTO} else memory_mib(self.memory or ""),
            cpus=self.cpus,
            disk_mib=None if self.disk is None else disk_mib(self.disk),
            grows=self.memory == AUTO,
        )


def memory_mib(text: str, option: str = "") -> int:
    """Parse `512M` or `2G` as MiB. Raises InputError, which names the option."""
    return _mib(text, option, "memory", (64, MAX_MEMORY_MIB))


def disk_mib(text: str, option: str = "") -> int:
    """Parse a scratch disk's size as MiB. Raises InputError."""
    return _mib(text, option, "disk", (16, MAX_DISK_MIB))


def _mib(text: str, option: str, what: str, limits: tuple[int, int]) -> int:
    named = f"{option} {text!r}".lstrip()
    if not re.fullmatch(LIMIT_PATTERN, text):
        raise InputError(f"{named} is not an amount of {what} such as '512M' or '2G'")
    amount, (least, most) = limit_bytes(text) >> 20, limits
    if not least <= amount <= most:
        raise InputError(f"{named}: the {what} of a guest is between {least}M and {most >> 10}G")
    return amount


def parse_size(text: str) -> GuestSize:
    """Parse `memory=2G cpus=2 disk=4G`, or some. Raises InputError otherwise."""
    words = dict(word.partition("=")[::2] for word in text.split())
    if not words or len(words) != len(text.split()) or not words.keys() <= {"memory", "cpus", "disk"}:
        raise InputError(f"{text[:60]!r} must be 'memory=2G cpus=2 disk=4G', or some of these")
    cpus, memory, disk = (words.get(name) for name in ("cpus", "memory", "disk"))
    if cpus is not None and not (cpus.isascii() and cpus.isdecimal() and 1 <= int(cpus[:4]) <= MAX_CPUS):
        raise InputError(f"cpus={cpus[:20]}: must be a number from 1 to {MAX_CPUS}")
    return SizeRequest.model_construct(memory=memory, cpus=int(cpus) if cpus else None, disk=disk).size

"""Memory and CPUs of a guest, as people ask for them."""

import re
from typing import Annotated

from pydantic import Field, StringConstraints

from bootmatrix.errors import InputError
from bootmatrix.model.base import Model

AUTO = "auto"
"""As much memory as the guest's initrd needs, and the machine's own at least."""
MAX_MEMORY_MIB = 65536
MAX_CPUS = 64
MEMORY_PATTERN = rf"^([1-9][0-9]{{0,6}}[MG]|{AUTO})$"
MemoryText = Annotated[str, StringConstraints(pattern=MEMORY_PATTERN)]
"""`512M`, `2G` or `auto`."""


LimitText = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}[MG]$")]
"""A number of bytes: `64M`, `2G`."""


def limit_bytes(text: str) -> int:
    """Return bytes of a size such as `2G`. Raises InputError if it is invalid."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})([MG])", text)
    if match is None:
        raise InputError(f"the limit {text!r} must be a size such as 64M or 2G")
    return int(match[1]) << {"M": 20, "G": 30}[match[2]]


class GuestSize(Model):
    """Memory in MiB and CPUs; None: the machine's. `grows` with the initrd."""

    memory_mib: int | None = None
    cpus: int | None = None
    grows: bool = False

    def over(self, other: "GuestSize") -> "GuestSize":
        """Return this size, completed by another one."""
        has_memory = self.grows or self.memory_mib is not None
        return GuestSize(
            memory_mib=self.memory_mib if has_memory else other.memory_mib,
            cpus=other.cpus if self.cpus is None else self.cpus,
            grows=self.grows if has_memory else other.grows,
        )

    def largest(self, other: "GuestSize") -> "GuestSize":
        """Return a size that is enough for both."""
        return GuestSize(
            memory_mib=max(filter(None, (self.memory_mib, other.memory_mib)), default=None),
            cpus=max(filter(None, (self.cpus, other.cpus)), default=None),
            grows=self.grows or other.grows,
        )


class SizeRequest(Model):
    """Resources as files have them: `{memory: 2G, cpus: 2}`."""

    memory: MemoryText | None = None
    cpus: int | None = Field(default=None, ge=1, le=MAX_CPUS)

    @property
    def size(self) -> GuestSize:
        """The size in numbers. Raises InputError if it is too much memory."""
        if self.memory is None or self.memory == AUTO:
            return GuestSize(cpus=self.cpus, grows=self.memory == AUTO)
        return GuestSize(memory_mib=memory_mib(self.memory), cpus=self.cpus)


def memory_mib(text: str) -> int:
    """Parse `512M` or `2G` as MiB. Raises InputError if it is not a size."""
    if not re.fullmatch(MEMORY_PATTERN, text) or text == AUTO:
        raise InputError(f"{text!r} is not an amount of memory such as '512M' or '2G'")
    amount = int(text[:-1]) << (10 if text.endswith("G") else 0)
    if not 64 <= amount <= MAX_MEMORY_MIB:
        raise InputError(f"{text!r}: the memory of a guest is between 64M and {MAX_MEMORY_MIB >> 10}G")
    return amount


def parse_size(text: str) -> GuestSize:
    """Parse `memory=2G cpus=2`, or one of them. Raises InputError otherwise."""
    words = dict(word.partition("=")[::2] for word in text.split())
    if not words or len(words) != len(text.split()) or not words.keys() <= {"memory", "cpus"}:
        raise InputError(f"{text[:60]!r} must be 'memory=2G cpus=2', or one of these")
    cpus, memory = words.get("cpus"), words.get("memory")
    if cpus is not None and not (cpus.isascii() and cpus.isdecimal() and 1 <= int(cpus[:4]) <= MAX_CPUS):
        raise InputError(f"cpus={cpus[:20]}: must be a number from 1 to {MAX_CPUS}")
    return GuestSize(
        memory_mib=None if memory in {None, AUTO} else memory_mib(memory or ""),
        cpus=int(cpus) if cpus else None,
        grows=memory == AUTO,
    )

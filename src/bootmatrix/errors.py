"""What can go wrong, and whose fault it is.

BootmatrixError
├── InputError        the user's: a file, an argument. Exit status 2.
│   └── FileError     one or more faults in a file, each with its line
├── BuildError        a spec that cannot be made into something bootable: verdict build-error
│   └── NoSuchPackage the archive has no such package for this architecture
├── InfraError        ours, the network's or the host's: verdict infra-error
│   ├── NetworkError  a server that did not answer, or answered nonsense
│   │   └── StaleMirror  an index that does not match its signed digest (a mirror in mid-sync)
│   ├── Offline       a file that is not in the cache, while downloads are forbidden
│   ├── UntrustedError   a signature or a digest that does not match
│   │   └── DamagedCache  a file of the cache that is not what it was, or is gone
│   └── HostError     something the host lacks: QEMU, disk space, memory
└── Interrupted       the user's Ctrl-C. Exit status 130.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from bootmatrix.redact import redacted


class BootmatrixError(Exception):
    """Base of all errors that are reported as one message, without a traceback.

    `hint` says what to do about it, as a sentence or a command. Both may quote URLs, out of which secrets are cut.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = redacted(message), redacted(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(BootmatrixError):
    """Bad input or usage."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a file; `line` counts from 1."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class FileError(InputError):
    """Faults in a file, in the order of their lines."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.path, fault.line)))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class BuildError(BootmatrixError):
    """A spec, image or kernel that cannot be made into something bootable."""


class NoSuchPackage(BuildError):
    """The archive has no package of this name for this architecture."""


class InfraError(BootmatrixError):
    """Our own fault, the network's or the host's; never the guest's."""


class NetworkError(InfraError):
    """A server that did not answer, or answered nonsense."""


class StaleMirror(NetworkError):
    """An index that does not match the digest its InRelease file gives: a mirror in the middle of an update."""


class Offline(InfraError):
    """A file that is not in the cache, while downloads are forbidden."""


class UntrustedError(InfraError):
    """A signature or digest that does not match."""


class DamagedCache(UntrustedError):
    """A file of the cache that is not what it was, or is gone: it is removed, so that it can be made anew."""

    def __init__(self, message: str, hint: str, sha256: str) -> None:
        super().__init__(message, hint)
        self.sha256 = sha256


class HostError(InfraError):
    """Something that the host lacks."""


def described(error: OSError) -> tuple[str, str]:
    """What a refusal of the operating system is about, with the path, and what to do about it; for people."""
    path = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    advice = {
        errno.ENOSPC: "Free some space there, or name another place.",
        errno.EDQUOT: "Your quota there is used up: free some space, or name another place.",
        errno.EROFS: "It is on a file system that cannot be written: name another place.",
        errno.EACCES: "You may not do this there: name another place, or have its owner give it to you.",
        errno.EPERM: "You may not do this there: name another place, or have its owner give it to you.",
    }
    return f"{path}{error.strerror or error}", advice.get(error.errno or 0, "")


class QemuMissing(HostError):
    """A QEMU is not installed."""


class QemuTooOld(HostError):
    """A QEMU is older than a machine needs."""


class QemuUnsuitable(HostError):
    """A QEMU lacks a machine type or a CPU model."""


class Interrupted(BootmatrixError):
    """Stopped by the user."""

"""Errors, by whose fault they are.

BootmatrixError
├── InputError        the user's: a file, an argument. Exit status 2.
│   ├── FileError     faults in a file, each with its line
│   └── RunFault      a saved run that cannot be used
│       ├── DamagedRun    its files are not as they were written
│       ├── OtherFormat   another version of bootmatrix wrote it
│       └── UnreadableRun the host refuses to read it
├── BuildError        a spec that cannot be built into something bootable: verdict build-error
│   └── NoSuchPackage the archive lacks this package for this architecture
├── AgentError        a guest, or the agent in it, that is not there any more
│   └── GuestFileError   a file of a guest that cannot be fetched
├── InfraError        bootmatrix's, the network's or the host's: verdict infra-error
│   ├── NetworkError  no answer from a server, or an invalid one
│   │   └── StaleMirror  an index that does not match its signed digest (a mirror in mid-sync)
│   ├── Offline       a file that is not cached while downloads are forbidden
│   ├── UntrustedError   a signature or digest that does not match
│   │   └── DamagedCache  a cached file that changed or disappeared
│   └── HostError     a lack of the host: QEMU, disk space, memory
└── Interrupted       the user's Ctrl-C. Exit status 130.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from bootmatrix.redact import redacted


class BootmatrixError(Exception):
    """Base of all errors that are reported as one message, without a traceback.

    `hint` is the remedy, as a sentence or a command. Secrets in URLs are redacted from both.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = redacted(message), redacted(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(BootmatrixError):
    """Bad input or usage."""


class Fault(NamedTuple):
    """A fault in a file; `line` counts from 1."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class FileError(InputError):
    """Faults in a file, sorted by line."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.path, fault.line)))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class RunFault(InputError):
    """A saved run that cannot be used."""


class DamagedRun(RunFault):
    """A run whose files are not as they were written."""


class OtherFormat(RunFault):
    """A run that another version of bootmatrix wrote."""


class UnreadableRun(RunFault):
    """A run that the host refuses to read."""


class BuildError(BootmatrixError):
    """A spec, image or kernel that cannot be built into something bootable."""


class NoSuchPackage(BuildError):
    """The archive lacks a package for an architecture."""


class AgentError(BootmatrixError):
    """A guest, or the agent in it, that is not there any more.

    `is_ours`: not the guest itself, but bootmatrix or the host ended it.
    """

    def __init__(self, message: str, hint: str = "", *, is_ours: bool = False) -> None:
        super().__init__(message, hint)
        self.is_ours = is_ours


class GuestFileError(AgentError):
    """A file of a guest that cannot be fetched."""


class InfraError(BootmatrixError):
    """A fault of bootmatrix, the network or the host; never of the guest."""


class NetworkError(InfraError):
    """No answer from a server, or an invalid one."""


class StaleMirror(NetworkError):
    """An index that does not match its InRelease file: a mirror in mid-update."""


class Offline(InfraError):
    """A file that is not cached while downloads are forbidden."""


class UntrustedError(InfraError):
    """A signature or digest that does not match."""


class DamagedCache(UntrustedError):
    """A cached file that changed or disappeared. It is removed and can be rebuilt."""

    def __init__(self, message: str, hint: str, sha256: str) -> None:
        super().__init__(message, hint)
        self.sha256 = sha256


class HostError(InfraError):
    """A lack of the host."""


@contextmanager
def readable(label: object = "", kind: type[BootmatrixError] = InputError, *, hint: str = "") -> Iterator[None]:
    """Raise an error of a kind for a file that cannot be read within the context.

    The message begins with `label`, else with the name that the error has.
    """
    try:
        yield
    except OSError as error:
        name = str(label) or error.filename or "a file"
        raise kind(f"{name}: cannot be read: {error.strerror or error}", hint) from error


def described(error: OSError) -> tuple[str, str]:
    """Describe an operating system error for people: its path and cause, and a hint."""
    path = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    advice = {
        errno.ENOSPC: "Free some space there, or choose another folder.",
        errno.EDQUOT: "Your disk quota is exhausted: free some space, or choose another folder.",
        errno.EROFS: "The file system is read-only: choose another folder.",
        errno.EACCES: "Permission denied: choose another folder, or ask its owner for access.",
        errno.EPERM: "Permission denied: choose another folder, or ask its owner for access.",
    }
    return f"{path}{error.strerror or error}", advice.get(error.errno or 0, "")


def reason_of(error: BootmatrixError | OSError) -> str:
    """Return the fault without its remedy."""
    return error.message if isinstance(error, BootmatrixError) else described(error)[0]


class QemuMissing(HostError):
    """A QEMU that is not installed."""


class QemuTooOld(HostError):
    """A QEMU older than a machine needs."""


class QemuUnsuitable(HostError):
    """A QEMU that lacks a machine type or a CPU model."""


class ToolMissing(HostError):
    """A program of this host that is not installed."""


class Interrupted(BootmatrixError):
    """Stopped by the user."""


def innermost(error: BaseException) -> BaseException:
    """Return the error that groups of one error hold; a group of several as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error

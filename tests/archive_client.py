"""What tests of the archive use besides its fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bootmatrix.model import KernelSource
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import Archive

Opener = Callable[..., Archive]


class Listener(NullObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.downloads: list[tuple[str, int, int]] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Keep a download's progress."""
        self.downloads.append((label, done_bytes, total_bytes))


def kernel_source(flavour: str = "cloud-amd64", suites: str = "old new", version: str | None = None) -> KernelSource:
    """A kernel's source; `suites` apart by blanks."""
    return KernelSource(version=version, flavour=flavour, suites=tuple(suites.split()))


def files_of(folder: Path) -> list[str]:
    """Paths of all files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

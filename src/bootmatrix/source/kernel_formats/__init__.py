"""Formats of kernels: plug-ins of `bootmatrix.kernel_formats`."""

from pathlib import Path

from bootmatrix import plugins
from bootmatrix.source.kernel_formats.member import KernelFormat, Member

GROUP = "kernel_formats"
LAST = 1000


def kernel_formats() -> dict[str, KernelFormat]:
    """Load all formats in order of trial. Raises HostError if one fails."""
    formats: dict[str, KernelFormat] = plugins.load_all(GROUP)
    return dict(sorted(formats.items(), key=lambda item: getattr(item[1], "ORDER", LAST)))


def files_of(kind: str, path: Path) -> list[Path]:
    """Return a source's files. Raises InputError if the kind is unknown."""
    paths = getattr(find_kernel_format(kind), "paths", None)
    return paths(path) if paths else [path]


def find_kernel_format(name: str) -> KernelFormat:
    """Load a format by name. Raises InputError if the name is unknown."""
    module: KernelFormat = plugins.load(GROUP, name)
    return module

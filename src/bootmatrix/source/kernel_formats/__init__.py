"""Formats of kernels: plug-ins of `bootmatrix.kernel_formats`."""

from bootmatrix import plugins
from bootmatrix.source.kernel_formats.member import KernelFormat, Member

GROUP = "kernel_formats"
LAST = 1000


def kernel_formats() -> dict[str, KernelFormat]:
    """Load all formats in order of trial. Raises HostError if one fails."""
    formats: dict[str, KernelFormat] = plugins.load_all(GROUP)
    return dict(sorted(formats.items(), key=lambda item: getattr(item[1], "ORDER", LAST)))


def find_kernel_format(name: str) -> KernelFormat:
    """Load a format by name. Raises InputError if the name is unknown."""
    module: KernelFormat = plugins.load(GROUP, name)
    return module


__all__ = ["KernelFormat", "Member", "find_kernel_format", "kernel_formats"]

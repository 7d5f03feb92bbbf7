"""Formats that kernels come in: plug-ins of the group `bootmatrix.kernel_formats`, one module each."""

from __future__ import annotations

from bootmatrix import plugins
from bootmatrix.source.kernel_formats.member import KernelFormat, Member

GROUP = "kernel_formats"
LAST = 1000


def kernel_formats() -> dict[str, KernelFormat]:
    """Load all formats by name, in the order in which they are tried. Raises HostError if one cannot be loaded."""
    formats: dict[str, KernelFormat] = plugins.load_all(GROUP)
    return dict(sorted(formats.items(), key=lambda item: getattr(item[1], "ORDER", LAST)))


def find_kernel_format(name: str) -> KernelFormat:
    """Load a format by name. Raises InputError if the name is unknown."""
    module: KernelFormat = plugins.load(GROUP, name)
    return module


__all__ = ["KernelFormat", "Member", "find_kernel_format", "kernel_formats"]

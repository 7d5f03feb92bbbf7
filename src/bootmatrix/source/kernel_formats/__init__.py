"""Formats that kernels come in: plug-ins of the group `bootmatrix.kernel_formats`, one module each."""

from __future__ import annotations

from bootmatrix import plugins
from bootmatrix.source.kernel_formats.member import KernelFormat, Member

GROUP = "kernel_formats"
LAST = 1000


def kernel_formats() -> dict[str, KernelFormat]:
    """All formats by name, in the order in which they are asked whether they recognise a file.

    Raises:
        HostError: one cannot be loaded.
    """
    found: dict[str, KernelFormat] = plugins.load_all(GROUP)
    return dict(sorted(found.items(), key=lambda item: getattr(item[1], "ORDER", LAST)))


def find_kernel_format(name: str) -> KernelFormat:
    """Find a format by name.

    Raises:
        InputError: there is none of this name.
    """
    found: KernelFormat = plugins.load(GROUP, name)
    return found


__all__ = ["Kind", "Member", "find_kind", "kernel_formats"]

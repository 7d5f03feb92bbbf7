"""The host of a run, as far as it may affect results."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path


def describe_host() -> dict[str, str]:
    """Describe the host as far as it may affect results, without names and addresses."""
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": _field("/proc/cpuinfo", ("model name", "Model", "cpu")) or "unknown",
        "cpus": str(len(os.sched_getaffinity(0))),
        "memory": _memory(),
        "python": platform.python_version(),
    }


def _field(path: str, names: tuple[str, ...]) -> str:
    """Return the first `name : value` of a /proc file with one of these names."""
    with suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in names:
                return value.strip()
    return ""


def _memory() -> str:
    """MemTotal of /proc/meminfo (proc(5)), which is in KiB."""
    words = _field("/proc/meminfo", ("MemTotal",)).split()
    return f"{int(words[0]) / (1 << 20):.1f} GiB" if words else "unknown"

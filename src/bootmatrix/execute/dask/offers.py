"""A worker's offer, and the match of a cell's needs with it."""

import os
import platform
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from bootmatrix import __version__
from bootmatrix.boot.acceleration import host
from bootmatrix.execute.budget import QEMU_OVERHEAD_MIB
from bootmatrix.execute.dask.security import dask_version
from bootmatrix.model.remote import PROTOCOL, Offer
from bootmatrix.model.run_config import Needs, RunConfig
from bootmatrix.qemu.host import available_cores, available_memory_mib
from bootmatrix.qemu.sandbox import KVM

QEMU = re.compile(r"qemu-system-[a-z0-9_]+")
VERSION_LIMIT_S = 30
AHEAD = 2
"""Cells that fetch their files while others boot."""


def make_offer(
    name: str, cores: int = 0, slots: int = 0, labels: tuple[str, ...] = (), programs: tuple[str, ...] = ()
) -> Offer:
    """Describe this host; 0 cores or slots mean no limit. Blocking."""
    cores = min(cores or available_cores(), available_cores())
    return Offer(
        tool_version=__version__,
        dask_version=dask_version(),
        python=platform.python_version(),
        host=name,
        instance=secrets.token_hex(8),
        system=host(),
        cores=cores,
        memory_mib=available_memory_mib(),
        slots=slots or 2 * cores + AHEAD,
        qemu=qemu_versions(programs),
        accelerators=("tcg", *(("kvm",) if os.access(KVM, os.R_OK | os.W_OK) else ())),
        labels=labels,
    )


def qemu_versions(only: tuple[str, ...] = ()) -> dict[str, str]:
    """Return QEMU versions by program, of all without `only`. Blocking."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    names = {path.name for folder in folders if folder.is_dir() for path in folder.glob("qemu-system-*")}
    programs = sorted(name for name in names if QEMU.fullmatch(name) and shutil.which(name))
    programs = [name for name in programs if not only or name in only]
    with ThreadPoolExecutor(4) as pool:
        return {name: version for name, version in zip(programs, pool.map(_version, programs), strict=True) if version}


def programs_of(config: RunConfig) -> tuple[str, ...]:
    """List the QEMUs of all machines of a run's profiles."""
    machines = [machine for profile in config.profiles.values() for machine in profile.machines.values()]
    return tuple(sorted({machine.qemu for machine in machines if machine.qemu}))


def _version(program: str) -> str:
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, "--version"], capture_output=True, timeout=VERSION_LIMIT_S, stdin=subprocess.DEVNULL, check=False
        )
        match = re.search(rb"\bversion (\d+(?:\.\d+)+)", done.stdout)
        return match[1].decode() if match else ""
    return ""


def version_fault(offer: Offer) -> str:
    """Return why a worker's software does not fit ours; empty if it does."""
    if offer.protocol != PROTOCOL or offer.tool_version != __version__:
        theirs = f"bootmatrix {offer.tool_version} (protocol {offer.protocol})"
        return f"runs {theirs}, expected {__version__} (protocol {PROTOCOL}): install the same version there"
    if offer.dask_version != dask_version():
        return f"has distributed {offer.dask_version}, expected {dask_version()}: install the same version there"
    return ""


def unmet(needs: Needs, offer: Offer) -> str:
    """Return what a host lacks for a cell; empty if it can run it.

    A guest that wants more cores than the host has runs alone, as on this host.
    """
    if needs.host not in {"", offer.host}:
        return f"not {needs.host}"
    version = offer.qemu.get(needs.qemu, "")
    if needs.qemu and not version:
        return f"{needs.qemu} is not installed"
    if needs.qemu and _numbers(version) < _numbers(needs.min_qemu):
        return f"{needs.qemu} is {version}, needed is {needs.min_qemu}"
    if needs.memory_mib + QEMU_OVERHEAD_MIB > offer.memory_mib:
        return f"{offer.memory_mib} MiB of memory, needed are {needs.memory_mib + QEMU_OVERHEAD_MIB}"
    if needs.accelerator not in offer.accelerators:
        return f"no accelerator {needs.accelerator}"
    return ""


def shortfall(needs: Needs, offers: Iterable[Offer]) -> str:
    """Describe why no host can run a cell, host by host."""
    reasons = dict.fromkeys(f"{offer.host}: {unmet(needs, offer)}" for offer in offers)
    return "; ".join(reasons) or "no worker is there"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))

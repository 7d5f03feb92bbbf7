"""`bootmatrix doctor`: what the host has and lacks, and what installs it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import httpx
from rich.table import Table
from rich.text import Text

from bootmatrix.assembly.formats.tools import PATH, TOOLS
from bootmatrix.boot.acceleration import accelerator_boots, host
from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.errors import BootmatrixError, HostError
from bootmatrix.execute.budget import QEMU_OVERHEAD_MIB
from bootmatrix.model import Machine, Profile
from bootmatrix.qemu.cgroup import places
from bootmatrix.qemu.host import available_memory_mib
from bootmatrix.qemu.version import qemu_version
from bootmatrix.source.download import client_for, in_words
from bootmatrix.source.settings import Settings
from bootmatrix.store import default_cache
from bootmatrix.workspace.single_guest import find_guest
from bootmatrix.workspace.workspace import Workspace

State = Literal["ok", "lacking", "note"]

DISK_MIB = 3072
"""A full cache of the shipped matrices takes 1 to 2 GiB (packages, kernels, initrds); the rest is for runs."""
ARCHIVE_LIMIT_S = 15.0
KVM_LIMIT_S = 20.0
"""A guest under working KVM is up in about a second; one that is not after this time never will be."""
MAX_REASON = 240
"""Characters of the reason for which KVM boots nothing: what QEMU prints as it dies may be long."""
KVM = Path("/dev/kvm")
PROBE_KERNEL = "6.1"
"""Kernel of the guest that KVM is tried with, where the profile has it: the one most likely to be in the cache."""

Packages = dict[str, str]
"""Names of what brings a program, by package manager; `apt` is always there."""

INSTALLERS = {
    "apt": "sudo apt-get install --no-install-recommends",
    "dnf": "sudo dnf install",
    "zypper": "sudo zypper install",
    "pacman": "sudo pacman -S",
    "apk": "sudo apk add",
}
MANAGERS = {
    "debian": "apt",
    "ubuntu": "apt",
    "fedora": "dnf",
    "rhel": "dnf",
    "suse": "zypper",
    "opensuse": "zypper",
    "arch": "pacman",
    "alpine": "apk",
}
"""Package manager by ID or ID_LIKE of os-release(5)."""

GPGV: Packages = {"apt": "gpgv", "dnf": "gnupg2", "zypper": "gpg2", "pacman": "gnupg", "apk": "gpgv"}
KEYRING: Packages = {
    "apt": "debian-archive-keyring",
    "dnf": "debian-keyring",
    "pacman": "debian-archive-keyring",
    "apk": "debian-archive-keyring",
}
SQUASHFS: Packages = {**dict.fromkeys(INSTALLERS, "squashfs-tools"), "zypper": "squashfs"}
SETPRIV: Packages = {**dict.fromkeys(INSTALLERS, "util-linux"), "apk": "setpriv"}


@dataclass(frozen=True)
class HostCheck:
    """One line of the table. What is `lacking` is needed; a `note` is not."""

    state: State
    name: str
    found: str
    hint: str = ""


def run(args: argparse.Namespace) -> int:
    """Print a table, and what to do; status 3 if something needed is lacking."""
    known = options.profiles()
    findings = list(examine(options.workspace(args), known))
    show(findings)
    return OUR_FAULT if any(finding.state == "lacking" for finding in findings) else EXPECTED


def examine(workspace: Workspace, known: dict[str, Profile]) -> Iterator[HostCheck]:
    """Look at everything, in the order of the table."""
    machines = [machine for profile in known.values() for machine in profile.machines.values()]
    yield from emulators(known)
    yield program("gpgv", "verifies the archive's signatures", GPGV)
    yield keyring()
    yield program("setpriv", "ends QEMU together with bootmatrix", SETPRIV)
    yield packer()
    yield from makers()
    yield disk(workspace.cache)
    yield memory(machines)
    yield HostCheck("ok", "cores", f"{len(os.sched_getaffinity(0))}")
    yield bounds()
    yield archive(workspace, known)
    yield kvm(workspace, known)


def emulators(known: dict[str, Profile]) -> Iterator[HostCheck]:
    """One finding for each QEMU that is needed, which is that of the first machine of what `make setup` sets up.

    Of others it is noted which machines cannot be booted, and what would help.
    """
    first = [(profile, profile.machines[profile.default_machine()]) for profile in known.values()]
    needed = {machine.qemu: emulator(machine) for profile, machine in first if profile.setup}
    yield from needed.values()
    more: dict[tuple[str, str], list[str]] = {}
    for profile in known.values():
        for name, machine in profile.machines.items():
            finding = emulator(machine)
            if finding.state == "lacking" and finding != needed.get(machine.qemu):
                more.setdefault((machine.qemu, finding.hint), []).append(f"{profile.name}/{name}")
    for (qemu, hint), targets in more.items():
        yield HostCheck("note", qemu, f"missing or too old for {', '.join(targets)}", f"if you want these: {hint}")


def emulator(machine: Machine) -> HostCheck:
    """Whether a QEMU is there, runs, and is new enough."""

    try:
        version = qemu_version(machine)
    except HostError as error:
        names = {
            "apt": machine.qemu_package,
            "dnf": f"/usr/bin/{machine.qemu}",
            "zypper": f"/usr/bin/{machine.qemu}",
            "pacman": "qemu-full",
            "apk": machine.qemu,
        }
        hint = error.hint if shutil.which(machine.qemu) else install(names)
        return HostCheck("lacking", machine.qemu, error.message, hint)
    return HostCheck("ok", machine.qemu, f"{version} (needed: {machine.min_qemu})")


def program(name: str, use: str, packages: Packages) -> HostCheck:
    """Whether a program is in PATH."""
    found = shutil.which(name)
    return HostCheck("ok", name, found) if found else HostCheck("lacking", name, f"not found: {use}", install(packages))


def packer() -> HostCheck:
    """Whether the disks of forked guests can be made; nothing else needs that."""
    found = program("sqfstar", "makes the disks of forked guests", SQUASHFS)
    return found if found.state == "ok" else replace(found, state="note", hint=f"for --boot fork: {found.hint}")


def makers() -> Iterator[HostCheck]:
    """Notes on programs of the host that are missing, and that some formats of `bootmatrix build` take."""

    for name, package in TOOLS.items():
        if package not in SQUASHFS.values() and shutil.which(name, path=PATH) is None:  # that one has been told of
            yield HostCheck("note", name, "not found: some formats of 'build' take it", install({"apt": package}))


def keyring() -> HostCheck:
    """Whether the archive's keys are there."""

    try:
        return HostCheck("ok", "archive's keys", str(Settings().keyring))
    except HostError as error:
        return HostCheck("lacking", "archive's keys", error.message, install(KEYRING))


def disk(cache_folder: Path | None) -> HostCheck:
    """Free space where the cache is, or will be."""

    cache_path = (cache_folder or default_cache()).absolute()
    there = next(folder for folder in (cache_path, *cache_path.parents) if folder.is_dir())
    free_mib = shutil.disk_usage(there).free >> 20
    found = f"{free_mib / 1024:.1f} GiB free at {cache_path}"
    if not os.access(there, os.W_OK):
        return HostCheck(
            "lacking", "cache", f"{there} cannot be written", "Put the cache elsewhere: BOOTMATRIX_CACHE=…"
        )
    if free_mib < DISK_MIB:
        hint = f"{DISK_MIB >> 10} GiB are wanted. Free some, or put the cache elsewhere: BOOTMATRIX_CACHE=…"
        return HostCheck("lacking", "cache", found, hint)
    return HostCheck("ok", "cache", found)


def memory(machines: Iterable[Machine]) -> HostCheck:
    """Memory for the largest guest."""

    available_mib = available_memory_mib()
    wanted_mib = max((machine.memory_mib for machine in machines), default=0) + QEMU_OVERHEAD_MIB
    found = f"{available_mib} MiB available (largest guest: {wanted_mib} MiB)"
    if available_mib < wanted_mib:
        return HostCheck("lacking", "memory", found, "End other programs, or boot smaller machines only.")
    return HostCheck("ok", "memory", found)


def bounds() -> HostCheck:
    """What keeps a QEMU from taking more of the host than its machine has."""

    limits = "limits of its process (prlimit)"
    found = [f"{', '.join(place.controllers)} in {place.folder} (version {place.version})" for place in places()]
    if not found:
        return HostCheck("note", "bounds", f"each QEMU has {limits}; no control group can be made here")
    return HostCheck("ok", "bounds", f"each QEMU has a control group, for {'; '.join(found)}, and {limits}")


def archive(workspace: Workspace, known: dict[str, Profile]) -> HostCheck:
    """Whether the archive answers, and how fast."""

    if workspace.offline:
        return HostCheck("note", "archive", "not asked (--offline)")
    suite = next(suite for profile in known.values() for one in profile.kernels.values() for suite in one.suites)
    settings = Settings(workspace.archive)
    address, started = settings.redacted_address, time.monotonic()
    try:
        url = f"{settings.address}/dists/{suite}/InRelease"
        with client_for(url, settings) as client:
            client.head(url, timeout=ARCHIVE_LIMIT_S).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        hint = "Name another one (--archive URL, or BOOTMATRIX_ARCHIVE), or work from the cache with --offline."
        return HostCheck("lacking", "archive", f"{address}: {in_words(error)}", hint)
    except BootmatrixError as error:
        return HostCheck("lacking", "archive", error.message, error.hint)
    return HostCheck("ok", "archive", f"{address} ({time.monotonic() - started:.2f} s)")


def kvm(workspace: Workspace, known: dict[str, Profile]) -> HostCheck:
    """Whether KVM boots a guest. The device node alone says nothing: it may open, and yet no guest ever starts."""

    slow = "Emulation is used, which needs no KVM."
    if not KVM.exists():
        return HostCheck("note", "KVM", f"there is no {KVM}", slow)
    if not os.access(KVM, os.R_OK | os.W_OK):
        return HostCheck(
            "note", "KVM", f"{KVM} is not for this user", f"{slow} To change it: sudo usermod -aG kvm $USER"
        )
    own = next((profile for profile in known.values() if profile.names.uname == platform.machine()), None)
    if own is None:
        return HostCheck("note", "KVM", f"not checked: no profile is for {platform.machine()}", slow)
    try:
        boots, reason = probe_kvm(workspace, own)
    except (BootmatrixError, OSError) as error:
        return HostCheck(
            "note", "KVM", f"not checked, as there is no guest to try it with: {str(error).splitlines()[0]}", slow
        )
    if boots:
        return HostCheck("ok", "KVM", reason)
    shown = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + "…"
    return HostCheck("note", "KVM", shown, slow)


def probe_kvm(workspace: Workspace, profile: Profile) -> tuple[bool, str]:
    """Boot `hello` under each accelerator for this host; whether it came up by one, and how or why not.

    Raises:
        BootmatrixError: there is nothing to boot, such as without network and with an empty cache.
    """

    kernels = profile.kernels_of(profile.default_machine())
    kernel = PROBE_KERNEL if PROBE_KERNEL in kernels else next(iter(kernels))
    guest = find_guest(workspace, "hello", profile.name, kernel)
    machine, bootable = guest.machine, guest.bootable
    failures = []
    for one in machine.native():
        if host() in one.hosts:
            boots, reason = anyio.run(accelerator_boots, machine, one, bootable, KVM_LIMIT_S)
            if boots:
                return True, reason
            failures.append(reason)
    return False, "; ".join(failures) or f"the profile {profile.name} names no accelerator for {host()}"


def install(packages: Packages) -> str:
    """The command that installs something here; where that is not known, Debian's name for it."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return install_command(packages, f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split())


def install_command(packages: Packages, likes: Iterable[str]) -> str:
    """The command for a distribution, given by its name and those of its ancestors."""
    manager = next((MANAGERS[like] for like in likes if like in MANAGERS), "")
    if manager in packages:
        return f"{INSTALLERS[manager]} {packages[manager]}"
    return f"Install what your system calls {packages['apt']}."


def show(findings: list[HostCheck]) -> None:
    """The table, and below it what to do about each thing lacking."""

    marks: dict[State, tuple[str, str]] = {"ok": ("ok", "green"), "lacking": ("lacking", "red"), "note": ("–", "dim")}
    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(Text(*marks[finding.state]), Text(finding.name), Text(finding.found))
    console = options.table_console()
    console.print(table)
    lacking = [finding for finding in findings if finding.state == "lacking"]
    notes = [finding for finding in findings if finding.state == "note" and finding.hint]
    _advise(partial(console.print, soft_wrap=True), lacking, notes)


def _advise(line: Callable[[object], None], lacking: list[HostCheck], notes: list[HostCheck]) -> None:

    for finding in notes:
        line(Text(f"{finding.name}: {finding.hint}"))
    if not lacking:
        line(Text("Everything that is needed is here."))
    for finding in (one for one in lacking if one.hint):
        line(Text(f"{finding.name}: {finding.hint}", "bold"))

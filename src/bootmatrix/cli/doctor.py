"""`bootmatrix doctor`: check the host, and advise on what is missing."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from bootmatrix.cli.tables import table_console
from bootmatrix.errors import BootmatrixError, HostError
from bootmatrix.execute.budget import QEMU_OVERHEAD_MIB
from bootmatrix.history.reference import reports_folder
from bootmatrix.model import Machine, Profile
from bootmatrix.operating_system import core_count, is_portable
from bootmatrix.packaged import packaged_table
from bootmatrix.qemu.cgroup import places
from bootmatrix.qemu.host import available_memory_mib
from bootmatrix.qemu.version import qemu_version
from bootmatrix.source.connection import client_for, in_words
from bootmatrix.source.replies import TransientError, check_status
from bootmatrix.source.settings import Settings
from bootmatrix.store import default_cache
from bootmatrix.workspace.single_guest import find_guest
from bootmatrix.workspace.workspace import Workspace

State = Literal["ok", "missing", "note"]

DISK_MIB = 3072
"""Least free space: a full cache of the shipped matrices (packages, kernels, initrds) is 1 to 2 GiB."""
REPORTS_MIB = 512
"""Least free space for runs: one of the shipped matrices takes some dozen MiB, with what it sets aside for its end."""
LIMIT_S = 30.0
"""Time of all checks together."""
ARCHIVE_LIMIT_S = 8.0
PROBE_S = 8.0
"""Part of the time that is left for the boot of the KVM check."""
KVM_LIMIT_S = 20.0
"""Under working KVM a guest is up in about a second."""
NAME_WIDTH = 23
MAX_REASON = 240
"""Length of the reason for a failure of KVM: QEMU's last output may be long."""
KVM = Path("/dev/kvm")
PROBE_KERNEL = "6.1"
"""Preferred kernel of the KVM check, the most likely one in the cache."""

TABLE = "cli/host_packages.toml"


@dataclass(frozen=True)
class HostCheck:
    """A line of the table. `missing` is needed, a `note` is not."""

    state: State
    name: str
    detail: str
    hint: str = ""


def run(args: argparse.Namespace) -> int:
    """Print the table and advice; return status 3 if something needed is missing."""
    findings = show(examine(options.workspace(args), options.profiles()))
    return OUR_FAULT if any(finding.state == "missing" for finding in findings) else EXPECTED


def examine(workspace: Workspace, profiles: dict[str, Profile]) -> Iterator[HostCheck]:
    """Run all checks, in the order of the table, within `LIMIT_S`."""
    end_s = time.monotonic() + LIMIT_S
    machines = [machine for profile in profiles.values() for machine in profile.machines.values()]
    yield from emulators(profiles)
    yield program("gpgv", "verifies the archive's signatures")
    yield keyring()
    yield means()
    yield packer()
    yield from makers()
    yield disk(workspace.cache)
    yield room("reports", reports_folder(workspace.reports), REPORTS_MIB)
    yield memory(machines)
    yield HostCheck("ok", "cores", f"{core_count()}")
    if not is_portable():
        yield bounds()
    check = archive(workspace, profiles)
    yield check
    yield kvm(workspace if check.state == "ok" else replace(workspace, offline=True), profiles, end_s)


def emulators(profiles: dict[str, Profile]) -> Iterator[HostCheck]:
    """Check the QEMU programs; those of `make setup` are required.

    The others result in a note on the machines that cannot be booted.
    """
    first = [(profile, profile.machines[profile.default_machine()]) for profile in profiles.values()]
    needed = {machine.qemu: emulator(machine) for profile, machine in first if profile.setup}
    yield from needed.values()
    more: dict[tuple[str, str], list[str]] = {}
    for profile in profiles.values():
        for name, machine in profile.machines.items():
            finding = emulator(machine)
            if finding.state == "missing" and finding != needed.get(machine.qemu):
                more.setdefault((machine.qemu, finding.hint), []).append(f"{profile.name}/{name}")
    for (qemu, hint), targets in more.items():
        yield HostCheck("note", qemu, f"missing or too old for {', '.join(targets)}", f"for these: {hint}")


def emulator(machine: Machine) -> HostCheck:
    """Check that a QEMU exists, runs, and is new enough."""
    try:
        version = qemu_version(machine)
    except HostError as error:
        is_there = shutil.which(machine.qemu)
        hint = error.hint if is_there else install("qemu", package=machine.qemu_package, program=machine.qemu)
        return HostCheck("missing", machine.qemu, error.message, hint)
    return HostCheck("ok", machine.qemu, f"{version} (needed: {machine.min_qemu})")


def program(name: str, use: str) -> HostCheck:
    """Check that a program is in PATH."""
    path = shutil.which(name)
    return HostCheck("ok", name, path) if path else HostCheck("missing", name, f"not found: {use}", install(name))


def means() -> HostCheck:
    """Check what ends and confines QEMU: of Linux, or portable."""
    if not is_portable():
        return program("setpriv", "ends QEMU together with bootmatrix")
    lacks = "no limits, namespaces and control groups for QEMU, no copies of guests (--boot fork)"
    return HostCheck("note", "means", f"portable: {lacks}", "docs/where-to-run.md lists what only Linux has.")


def packer() -> HostCheck:
    """Check the tool for forked guests' disks, which nothing else needs."""
    check = program("sqfstar", "makes disks of roots, and of forked guests")
    return check if check.state == "ok" else replace(check, state="note", hint=f"for --boot fork: {check.hint}")


def makers() -> Iterator[HostCheck]:
    """Note the missing programs that some formats of `bootmatrix build` need."""
    for name, package in TOOLS.items():
        if package != TOOLS["sqfstar"] and shutil.which(name, path=PATH) is None:  # squashfs: see packer
            hint = install_command({"apt": package}, _likes())
            yield HostCheck("note", name, "not found: needed by some formats of 'build'", hint)


def keyring() -> HostCheck:
    """Check that the archive's keys are installed."""
    try:
        return HostCheck("ok", "archive's keys", str(Settings().keyring))
    except HostError as error:
        return HostCheck("missing", "archive's keys", error.message, install("keyring"))


def disk(cache_folder: Path | None, needed_mib: int = DISK_MIB) -> HostCheck:
    """Check the free space of the cache."""
    return room("cache", cache_folder or default_cache(), needed_mib)


def room(name: str, folder: Path, needed_mib: int) -> HostCheck:
    """Check that a folder can be written to, and its free space."""
    folder = folder.absolute()
    existing = next(place for place in (folder, *folder.parents) if place.is_dir())
    free_mib = shutil.disk_usage(existing).free >> 20
    detail = f"{free_mib / 1024:.1f} GiB free at {folder}"
    elsewhere = f"ut the {name} elsewhere: BOOTMATRIX_{name.upper()}=…"
    if not os.access(existing, os.W_OK):
        return HostCheck("missing", name, f"{existing} is not writable", f"P{elsewhere}")
    if free_mib < needed_mib:
        hint = f"{needed_mib / 1024:g} GiB are needed. Free some, or p{elsewhere}"
        return HostCheck("missing", name, detail, hint)
    return HostCheck("ok", name, detail)


def memory(machines: Iterable[Machine]) -> HostCheck:
    """Check the memory for the largest guest."""
    available_mib = available_memory_mib()
    needed_mib = max((machine.memory_mib for machine in machines), default=0) + QEMU_OVERHEAD_MIB
    detail = f"{available_mib} MiB available (largest guest: {needed_mib} MiB)"
    if available_mib < needed_mib:
        return HostCheck("missing", "memory", detail, "End other programs, or boot smaller machines only.")
    return HostCheck("ok", "memory", detail)


def bounds() -> HostCheck:
    """Describe the resource limits of each QEMU."""
    limits = "process limits (prlimit)"
    groups = [f"{', '.join(place.controllers)} in {place.folder} (version {place.version})" for place in places()]
    if not groups:
        return HostCheck("note", "limits", f"each QEMU has {limits}; cannot create control groups here")
    return HostCheck("ok", "limits", f"each QEMU has a control group, for {'; '.join(groups)}, and {limits}")


def archive(workspace: Workspace, profiles: dict[str, Profile]) -> HostCheck:
    """Check that the archive responds, and its latency."""
    if workspace.offline:
        return HostCheck("note", "archive", "not checked (--offline)")
    suite = next(
        suite for profile in profiles.values() for source in profile.kernels.values() for suite in source.suites
    )
    settings = Settings(workspace.archive)
    address, started = settings.redacted_address, time.monotonic()
    try:
        url = f"{settings.address}/dists/{suite}/InRelease"
        with client_for(url, settings) as client:
            check_status(client.head(url, timeout=ARCHIVE_LIMIT_S))
    except (httpx.HTTPError, httpx.InvalidURL, TransientError) as error:
        hint = "Choose another (--archive URL, or BOOTMATRIX_ARCHIVE), or work from the cache with --offline."
        return HostCheck("missing", "archive", f"{address}: {in_words(error)}", hint)
    except BootmatrixError as error:
        return HostCheck("missing", "archive", error.message, error.hint)
    return HostCheck("ok", "archive", f"{address} ({time.monotonic() - started:.2f} s)")


def kvm(workspace: Workspace, profiles: dict[str, Profile], end_s: float) -> HostCheck:
    """Check that an accelerator boots a guest: that it opens proves nothing."""
    slow = "Emulation is used, which does not need it."
    if sys.platform.startswith("linux") and not KVM.exists():
        return HostCheck("note", "accelerator", f"{KVM} not found", slow)
    if sys.platform.startswith("linux") and not os.access(KVM, os.R_OK | os.W_OK):
        hint = f"{slow} To allow access: sudo usermod -aG kvm $USER"
        return HostCheck("note", "accelerator", f"{KVM}: permission denied", hint)
    native = next((profile for profile in profiles.values() if _is_native(profile)), None)
    if native is None:
        return HostCheck("note", "accelerator", f"not checked: no profile has one for {host()}", slow)
    try:
        boots, reason = probe_kvm(workspace, native, end_s)
    except (BootmatrixError, OSError) as error:
        why = f"not checked: cannot prepare a test guest: {str(error).splitlines()[0]}"
        return HostCheck("note", "accelerator", why, slow)
    if boots:
        return HostCheck("ok", "accelerator", reason)
    summary = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + "…"
    return HostCheck("note", "accelerator", summary, slow)


def _is_native(profile: Profile) -> bool:
    machine = profile.machine(profile.default_machine())
    return any(host() in accelerator.hosts for accelerator in machine.native())


def probe_kvm(workspace: Workspace, profile: Profile, end_s: float) -> tuple[bool, str]:
    """Boot `hello` with each accelerator; return whether one worked, and why.

    Raises BootmatrixError if no guest can be prepared in time, such as offline with an empty cache.
    """
    kernels = profile.kernels_of(profile.default_machine())
    kernel = PROBE_KERNEL if PROBE_KERNEL in kernels else next(iter(kernels))
    fetch_probe(workspace, ("hello", "--arch", profile.name, "--kernel", kernel), end_s)
    guest = find_guest(replace(workspace, offline=True), "hello", profile.name, kernel)
    machine, bootable = guest.machine, guest.bootable
    native = [accelerator for accelerator in machine.native() if host() in accelerator.hosts]
    failures = []
    for left, accelerator in zip(range(len(native), 0, -1), native, strict=True):
        limit_s = max(1.0, min(KVM_LIMIT_S, (end_s - time.monotonic()) / left))
        boots, reason = anyio.run(accelerator_boots, machine, accelerator, bootable, limit_s)
        if boots:
            return True, reason
        failures.append(reason)
    return False, "; ".join(failures) or f"the profile {profile.name} names no accelerator for {host()}"


def fetch_probe(workspace: Workspace, cells: tuple[str, ...], end_s: float) -> None:
    """Fetch and build the probe's guest in a process, killed when time is over.

    Raises HostError if it took too long.
    """
    if workspace.offline:
        return
    ways = [*(("--cache", str(workspace.cache)) if workspace.cache else ())]
    ways += ["--archive", workspace.archive] if workspace.archive else []
    command = [sys.executable, "-P", "-m", "bootmatrix.cli.main", "fetch", *cells, *ways]
    try:
        subprocess.run(command, capture_output=True, check=False, timeout=end_s - PROBE_S - time.monotonic())
    except subprocess.TimeoutExpired:
        hint = f"'bootmatrix fetch {' '.join(cells)}' prepares it."
        raise HostError("the download takes longer than 'doctor' may", hint) from None


def install(name: str, **values: str) -> str:
    """Return the command that installs a program, Debian's package if unknown."""
    table = packaged_table(TABLE)
    packages = table["packages"][name]
    packages = dict.fromkeys(table["installers"], packages) if isinstance(packages, str) else packages
    return install_command({manager: text.format(**values) for manager, text in packages.items()}, _likes())


def _likes() -> list[str]:
    """Return the names of this distribution and of its ancestors."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {"ID": platform.system()}
    return f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()


def install_command(packages: Mapping[str, str], likes: Iterable[str]) -> str:
    """Return a distribution's command, by its name or its ancestors'."""
    installers, managers = packaged_table(TABLE)["installers"], packaged_table(TABLE)["managers"]
    manager = next((managers[like] for like in likes if like in managers), "")
    if manager in packages:
        return f"{installers[manager]} {packages[manager]}"
    return f"Install your system's equivalent of {packages['apt']}."


def show(checks: Iterable[HostCheck]) -> list[HostCheck]:
    """Print each check as it ends, then advice on missing items; return all."""
    marks: dict[State, tuple[str, str]] = {"ok": ("ok", "green"), "missing": ("missing", "red"), "note": ("–", "dim")}
    console = table_console()
    findings = []
    for finding in checks:
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(min_width=max(map(len, marks)))
        row.add_column(min_width=NAME_WIDTH)
        row.add_row(Text(*marks[finding.state]), Text(finding.name), Text(finding.detail))
        console.print(row)
        findings.append(finding)
    missing = [finding for finding in findings if finding.state == "missing"]
    notes = [finding for finding in findings if finding.state == "note" and finding.hint]
    _advise(partial(console.print, soft_wrap=True), missing, notes)
    return findings


def _advise(line: Callable[[object], None], missing: list[HostCheck], notes: list[HostCheck]) -> None:
    for finding in notes:
        line(Text(f"{finding.name}: {finding.hint}"))
    if not missing:
        line(Text("Everything needed is installed."))
    for finding in (check for check in missing if check.hint):
        line(Text(f"{finding.name}: {finding.hint}", "bold"))

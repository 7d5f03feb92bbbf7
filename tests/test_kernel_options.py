"""Options of a kernel's configuration: what guests need, what a kernel lacks, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootmatrix.assembly.kernel.options import (
    ANY_SPEC,
    PURPOSES,
    fragment,
    load_needs,
    missing_options,
    needs_of,
    summarize,
)
from bootmatrix.assembly.kernel.package import unpack_kernel
from bootmatrix.judge import judge
from bootmatrix.model import Machine, Verdict
from bootmatrix.model.artefact import LACKS_OPTION
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import open_archive
from bootmatrix.store import Store, default_cache
from command_line import Tool
from guests import make_bootable, make_machine, make_outcome
from kernel_forms import PROFILES, RELEASE, kernel_files, make_kernel, tree

pytest_plugins = ("archive_fixtures", "command_line")

MACHINES = [
    pytest.param(machine, id=f"{profile.name}-{name}")
    for profile in PROFILES.values()
    for name, machine in profile.machines.items()
]


@pytest.mark.parametrize("machine", MACHINES)
def test_each_machine_has_a_console(machine: Machine) -> None:
    assert [need.what for need in needs_of(machine)].count("the console") == 1


@pytest.mark.parametrize("machine", MACHINES)
def test_a_fragment_is_all_that_is_needed(machine: Machine) -> None:
    whole = fragment(machine, *PURPOSES)
    assert missing_options(whole.encode(), machine, *PURPOSES) == ()
    needed = {option for need in needs_of(machine, *PURPOSES) for option in need.options}
    for option in needed:
        line = f"CONFIG_{option.partition('|')[0]}=y\n"
        lacking = missing_options(whole.replace(line, "").encode(), machine, *PURPOSES)
        assert {each.symbol for each in lacking} == {option}


def test_a_module_does_only_where_the_initrd_has_it() -> None:
    machine = make_machine()
    as_modules = fragment(machine, *ANY_SPEC).replace("=y", "=m")
    lacking = {option.symbol: option for option in missing_options(as_modules.encode(), machine, *ANY_SPEC)}
    assert "PROC_FS" in lacking
    assert str(lacking["PROC_FS"]) == "CONFIG_PROC_FS=y, and it is a module (init's file systems)"
    assert not {"VIRTIO_CONSOLE", "OVERLAY_FS", "PACKET"} & set(lacking)


def test_old_kernels_have_the_first_version_of_control_groups() -> None:
    machine = make_machine()
    config = fragment(machine, *ANY_SPEC).encode()
    for release, lacking in {
        "3.10.0-1160.el7": "CONFIG_CGROUPS as of Linux 4.5 (control groups, version 2)",
        "4.4.0-210-generic": "CONFIG_CGROUPS as of Linux 4.5 (control groups, version 2)",
        "4.5": "",
        "4.18.0-553.el8": "",
        "": "",
    }.items():
        assert summarize(missing_options(config, machine, "containers", release=release)) == lacking
    assert missing_options(config, machine, release="3.10") == ()


def test_only_some_of_many_are_named() -> None:
    assert summarize(["A", "B", "C"], 2) == "A, B and 1 more"
    assert summarize(["A", "B"], 2) == "A, B"


@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "armv7", "ppc64le"])
def test_kernels_of_the_archive_lack_nothing(arch: str) -> None:
    profile = PROFILES[arch]
    machine = profile.machine(profile.default_machine())
    store = Store(default_cache())
    archive = open_archive(store, offline=False, lock=None, address=None, progress=NullObserver())
    source = profile.kernels["6.1"]
    kernel = archive.kernel("6.1", source, profile.kernel_architecture(source))
    files = unpack_kernel(kernel, archive, store)
    assert files.config
    assert missing_options(store.verified(files.config).read_bytes(), machine, *ANY_SPEC, "agent") == ()


def write_old(path: Path, text: str) -> None:
    """Write a file that is older than the kernel beside it, as after `make`."""
    path.write_text(text)
    os.utime(path, (0, 0))


def test_adding_a_kernel_says_what_it_lacks(tool: Tool, tmp_path: Path) -> None:
    profile = PROFILES["aarch64"]
    config = fragment(profile.machine(profile.default_machine()), *ANY_SPEC).replace("CONFIG_OVERLAY_FS=y\n", "")
    source = tree(kernel_files(make_kernel(profile)), tmp_path)
    write_old(source / ".config", config)
    done = tool("kernels", "add", "mine", str(source))
    assert done.returncode == 0, done.stderr
    assert "note: its configuration lacks CONFIG_OVERLAY_FS (containers' roots)\n" in done.stdout
    write_old(source / ".config", config + "CONFIG_OVERLAY_FS=m\n")
    assert "note:" not in tool("kernels", "add", "mine", str(source)).stdout


def test_the_fragment_on_the_command_line(tool: Tool) -> None:
    done = tool("kernels", "fragment", "aarch64", "--for", "kunit")
    assert done.returncode == 0, done.stderr
    assert "\nCONFIG_KUNIT=y\n" in done.stdout
    assert "CONFIG_OVERLAY_FS" not in done.stdout
    wrong = tool("kernels", "fragment", "aarch64", "--for", "kunits")
    assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (
        2,
        "--for: unknown purpose 'kunits': must be one of base, containers, roots, network, agent, kunit",
    )


def test_a_guest_without_any_output_is_told_as_such() -> None:
    silent = make_outcome(messages=(), ended_by="host", limit="silence", limit_phase="boot")
    firmware = b"SLOF **********************\nBooting from memory...\n"
    judgement = judge(silent, make_machine(), make_bootable(), firmware)
    assert (judgement.verdict, judgement.reason) == (
        Verdict.HANG,
        "the guest hangs: its kernel printed nothing on the console",
    )
    assert "earlycon" in judgement.advice
    printed = judge(silent, make_machine(), make_bootable(), firmware + b"[    0.000000] Linux version 6.1\n")
    assert "no more output" in printed.reason
    others = tuple(f"{LACKS_OPTION}CONFIG_X{number} (init)" for number in range(9))
    lacking = make_bootable(notes=(*others, f"{LACKS_OPTION}CONFIG_SERIAL_8250_CONSOLE (the console)"))
    advice = judge(silent, make_machine(), lacking, firmware).advice
    assert advice.startswith("It cannot print: its configuration lacks CONFIG_SERIAL_8250_CONSOLE (the console). ")
    advice = judge(silent, make_machine(), lacking, firmware + b"[    0.000000] Linux version 6.1\n").advice
    assert advice.startswith("The kernel's configuration lacks CONFIG_X0 (init), CONFIG_X1 (init)")


def test_each_need_is_of_a_known_purpose_and_machine() -> None:
    for need in load_needs():
        assert need.purpose in PURPOSES
        assert need.options
        assert set(need.when) <= set(Machine.model_fields)


def test_what_a_kernel_lacks_for_a_spec_is_said_before_it_boots(tool: Tool, tmp_path: Path) -> None:
    profile = PROFILES["aarch64"]
    config = fragment(profile.machine(profile.default_machine()), *ANY_SPEC) + "CONFIG_RD_ZSTD=y\n"
    for symbol in ("OVERLAY_FS", "CPUSETS", "INET", "VIRTIO_PCI"):
        config = config.replace(f"CONFIG_{symbol}=y\n", "")
    source = tree(kernel_files(make_kernel(profile)), tmp_path)
    write_old(source / ".config", config)
    cells = ("hello", "--arch", "aarch64", "--kernel", "mine")
    assert tool("kernels", "add", "mine", str(source)).returncode == 0
    some = "CONFIG_VIRTIO_PCI (the bus), CONFIG_CPUSETS (control groups)"
    every = f"{some}, CONFIG_OVERLAY_FS (containers' roots), CONFIG_INET (the network)"
    line = f"aarch64/mine: the kernel {RELEASE} lacks "
    planned = tool("plan", *cells)
    assert planned.stderr == f"note: {line}{every}\n"
    fetched = tool("fetch", *cells)
    assert fetched.returncode == 0, fetched.stderr
    lines = [text for text in (fetched.stdout + fetched.stderr).splitlines() if line in text]
    assert lines == [f"{line}{some}, the module virtio_pci"]  # its root is read-only, and it has no network

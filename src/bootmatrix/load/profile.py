"""Profiles: `arch/<name>.yml`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from bootmatrix.errors import Fault, FileError, InputError
from bootmatrix.load.data_paths import arch_folders, named_files
from bootmatrix.load.document import Document, Location, read_document
from bootmatrix.load.extends import extend
from bootmatrix.load.qemu_args import ACCELERATOR_KEYS, BOARD_KEYS, HOST_KEYS, check_value, check_words
from bootmatrix.load.validate import suggest, validate
from bootmatrix.model import Machine, Profile

ACCELERATORS = ("tcg", "kvm", "hvf")
SEMIHOSTING_QEMU = [7, 2]
"""The first version with `userspace=on`."""


def load_profiles(folders: Iterable[Path]) -> dict[str, Profile]:
    """Load all profiles by name; those of later folders replace earlier ones.

    Raises InputError if a profile is invalid, two have the same alias, or the folders are empty.
    """
    files = named_files(folders)
    profiles = {name: load_profile(file, files) for name, file in sorted(files.items())}
    if not profiles:
        raise InputError("no architectures: no arch/*.yml found", "Name their folder in BOOTMATRIX_ARCH.")
    _check_aliases(profiles, files)
    return profiles


def load_profile(path: Path, files: Mapping[str, Path] | None = None) -> Profile:
    """Load a profile, named as its file. `files` are those it may extend, by name.

    They default to those of its folder and the shipped ones.

    Raises InputError if the file is invalid.
    """
    document = read_document(path)
    extend(document, named_files([*arch_folders(), path.parent]) if files is None else files)
    document.raise_faults()
    profile = validate(document, Profile, name=path.stem, own={}, catalogue={})
    for name, machine in profile.machines.items():
        _check_machine(document, name, machine)
    document.raise_faults()
    return profile


def _check_machine(document: Document, name: str, machine: Machine) -> None:
    place = ("machines", name)
    for key, value in (("dtb", machine.dtb), ("firmware", machine.firmware)):
        if isinstance(value, str) and ("/" in value or not value.strip()):
            document.complain((*place, key), f"{key!r} must be the name of a file, without a folder, not {value!r}")
    if machine.result == "virtio-serial" and not (machine.bus or "").startswith("virtio-"):
        document.complain(
            (*place, "result"),
            "'result' is virtio-serial, for which 'bus' must be virtio-pci, virtio-mmio or virtio-ccw. "
            "Without one, write console",
        )
    _check_exit(document, place, machine)
    _check_arguments(document, place, machine)
    for index, accelerator in enumerate(machine.accelerators):
        kind = (accelerator if isinstance(accelerator, str) else accelerator.name).split(",")[0]
        if kind not in ACCELERATORS:
            document.complain(
                (*place, "accelerators", index), f"unknown accelerator {kind!r}.{suggest(kind, ACCELERATORS)}"
            )

    if not any(
        isinstance(accelerator, str) and accelerator.split(",")[0] == "tcg" for accelerator in machine.accelerators
    ):
        document.complain((*place, "accelerators"), "'accelerators' has no tcg, which works on every host: put it last")


def _check_arguments(document: Document, place: Location, machine: Machine) -> None:
    """Check QEMU's options: a foreign profile must not open the host."""
    try:
        check_words(machine.arguments)
    except InputError as error:
        document.complain((*place, "arguments"), f"{error.message}. {error.hint}".removesuffix(". "))
    models = [("cpu", model) for model in (machine.cpu, *(machine.cpu_model(name).cpu for name in machine.cpu_models))]
    devices = [("network", machine.network), ("disk", machine.disk), *models]
    accelerators = [accelerator for accelerator in machine.accelerators if isinstance(accelerator, str)]
    accelerators += [f"{accelerator.name},{accelerator.machine or ''}" for accelerator in machine.native()]
    values = [(key, value, HOST_KEYS) for key, value in devices if value]
    boards = (machine.machine, *(machine.with_cpu(name).machine for name in machine.cpu_models))
    values += [("machine", board, BOARD_KEYS) for board in dict.fromkeys(boards)]
    values += [("accelerators", value, ACCELERATOR_KEYS | BOARD_KEYS) for value in accelerators]
    for key, value, forbidden in values:
        try:
            check_value(value, forbidden)
        except InputError as error:
            document.complain((*place, key), error.message)


def _check_exit(document: Document, place: Location, machine: Machine) -> None:
    is_old = [int(part) for part in machine.min_qemu.split(".")] < SEMIHOSTING_QEMU
    if machine.exit == "semihosting" and is_old:
        document.complain((*place, "min_qemu"), "'exit: semihosting' from user space takes QEMU 7.2 or later")


def _check_aliases(profiles: Mapping[str, Profile], files: Mapping[str, Path]) -> None:
    owners = dict.fromkeys(profiles, "the name of another architecture")
    faults = []
    for name, profile in profiles.items():
        for alias in profile.aliases:
            if alias in owners and alias != name:
                line = read_document(files[name]).line(("aliases",))
                faults.append(Fault(str(files[name]), line, f"the alias {alias!r} is {owners[alias]}"))
            owners.setdefault(alias, f"already an alias of {name!r}")
    if faults:
        raise FileError(faults)


def find_machine(profiles: Mapping[str, Profile], target: str) -> tuple[Profile, str]:
    """Find profile and machine of `arch[/machine][@cpu]`, or of an alias.

    The CPU model stays a part of the machine's name, `virt@cortex-a72`, as Profile.machine takes it.

    Raises InputError if the architecture, machine or CPU model is unknown.
    """
    board, at, cpu = target.partition("@")
    arch, slash, machine = board.partition("/")
    by_name = {alias: profile for profile in profiles.values() for alias in profile.aliases} | dict(profiles)
    profile = by_name.get(arch)
    if profile is None:
        raise InputError(f"unknown architecture {arch!r}.{suggest(arch, by_name)}")
    machine = machine if slash else profile.default_machine()
    if machine not in profile.machines:
        raise InputError(f"{profile.name} has no machine {machine!r}.{suggest(machine, profile.machines)}")
    models = profile.machines[machine].cpu_models
    if at and cpu not in models:
        hint = suggest(cpu, models) or " It has none besides its own."
        raise InputError(f"{profile.name}/{machine} has no CPU model {cpu!r}.{hint}")
    return profile, f"{machine}{at}{cpu}"

"""A guest outside of a run: a spec, a build, or kernel and initrd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio

from bootmatrix.assembly.build_context import open_builder
from bootmatrix.assembly.extra_qemu_args import with_qemu_args
from bootmatrix.assembly.import_artifacts import find, reread
from bootmatrix.assembly.initrd.memory import grown
from bootmatrix.assembly.initrd.segments import with_shell
from bootmatrix.assembly.prebuilt_guest import prebuilt_bootable
from bootmatrix.boot.collect import with_collection
from bootmatrix.boot.start import Start, start_cold
from bootmatrix.cell.fault_places import FaultPlaces
from bootmatrix.cell.held import HoldGuest, Holding, can_hold
from bootmatrix.cell.record_builder import save_files
from bootmatrix.cell.run import prepare, with_proof
from bootmatrix.console.kernel_messages import WARNINGS
from bootmatrix.errors import InputError
from bootmatrix.judge import judge
from bootmatrix.load.profile import find_machine
from bootmatrix.model import (
    Bootable,
    Cell,
    ConsoleProof,
    Firmware,
    Judgement,
    Machine,
    Outcome,
    PrebuiltGuest,
    Profile,
    Timeouts,
)
from bootmatrix.model.durations import duration_s
from bootmatrix.progress import NullObserver, Observer
from bootmatrix.qemu.suitability import check_machine
from bootmatrix.qemu.version import qemu_version
from bootmatrix.runs.result_names import file_reader
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.workspace.selection import Selection, requested_size, split_qemu_args
from bootmatrix.workspace.workspace import Workspace


@dataclass(frozen=True)
class SingleGuest:
    """A guest that is ready to boot."""

    machine: Machine
    bootable: Bootable
    timeouts: Timeouts
    cell: Cell | None = None
    places: FaultPlaces = field(default_factory=FaultPlaces)

    def with_proof(self, proof: ConsoleProof | None) -> SingleGuest:
        """Set the console proof of a guest with another init.

        Raises BuildError if no proof is configured, or it would match in any case.
        """
        return replace(self, bootable=with_proof(self.bootable, proof, self.machine))

    def boot(
        self,
        folder: Path,
        *,
        dump: bool = False,
        hold: HoldGuest | None = None,
        on_second_boot: Callable[[], None] | None = None,
    ) -> tuple[Judgement, tuple[str, ...]]:
        """Boot and judge it; return the verdict and the names of further files. Blocking.

        `hold` uses the guest of a spec if it fails, before it ends. With `on_second_boot`, a kernel that hangs is
        booted again, to tell where.
        """
        start = Start(self.machine, self.timeouts, folder, dump=dump)
        bootable = with_collection(self.bootable, self.machine)
        if hold and self.cell and can_hold(self.cell, self.bootable):
            start, bootable = Holding(self.cell, hold).prepared(start, self.bootable)
        first = anyio.run(start_cold, start, bootable).outcome
        judgement = self._judge(first, folder)
        places = replace(self.places, on_second_boot=on_second_boot)
        outcome = anyio.run(places.added_to, first, judgement, start, bootable)
        if outcome is not first:
            judgement = self._judge(outcome, folder)
        files = (*(file.file for file in save_files(outcome, folder)), *(file.file for file in outcome.diagnostics))
        return judgement, (CONSOLE_FILE, *filter(None, files))

    def _judge(self, outcome: Outcome, folder: Path) -> Judgement:
        console = (folder / CONSOLE_FILE).read_bytes()
        return judge(outcome, self.machine, self.bootable, console, file_reader(folder))


def find_guest(  # noqa: PLR0913  (each is an option of its own)
    workspace: Workspace,
    name: str,
    arch: str,
    kernel: str,
    *,
    selection: Selection | None = None,
    shell: bool = False,
    observer: Observer | None = None,
) -> SingleGuest:
    """Find and prepare a guest: a file or prefix of `build`, or a spec.

    Raises InputError if it is not found, or cannot be booted in this way, or the machine cannot have this size;
    BuildError if it cannot be built; HostError if the machine's QEMU is missing or unsuitable.
    """
    watching, selection = observer or NullObserver(), selection or Selection()
    chosen = find(name)
    if chosen:
        if shell and chosen.file.format != "kernel+initrd":
            raise InputError("--shell is for a spec, or for kernel+initrd", "What starts on a disk is fixed there.")
        with open_builder(workspace.sources(), watching) as builder:
            machine, bootable = reread(chosen, arch, workspace.profiles(), builder)
        return _changed(machine, bootable, selection)
    if Path(f"{name}-kernel").exists():
        profile, board = find_machine(workspace.profiles(), arch)
        machine = profile.machine(board)
        return _changed(machine, load_pair(name, profile, machine), selection)
    planned = workspace.plan_single(name, arch, kernel, selection)
    with workspace.open_context(planned, watching) as context:
        (cell,) = planned.cells
        machine = context.machine(cell)
        qemu_version(machine)  # before anything is downloaded for it
        check_machine(machine, context.builder.store)
        prepared, profile = prepare(cell, context), context.profiles[cell.arch]
        bootable = with_shell(prepared.bootable, profile, context.builder) if shell else prepared.bootable
        release = prepared.kernel.release if prepared.kernel else ""
        places = FaultPlaces(profile.kernels_of(cell.machine).get(cell.kernel), release)
        machine = grown(machine, bootable) if cell.size.grows else machine
        return SingleGuest(machine, bootable, cell.timeouts, cell, places)


def _changed(machine: Machine, bootable: Bootable, selection: Selection) -> SingleGuest:
    """Apply a selection's size, arguments and time limit to a guest without a spec."""
    if selection.network is not None:
        raise InputError("--network is for a spec", "--qemu-args adds a card to a guest that is built already.")
    size, timeouts = requested_size(selection), Timeouts()
    if fault := machine.size_fault(size):
        raise InputError(fault)
    if selection.timeout is not None:
        limit_s = duration_s(selection.timeout, "--timeout")
        timeouts = timeouts.model_copy(update={"onboot": limit_s, "services": limit_s})
    if selection.append:
        words = " ".join(filter(None, (bootable.cmdline, *selection.append)))
        bootable = bootable.model_copy(update={"cmdline": words})
    if selection.fail_on_warning:
        bootable = bootable.model_copy(update={"fail_on": WARNINGS})
    bootable = with_qemu_args(bootable, split_qemu_args(selection.qemu_args))
    machine = machine.sized(size)
    return SingleGuest(grown(machine, bootable) if size.grows else machine, bootable, timeouts)


def load_pair(prefix: str, profile: Profile, machine: Machine) -> Bootable:
    """Load a kernel and an initrd: PREFIX-kernel, PREFIX-initrd.img, PREFIX-cmdline.

    The command line is optional.

    Raises BuildError if one of them is missing, InputError if the machine needs more files than these.
    """
    if isinstance(machine.firmware, Firmware) or machine.flash:
        raise InputError(
            "this machine starts with firmware of the archive", "Describe the guest in a *.guest.yml file."
        )
    path = Path(prefix)
    name = path.name.replace("{", "{{").replace("}", "}}")
    cmdline = path.with_name(f"{path.name}-cmdline")
    words = cmdline.read_text(encoding="utf-8", errors="replace") if cmdline.is_file() else ""
    guest = PrebuiltGuest(kernel=f"{name}-kernel", initrd=f"{name}-initrd.img", cmdline=" ".join(words.split()))
    return prebuilt_bootable(guest, path.parent, profile, machine)

"""`bootmatrix arch`: the architectures and their machines; whether a profile holds good; what runs showed of each."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from rich import box
from rich.table import Table

from bootmatrix.cli import matrix, options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import say
from bootmatrix.cli.parsers import ARCH_CHECK_SPEC
from bootmatrix.errors import InputError
from bootmatrix.history.reference import find_run
from bootmatrix.load.known_results import load_seen, save_seen
from bootmatrix.load.lock import write_text
from bootmatrix.load.profile import find_machine, load_profile
from bootmatrix.load.profile_template import new_board
from bootmatrix.load.spec import find_spec
from bootmatrix.model import Include, Matrix, Profile
from bootmatrix.model.base import NAME
from bootmatrix.plan import plan
from bootmatrix.qemu.version import qemu_fault
from bootmatrix.report.machines import latest, machine_table, seen_of
from bootmatrix.runs.run_store import load_run

CHECK_KERNEL = "6.1"
"""What `arch check` boots where the profile has it; else the first kernel that it has."""


def run(_args: argparse.Namespace) -> int:
    """Print all profiles."""

    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("arch/machine", "what it is", "QEMU", "kernels"):
        table.add_column(heading, no_wrap=heading == "arch/machine")
    for profile in options.profiles().values():
        for name, machine in profile.machines.items():
            default = name == profile.default_machine()
            models = "".join(f" @{model}" for model in machine.cpu_models)
            table.add_row(
                f"{profile.name}/{name}" + (" *" if default else ""),
                machine.description + (f"; CPU models{models}" if models else ""),
                f"{machine.qemu} ≥ {machine.min_qemu}",
                " ".join(profile.kernels_of(name)),
            )
    options.print_table(table, "* meant when only the architecture is named")
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Validate a profile and boot each of its machines; the exit status is that of a matrix."""

    profile = load_profile(args.file)
    say(f"{args.file}: valid, {len(profile.machines)} machines")
    known = {**options.profiles(), profile.name: profile}
    cells = plan(check_matrix(profile, args.machine, args.kernel), Path(), known, qemu_fault)
    for skip in cells.skips:
        say(f"{skip.cell.target}: skipped: {skip.reason}")
    workspace, selection = options.workspace(args), options.selection(args)
    return matrix.run_planned(args, workspace.planned((cells, f"arch-{profile.name}", known), selection))


def run_new(args: argparse.Namespace) -> int:
    """Write a profile to begin with."""

    profile, machine = find_machine(options.profiles(), args.like)
    file: Path = args.file
    if file.suffix != ".yml" or not re.fullmatch(NAME, file.stem):
        raise InputError(f"{file}: a profile's file is named <name>.yml, without blanks")
    if file.exists():
        raise InputError(f"{file} is there already")
    if file.stem in options.profiles():
        raise InputError(f"{file}: there is an architecture {file.stem!r}, which it would replace", "Name it anew.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{error.filename} cannot be made: {error.strerror}") from error
    write_text(file, new_board(profile, machine.partition("@")[0], file.stem))
    say(f"{file}: like {args.like} so far. Change what differs, then: bootmatrix arch check {file}")
    return EXPECTED


def check_matrix(profile: Profile, machines: tuple[str, ...], kernels: tuple[str, ...]) -> Matrix:
    """`hello` on each machine of a profile, by default with one kernel that it has.

    Raises:
        InputError: there is no such machine.
    """

    names = [find_machine({profile.name: profile}, f"{profile.name}/{name}")[1] for name in machines]
    spec = str(find_spec(ARCH_CHECK_SPEC))
    cells = tuple(
        Include(spec=spec, arch=f"{profile.name}/{name}", kernel=kernel)
        for name in names or profile.machines
        for kernel in kernels or [_check_kernel(profile, name)]
    )
    first = cells[0]
    return Matrix(specs=(spec,), arch=(first.arch,), kernel=(first.kernel,), include=cells)


def _check_kernel(profile: Profile, machine: str) -> str:
    known = profile.kernels_of(machine)
    return CHECK_KERNEL if CHECK_KERNEL in known else next(iter(known))


def run_table(args: argparse.Namespace) -> int:
    """Print a table of the machines, with what became of each kernel."""

    if not args.runs and not (args.kept and args.kept.exists()):
        raise InputError("name runs, or a file that keeps what earlier ones showed: --kept FILE")
    known, reports = options.profiles(), options.reports_of(args)
    runs = [load_run(find_run(reports, name).folder) for name in args.runs]
    kept = load_seen(args.kept) if args.kept else ()
    new = [seen_of(record) for run in runs for record in run.records]
    wanted = args.spec or {one.spec for one in new} | {one.spec for one in kept}
    every = latest([*kept, *(one for one in new if one.spec in wanted)], known)
    if args.kept and args.runs:
        save_seen(args.kept, every)
    say(machine_table(known, [one for one in every if one.spec in wanted]))
    return EXPECTED

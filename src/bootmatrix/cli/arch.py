"""`bootmatrix arch`: list, check and create profiles, results by machine."""

import argparse
import re
from pathlib import Path

from rich import box
from rich.table import Table

from bootmatrix.cli import matrix, options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import say
from bootmatrix.cli.parsers.files import ARCH_CHECK_SPEC
from bootmatrix.cli.tables import print_table
from bootmatrix.errors import InputError
from bootmatrix.history.reference import find_run, reports_folder
from bootmatrix.load.lock import load_seen, save_seen, write_text
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
"""Preferred kernel of `arch check`; else the profile's first one."""


def run(_args: argparse.Namespace) -> int:
    """Print all profiles."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("arch/machine", "description", "QEMU", "kernels"):
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
    print_table(table, "* default machine of the architecture")
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Validate a profile and boot its machines; return a matrix run's exit status."""
    profile = load_profile(args.file)
    say(f"{args.file}: valid, {len(profile.machines)} machines")
    profiles = {**options.profiles(), profile.name: profile}
    cells = plan(check_matrix(profile, args.machine, args.kernel), Path(), profiles, qemu_fault)
    for skip in cells.skips:
        say(f"{skip.cell.target}: skipped: {skip.reason}")
    workspace, selection = options.workspace(args), options.selection(args)
    return matrix.run_planned(args, workspace.planned((cells, f"arch-{profile.name}", profiles), selection))


def run_new(args: argparse.Namespace) -> int:
    """Write a new profile, based on a machine."""
    profile, machine = find_machine(options.profiles(), args.like)
    file: Path = args.file
    if file.suffix != ".yml" or not re.fullmatch(NAME, file.stem):
        raise InputError(f"{file}: a profile's file name must be NAME.yml, without blanks")
    if file.exists() or file.is_symlink():
        raise InputError(f"{file} already exists")
    if file.stem in options.profiles():
        raise InputError(f"{file}: would replace the architecture {file.stem!r}", "Choose another name.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create {error.filename}: {error.strerror}") from error
    write_text(file, new_board(profile, machine.partition("@")[0], file.stem))
    say(f"{file}: a copy of {args.like}. Edit it, then run: bootmatrix arch check {file}")
    return EXPECTED


def check_matrix(profile: Profile, machines: tuple[str, ...], kernels: tuple[str, ...]) -> Matrix:
    """Make a matrix of `hello` on each machine of a profile.

    Raises InputError if the machine does not exist.
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
    kernels = profile.kernels_of(machine)
    return CHECK_KERNEL if CHECK_KERNEL in kernels else next(iter(kernels))


def run_table(args: argparse.Namespace) -> int:
    """Print the results of runs by machine and kernel."""
    if not args.runs and not (args.kept and args.kept.exists()):
        raise InputError("name runs, or a file with earlier results: --kept FILE")
    profiles, reports = options.profiles(), reports_folder(args.reports)
    runs = [load_run(find_run(reports, name).folder) for name in args.runs]
    kept = load_seen(args.kept) if args.kept else ()
    new = [seen_of(record) for run in runs for record in run.records]
    specs = args.spec or {result.spec for result in new} | {result.spec for result in kept}
    newest = latest([*kept, *(result for result in new if result.spec in specs)], profiles)
    if args.kept and args.runs:
        save_seen(args.kept, newest)
    say(machine_table(profiles, [result for result in newest if result.spec in specs]))
    return EXPECTED

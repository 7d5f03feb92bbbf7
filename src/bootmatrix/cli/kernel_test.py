"""`bootmatrix kernel-test`: boot a build tree, run a command or its tests."""

import argparse
import os
import shlex
from pathlib import Path

from bootmatrix.cli import options
from bootmatrix.cli.output import say, write_console
from bootmatrix.cli.written_matrix import plan_written, run_written, size_keys
from bootmatrix.errors import InputError
from bootmatrix.load.facts import ALL
from bootmatrix.model import Run
from bootmatrix.runs.consoles import read_console
from bootmatrix.scaffold.kernel_test import CONTAINER, KernelTestRequest
from bootmatrix.workspace.kernel_test import prepare_kernel_test
from bootmatrix.workspace.selection import Selection, board_targets

MAX_OUTPUT_LINES = 200


def run(args: argparse.Namespace) -> int:
    """Write the project of a kernel test, run its matrix, and return the exit status."""
    _refuse_ignored(args)
    workspace = options.workspace(args)
    is_all = vars(args).get("arch_is_default", False) or ALL in args.arch
    targets = board_targets(Selection(arch=args.arch, machine=args.machine)) if args.arch and not is_all else ()
    matrix, notes = prepare_kernel_test(
        args.tree, _request(args), workspace.profiles(), arch=targets, cache=workspace.cache, save=args.save
    )
    kernels = matrix.parent.absolute() / "kernels.yml"
    os.environ["BOOTMATRIX_KERNELS"] = str(kernels)
    planned = plan_written(args, workspace, matrix, notes, args.network)
    status = run_written(args, workspace, planned, _show_output if args.words else None)
    if status:
        again = f"BOOTMATRIX_KERNELS={shlex.quote(str(kernels))} bootmatrix run {shlex.quote(planned.cells[0].spec)}"
        say(f"To boot it by hand: {again} --arch {planned.cells[0].target} --kernel {planned.cells[0].kernel}")
    return status


def _show_output(run: Run, folder: Path) -> None:
    """Print the end of what the command printed, on each architecture."""
    for record in run.records:
        prefix = f"{CONTAINER}| ".encode()
        lines = [line for line in read_console(folder, record).splitlines() if line.startswith(prefix)]
        if lines:
            say(f"\nOutput on {record.cell.target}:")
            write_console(b"".join(line.removeprefix(prefix) + b"\n" for line in lines[-MAX_OUTPUT_LINES:]))


def _refuse_ignored(args: argparse.Namespace) -> None:
    """Refuse options of `matrix` that have no meaning for a build tree."""
    for name in ("tier", "boot", "roots", "verify-fork"):
        if vars(args)[name.replace("-", "_")]:
            raise InputError(f"kernel-test does not take --{name}", "With --save, use it on the matrix written there.")


def _request(args: argparse.Namespace) -> KernelTestRequest:
    size = size_keys(args)
    return KernelTestRequest(
        words=tuple(args.words),
        kunit=args.kunit,
        copy=_folder(args.copy) if args.copy else None,
        image=args.base,
        env=tuple(args.env),
        results=tuple(args.get),
        timeout=args.timeout or "",
        modules=args.modules,
        append=tuple(args.append),
        keys={"resources": size},
    )


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"--copy {path}: not a folder", "Such as kselftest_install, after 'make kselftest-install'.")
    return path

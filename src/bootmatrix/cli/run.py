"""`bootmatrix run`: boot one spec, or what `bootmatrix build` wrote, with the console on the terminal."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, NOT_EXPECTED, OUR_FAULT
from bootmatrix.cli.output import say

if TYPE_CHECKING:
    from bootmatrix.model import Bootable, ConsoleProof, Judgement, Machine, Profile, Timeouts

FOLLOW_S = 0.05


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "run",
        help="boot one spec with the console on the terminal",
        description="Boot one spec with the console on the terminal, and say what the verdict is. With --shell the "
        "guest does not shut down at its end but gives a shell; leave it with 'poweroff -f', or QEMU with Ctrl-A X.",
    )
    parser.add_argument(
        "files",
        nargs=1,
        metavar="SPEC|FILE|PREFIX",
        help="a spec, a file that 'bootmatrix build' wrote, or the prefix of a kernel and an initrd (PREFIX-kernel, …)",
    )
    options.add_single(parser)
    options.add_sources(parser)
    options.add_qemu_args(parser)
    parser.add_argument(
        "--expect", metavar="TEXT", help="for a guest that is not ours: what its console shows on a pass"
    )
    parser.add_argument("--forbid", action="append", default=[], metavar="TEXT", help="what it must not show")
    parser.add_argument("--stays", action="store_true", help="it does not leave by itself: end it once it showed TEXT")
    parser.add_argument("--shell", action="store_true", help="a shell on the console at the end, and no verdict")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep its console there, the files that it sends, and what is known of it if it hangs or panics",
    )
    parser.add_argument(
        "--dump", action="store_true", help="with --keep: if it hangs or panics, its memory too, for gdb"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Boot; the exit status is 0 for a pass, 1 for any other verdict of the guest's, 3 for an error of ours."""
    from bootmatrix.cell.run import with_proof
    from bootmatrix.qemu.command import interactive
    from bootmatrix.qemu.version import find_qemu
    from bootmatrix.report.sanitize import one_line

    machine, bootable, timeouts = _bootable(args)
    program = find_qemu(machine)
    if args.shell:
        sys.stdout.flush()
        os.execv(program, interactive(machine, bootable, shell=True).arguments)  # noqa: S604, S606
    bootable = with_proof(bootable, _proof(args), machine)
    with _folder(args) as folder:
        judgement, kept = _boot(machine, bootable, timeouts, folder, args.dump)
    say("", f"{judgement.verdict}: {one_line(judgement.reason)}")
    if judgement.advice:
        say(judgement.advice)
    if args.keep:
        say(*(f"Kept: {folder / name}" for name in kept))
    elif len(kept) > 1:
        say(f"--keep FOLDER keeps {', '.join(kept)}.")
    if not judgement.verdict.is_guests:
        return OUR_FAULT
    return EXPECTED if judgement.verdict == "pass" else NOT_EXPECTED


def _bootable(args: argparse.Namespace) -> tuple[Machine, Bootable, Timeouts]:
    from bootmatrix.assembly.extra_qemu_args import with_qemu_args
    from bootmatrix.assembly.import_artifacts import find, reread
    from bootmatrix.cli.build import prepare_single
    from bootmatrix.errors import InputError
    from bootmatrix.load.profile import find_machine
    from bootmatrix.model import Timeouts

    name = args.files[0]
    chosen = find(name)
    if chosen:
        if args.shell and chosen.file.format != "kernel+initrd":
            raise InputError("--shell is for a spec, or for kernel+initrd", "What starts on a disk is fixed there.")
        known = options.profiles()
        with options.shown_builder(args) as (builder, _):
            machine, bootable = reread(chosen, args.arch, known, builder)
        return machine, with_qemu_args(bootable, options.qemu_args(args)), Timeouts()
    if Path(f"{name}-kernel").exists():
        profile, board = find_machine(options.profiles(), args.arch)
        machine = profile.machine(board)
        return machine, with_qemu_args(load_pair(name, profile, machine), options.qemu_args(args)), Timeouts()
    cell, machine, bootable = prepare_single(args, tests=not args.shell and args.expect is None)
    return machine, bootable, cell.timeouts


def _proof(args: argparse.Namespace) -> ConsoleProof | None:
    from pydantic import ValidationError

    from bootmatrix.errors import InputError
    from bootmatrix.model import ConsoleProof

    if args.expect is None:
        if args.forbid or args.stays:
            raise InputError("--forbid and --stays go with --expect")
        return None
    try:
        return ConsoleProof(console=args.expect, forbid=tuple(args.forbid), stays=args.stays)
    except ValidationError as error:
        raise InputError("--expect and --forbid take one line of printable text, of 300 characters at most") from error


def load_pair(prefix: str, profile: Profile, machine: Machine) -> Bootable:
    """A kernel and an initrd as others build them too: PREFIX-kernel, PREFIX-initrd.img, and perhaps PREFIX-cmdline.

    Raises:
        BuildError: one of them is missing.
        InputError: the machine takes more than these.
    """
    from bootmatrix.assembly.prebuilt_guest import own_bootable
    from bootmatrix.errors import InputError
    from bootmatrix.model import Firmware, OwnGuest

    if isinstance(machine.firmware, Firmware) or machine.flash:
        raise InputError(
            "this machine starts with firmware of the archive", "Describe the guest in a *.guest.yml file."
        )
    path = Path(prefix)
    name = path.name.replace("{", "{{").replace("}", "}}")
    cmdline = path.with_name(f"{path.name}-cmdline")
    words = cmdline.read_text(encoding="utf-8", errors="replace") if cmdline.is_file() else ""
    guest = OwnGuest(kernel=f"{name}-kernel", initrd=f"{name}-initrd.img", cmdline=" ".join(words.split()))
    return own_bootable(guest, path.parent, profile, machine)


@contextmanager
def _folder(args: argparse.Namespace) -> Iterator[Path]:
    """Where the console and all else goes that a boot leaves.

    Raises:
        InputError: it cannot be made, or there is none in which a dump would stay.
    """
    from bootmatrix.errors import InputError

    if args.keep is None:
        if args.dump:
            raise InputError("--dump goes with --keep FOLDER", "A dump is as large as the guest's memory.")
        with tempfile.TemporaryDirectory(prefix="bootmatrix-") as name:
            yield Path(name)
        return
    try:
        args.keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{args.keep}: {error.strerror}") from error
    yield args.keep


def _boot(
    machine: Machine, bootable: Bootable, timeouts: Timeouts, folder: Path, dump: bool
) -> tuple[Judgement, tuple[str, ...]]:
    """The verdict, and the names of the files in the folder that tell more."""
    import anyio

    from bootmatrix.boot.guest import boot
    from bootmatrix.cell.attempts import save_files
    from bootmatrix.judge import judge
    from bootmatrix.runs.run_store import CONSOLE_FILE

    with _shown(folder / CONSOLE_FILE):
        outcome = anyio.run(partial(boot, machine, bootable, timeouts, folder, dump=dump))
    judgement = judge(outcome, machine, bootable, (folder / CONSOLE_FILE).read_bytes())
    kept = (*(one.file for one in save_files(outcome, folder)), *(one.file for one in outcome.diagnostics if one.file))
    return judgement, (CONSOLE_FILE, *kept)


@contextmanager
def _shown(console: Path) -> Iterator[None]:
    """Print a file as it grows, for as long as the context lasts."""
    done = Event()
    thread = Thread(target=_follow, args=(console, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(console: Path, done: Event) -> None:
    from bootmatrix.report.sanitize import disarmed, harmless

    position = 0
    while True:
        last = done.is_set()
        if console.exists():
            with console.open("rb") as file:
                file.seek(position)
                data = file.read()
            whole = data if last else data[: data.rfind(b"\n") + 1]
            position += len(whole)
            sys.stdout.write(disarmed(harmless(whole.decode("utf-8", "replace"))))
            sys.stdout.flush()
        if last:
            return
        time.sleep(FOLLOW_S)

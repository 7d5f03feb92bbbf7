"""`bootmatrix run`: boot a spec or a built file, console on the terminal."""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import NoReturn

from pydantic import ValidationError

from bootmatrix.cell.fault_places import WORDS
from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import BAD_INPUT, EXPECTED, NOT_EXPECTED, OUR_FAULT
from bootmatrix.cli.matrix import hold_s
from bootmatrix.cli.notify import notifier, tell
from bootmatrix.cli.output import say, write_console
from bootmatrix.cli.run_published import run_published
from bootmatrix.cli.shown_console import ShownConsole
from bootmatrix.errors import BuildError, InputError
from bootmatrix.forge.notify import Message, job_page
from bootmatrix.guest.forward import check_port
from bootmatrix.load.kernels import kernels_file, load_custom_kernels
from bootmatrix.model import ConsoleProof, Verdict
from bootmatrix.qemu.command import interactive
from bootmatrix.qemu.version import find_qemu
from bootmatrix.report.sanitize import one_line
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.source.kernel_symbols import symbol_files
from bootmatrix.store import Store
from bootmatrix.workspace.guest_holder import GuestHolder
from bootmatrix.workspace.single_guest import SingleGuest, find_guest

FOLLOW_S = 0.05
OUTBOUND_ADVICE = "  'bootmatrix shell --network outbound' opens a shell in an image with such a network."


def run(args: argparse.Namespace) -> int:
    """Boot; return the exit status: 0 pass, 1 guest's verdict, 2 skip, 3 ours."""
    if args.on:
        from bootmatrix.cli.run_on import run_on

        return run_on(args)
    services = notifier(args)
    if args.publish:
        return run_published(args)
    keep_s = hold_s(args)
    _begin(args)
    with download_progress() as downloads:
        guest = find_guest(
            options.workspace(args),
            args.files[0],
            options.board(args),
            args.kernel,
            selection=replace(
                options.guest_selection(args), must_test=not args.shell and args.gdb is None and args.expect is None
            ),
            shell=args.shell,
            observer=downloads,
        )
    program = find_qemu(guest.machine)
    if args.shell or args.gdb is not None:
        _become_qemu(str(program), guest if args.gdb is None else _for_gdb(guest, args), args)
    guest = guest.with_proof(_proof(args))
    with _folder(args) as folder, _followed(folder / CONSOLE_FILE):
        hold = GuestHolder(keep_s, say).hold if keep_s else None
        again = partial(say, f"\nIt hangs: booting it again, with {WORDS}.") if args.explain_hang else None
        judgement, kept = guest.boot(folder, dump=args.dump, hold=hold, on_second_boot=again)
    say(f"\n{judgement.verdict}: {one_line(judgement.reason)}")
    if judgement.advice:
        say(judgement.advice)
    title = one_line(f"{args.files[0]} on {args.arch}, kernel {args.kernel}: {judgement.verdict}")
    tell(services, Message(title, job_page(os.environ) or title, judgement.verdict is Verdict.PASS))
    if args.keep:
        say(*(f"Saved: {folder / name}" for name in kept))
    elif len(kept) > 1:
        say(f"--keep FOLDER saves {', '.join(kept)}.")
    if not judgement.verdict.is_guests:
        return BAD_INPUT if judgement.verdict is Verdict.SKIP else OUR_FAULT
    if judgement.verdict == "pass":
        return EXPECTED
    if args.match and args.match != judgement.verdict and args.match not in judgement.reason:
        say(f"Not the fault to find: {one_line(args.match)}")
        return OUR_FAULT
    return NOT_EXPECTED


def _begin(args: argparse.Namespace) -> None:
    """Check options, and run the user's build, before anything is downloaded.

    Raises InputError for options that do not go together, or a port that cannot be had; BuildError if the build fails.
    """
    if (args.build or args.match) and not args.git_bisect:
        raise InputError("--build and --match need --git-bisect")
    if args.build:
        _build(args.build)
    if args.gdb is not None:
        check_port(args.gdb)


def _become_qemu(program: str, guest: SingleGuest, args: argparse.Namespace) -> NoReturn:
    """Replace this process by QEMU, with the console on the terminal."""
    if guest.bootable.outbound:
        say("note: nothing leads outside from this guest, whose card is that of '--network guest'", OUTBOUND_ADVICE)
    sys.stdout.flush()
    command = interactive(guest.machine, guest.bootable, shell=args.shell, gdb_port=args.gdb)
    os.chdir("/")  # QEMU prefers firmware of the current folder to its own
    os.execv(program, command.arguments)  # noqa: S606


def _for_gdb(guest: SingleGuest, args: argparse.Namespace) -> SingleGuest:
    """Print gdb's command, and keep the kernel at the addresses of its vmlinux."""
    pairs = symbol_files(_sources(args), guest.bootable.kernel_release)
    symbols = next((f"{shlex.quote(str(vmlinux))} " for _, vmlinux in pairs if vmlinux.is_file()), "")
    say("The guest waits for gdb:", f"  gdb-multiarch {symbols}-ex 'target remote 127.0.0.1:{args.gdb}'")
    return replace(guest, bootable=guest.bootable.model_copy(update={"cmdline": f"{guest.bootable.cmdline} nokaslr"}))


def _sources(args: argparse.Namespace) -> Iterator[Path]:
    """Yield the trees and files that the kernel was added from."""
    custom = load_custom_kernels(kernels_file(), options.profiles()).get(args.kernel, {})
    for kernel in custom.values():
        yield from (Path(kernel.folder, part.path) for part in kernel.parts if part.path)


def _build(command: str) -> None:
    """Run the user's command in a shell. Raises BuildError if it fails."""
    sys.stdout.flush()
    status = subprocess.run(command, shell=True, check=False).returncode  # noqa: S602
    if status:
        raise BuildError(f"--build: {command}: status {status}")


def _proof(args: argparse.Namespace) -> ConsoleProof | None:
    if args.expect is None:
        if args.forbid or args.stays:
            raise InputError("--forbid and --stays need --expect")
        return None
    try:
        return ConsoleProof(console=args.expect, forbid=tuple(args.forbid), stays=args.stays)
    except ValidationError as error:
        raise InputError("--expect and --forbid must be one printable line of at most 300 characters") from error


@contextmanager
def _folder(args: argparse.Namespace) -> Iterator[Path]:
    """Provide the folder for the console and the other results of a boot.

    Raises InputError if the folder cannot be used, or --dump has no folder to keep.
    """
    if args.keep is None:
        if args.dump:
            raise InputError("--dump needs --keep FOLDER", "A dump is as large as the guest's memory.")
        # What a killed process leaves in the cache is removed by the next one.
        with Store(options.workspace(args).cache_folder.absolute()).workspace() as folder:
            yield folder
        return
    yield options.results_folder(args.keep)


@contextmanager
def _followed(console: Path) -> Iterator[None]:
    """Print a file as it grows, within the context."""
    done = Event()
    thread = Thread(target=_follow, args=(console, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(console: Path, done: Event) -> None:
    position, shown = 0, ShownConsole()
    while True:
        last = done.is_set()
        if console.exists():
            with console.open("rb") as file:
                file.seek(position)
                data = file.read()
            whole = data if last else data[: data.rfind(b"\n") + 1]
            position += len(whole)
            write_console(shown.feed(whole))
        if last:
            write_console(shown.rest())
            return
        time.sleep(FOLLOW_S)

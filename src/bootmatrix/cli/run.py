"""`bootmatrix run`: boot one spec, or a built file, with the console on the terminal."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

from pydantic import ValidationError

from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import EXPECTED, NOT_EXPECTED, OUR_FAULT
from bootmatrix.cli.output import say
from bootmatrix.errors import BuildError, InputError
from bootmatrix.model import ConsoleProof
from bootmatrix.qemu.command import interactive
from bootmatrix.qemu.version import find_qemu
from bootmatrix.report.sanitize import disarmed, one_line, sanitize
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.workspace.single_guest import find_guest

FOLLOW_S = 0.05


def run(args: argparse.Namespace) -> int:
    """Boot and return the exit status: 0 for a pass, 1 for another verdict of the guest, 3 for our error."""
    if (args.build or args.match) and not args.git_bisect:
        raise InputError("--build and --match need --git-bisect")
    if args.build:
        _build(args.build)
    with download_progress() as downloads:
        guest = find_guest(
            options.workspace(args),
            args.files[0],
            options.board(args),
            args.kernel,
            selection=replace(
                options.guest_selection(args), machine=None, must_test=not args.shell and args.expect is None
            ),
            shell=args.shell,
            observer=downloads,
        )
    program = find_qemu(guest.machine)
    if args.shell:
        sys.stdout.flush()
        os.execv(program, interactive(guest.machine, guest.bootable, shell=True).arguments)  # noqa: S604, S606
    guest = guest.with_proof(_proof(args))
    with _folder(args) as folder, _followed(folder / CONSOLE_FILE):
        judgement, kept = guest.boot(folder, dump=args.dump)
    say(f"\n{judgement.verdict}: {one_line(judgement.reason)}")
    if judgement.advice:
        say(judgement.advice)
    if args.keep:
        say(*(f"Saved: {folder / name}" for name in kept))
    elif len(kept) > 1:
        say(f"--keep FOLDER saves {', '.join(kept)}.")
    if not judgement.verdict.is_guests:
        return OUR_FAULT
    if judgement.verdict == "pass":
        return EXPECTED
    if args.match and args.match != judgement.verdict and args.match not in judgement.reason:
        say(f"Not the fault to find: {one_line(args.match)}")
        return OUR_FAULT
    return NOT_EXPECTED


def _build(command: str) -> None:
    """Run the user's command in a shell.

    Raises:
        BuildError: it fails.
    """
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

    Raises:
        InputError: the folder cannot be created, or --dump without a folder to keep.
    """
    if args.keep is None:
        if args.dump:
            raise InputError("--dump needs --keep FOLDER", "A dump is as large as the guest's memory.")
        with tempfile.TemporaryDirectory(prefix="bootmatrix-") as name:
            yield Path(name)
        return
    try:
        args.keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{args.keep}: {error.strerror}") from error
    yield args.keep


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
    position = 0
    while True:
        last = done.is_set()
        if console.exists():
            with console.open("rb") as file:
                file.seek(position)
                data = file.read()
            whole = data if last else data[: data.rfind(b"\n") + 1]
            position += len(whole)
            sys.stdout.write(disarmed(sanitize(whole.decode("utf-8", "replace"))))
            sys.stdout.flush()
        if last:
            return
        time.sleep(FOLLOW_S)

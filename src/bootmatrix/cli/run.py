"""`bootmatrix run`: boot one spec, or what `bootmatrix build` wrote, with the console on the terminal."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, NOT_EXPECTED, OUR_FAULT

if TYPE_CHECKING:
    from bootmatrix.model import Artefact, Bootable, Judgement, Machine, Timeouts

FOLLOW_S = 0.05


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "run",
        help="boot one spec with the console on the terminal",
        description="Boot one spec with the console on the terminal, and say what the verdict is. With --shell the "
        "guest does not shut down at its end but gives a shell; leave it with 'poweroff -f', or QEMU with Ctrl-A X.",
    )
    parser.add_argument("files", nargs=1, metavar="SPEC|PREFIX", help="a spec, or a prefix that 'build' wrote")
    options.add_single(parser)
    options.add_sources(parser)
    parser.add_argument("--shell", action="store_true", help="a shell on the console at the end, and no verdict")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Boot; the exit status is 0 for a pass, 1 for any other verdict of the guest's, 3 for an error of ours."""
    from bootmatrix.boot.command import interactive
    from bootmatrix.boot.qemu import find_qemu

    machine, bootable, timeouts = _bootable(args)
    program = find_qemu(machine)
    if args.shell:
        sys.stdout.flush()
        os.execv(program, interactive(machine, bootable, shell=True).arguments)  # noqa: S604, S606
    judgement = _boot(machine, bootable, timeouts)
    print(f"\n{judgement.verdict}: {judgement.reason}")
    if judgement.advice:
        print(judgement.advice)
    if not judgement.verdict.is_guests:
        return OUR_FAULT
    return EXPECTED if judgement.verdict == "pass" else NOT_EXPECTED


def _bootable(args: argparse.Namespace) -> tuple[Machine, Bootable, Timeouts]:
    from bootmatrix.cli.build import prepare_single
    from bootmatrix.load.profile import find_machine
    from bootmatrix.model import Timeouts

    built = Path(f"{args.files[0]}-bootable.json")
    if built.exists():
        profile, name = find_machine(options.profiles(), args.arch)
        return profile.machine(name), load_built(built), Timeouts()
    cell, machine, bootable = prepare_single(args)
    return machine, bootable, cell.timeouts


def load_built(path: Path) -> Bootable:
    """What `bootmatrix build` wrote, with the files that stand beside it.

    Raises:
        InputError: it is damaged, or a file was changed since.
    """
    from pydantic import ValidationError

    from bootmatrix.errors import InputError
    from bootmatrix.model import Bootable
    from bootmatrix.store import sha256_of

    try:
        bootable = Bootable.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: not what 'bootmatrix build' writes", "Build it again.") from error
    prefix = str(path).removesuffix("-bootable.json")

    def beside(suffix: str, artefact: Artefact) -> Artefact:
        file = Path(f"{prefix}-{suffix}")
        if not file.is_file() or sha256_of(file) != artefact.sha256:
            raise InputError(f"{file}: missing, or not the file that was built", "Build it again.")
        return artefact.model_copy(update={"path": str(file)})

    return bootable.with_parts({suffix: beside(suffix, artefact) for suffix, artefact in bootable.parts().items()})


def _boot(machine: Machine, bootable: Bootable, timeouts: Timeouts) -> Judgement:
    import anyio

    from bootmatrix.boot.guest import CONSOLE_FILE, boot
    from bootmatrix.judge import judge

    with tempfile.TemporaryDirectory(prefix="bootmatrix-") as name:
        folder = Path(name)
        with _shown(folder / CONSOLE_FILE):
            outcome = anyio.run(boot, machine, bootable, timeouts, folder)
        return judge(outcome, machine, bootable, (folder / CONSOLE_FILE).read_bytes())


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
    from bootmatrix.report.harmless import harmless

    position = 0
    while True:
        last = done.is_set()
        if console.exists():
            with console.open("rb") as file:
                file.seek(position)
                data = file.read()
            whole = data if last else data[: data.rfind(b"\n") + 1]
            position += len(whole)
            sys.stdout.write(harmless(whole.decode("utf-8", "replace")))
            sys.stdout.flush()
        if last:
            return
        time.sleep(FOLLOW_S)

"""Command line: options in `parsers`; a command is imported when it runs."""

import argparse
import atexit
import errno
import gc
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import NoReturn

from bootmatrix import __version__
from bootmatrix.cli import signals, streams
from bootmatrix.cli.environment import check_environment
from bootmatrix.cli.exits import ABORTED, BAD_INPUT, INTERRUPTED, OUR_FAULT, git_bisect_status
from bootmatrix.cli.output import complain
from bootmatrix.cli.parsers import ADDERS
from bootmatrix.cli.project_defaults import apply_defaults, with_origin
from bootmatrix.errors import BootmatrixError, InputError, Interrupted, described
from bootmatrix.redact import redacted
from bootmatrix.report.sanitize import sanitize

NEW_OBJECTS = 50_000
"""Garbage collection threshold: imported objects stay, and the default threshold costs a tenth of a build."""

COMMANDS = tuple(ADDERS)

GIT_BISECT = "--git-bisect"

RUNNERS = {"try", "kernel-test"}
"""Commands whose arguments end with `--` and a command for the guest."""

EPILOG = """\
exit status:
  0    all as expected
  1    an unexpected verdict of a guest: fail, panic, hang, timeout, flaky, or a pass
  2    bad input or usage, or nothing was tested
  3    only our own or infrastructure's errors: build-error, infra-error
  130  interrupted
  137  killed, such as for want of memory
"""


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are redacted: arguments may be URLs with secrets."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with status 2."""
        super().error(sanitize(redacted(message)))

    def _get_formatter(self) -> argparse.HelpFormatter:
        """Make a formatter. argparse's own imports shutil, which takes 5 ms."""
        return self.formatter_class(prog=self.prog, width=_width())  # type: ignore[call-arg]


@cache
def _width() -> int:
    """Return the width of help, as argparse chooses it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns) - 2
    try:
        return (os.get_terminal_size(1).columns or 80) - 2
    except OSError:
        return 78


def parser(only: str = "") -> argparse.ArgumentParser:
    """Make the parser of the command line or, for speed, of one command only."""
    top = Parser(
        prog="bootmatrix",
        description="Boot every spec × architecture × kernel under emulation, and print for each whether it passed, "
        "failed, panicked or hung, and why.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"bootmatrix {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in [only] if only in COMMANDS else COMMANDS:
        ADDERS[name](commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    # Looking for plug-ins of pydantic reads the metadata of all installed packages, whenever its first model is built.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")
    if arguments is None:
        streams.take_over()
        signals.handle_signals()
    gc.set_threshold(NEW_OBJECTS)
    atexit.register(gc.freeze)  # skips the collection at exit, which takes 0.06 s
    args = argparse.Namespace(git_bisect=False, is_kept=False, files=None)
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        words, args.words = _split_command(words)
        parser(words[0] if words else "").parse_args(words, args)
        _check_values(words if words[:1] and words[0] in RUNNERS else words[: len(words) - len(args.words)])
        check_environment(args)
        apply_defaults(args)
        _adopt_input(args)
        status = _run(args)
    except SystemExit as left:  # from argparse, after its own output
        if lost := streams.lost_output():
            status = _without_output(lost, int(left.code or 0))
            raise SystemExit(status) from lost
        if left.code and GIT_BISECT in words:  # bad usage is so for each commit
            raise SystemExit(ABORTED) from left
        raise
    except BaseException as error:
        status = _fault(error)
    if args.git_bisect:
        status = git_bisect_status(status)
    lost = streams.lost_output()
    status = _without_output(lost, status) if lost and not args.is_kept else status
    if arguments is None:
        signals.leave_in_time(status)
    return status


def _split_command(words: list[str]) -> tuple[list[str], list[str]]:
    """Split the arguments of a command that runs another one, which follows `--`."""
    if not words or words[0] not in RUNNERS or "--" not in words:
        return words, []
    place = words.index("--")
    return words[:place], words[place + 1 :]


def _check_values(words: list[str]) -> None:
    """Raise InputError if an option has an empty value.

    It may be that of a variable that is not set.
    """
    for word, value in pairwise([*words, "-"]):
        if word.startswith("--") and (value == "" if "=" not in word else word.endswith("=")):
            raise InputError(f"{word.removesuffix('=')}: the value is empty")


def _adopt_input(args: argparse.Namespace) -> None:
    """Copy input files that are the standard input or a pipe."""
    if args.files:
        from bootmatrix.load.piped import adopt

        args.files = [type(name)(adopt(str(name))) for name in args.files]


def _run(args: argparse.Namespace) -> int:
    """Import and run the command `module[:function]`."""
    module, _, function = args.command.partition(":")
    run = getattr(import_module(f"bootmatrix.cli.{module}"), function or "run")
    try:
        return int(run(args))
    except InputError as error:
        raise with_origin(error, args) from error


def _without_output(lost: OSError, status: int) -> int:
    """Return the exit status after a write error, which a saved run survives."""
    if lost.errno != errno.EPIPE:
        complain(f"bootmatrix: cannot write to the standard output: {lost.strerror}")
    return status or OUR_FAULT


def _fault(error: BaseException) -> int:
    """Report an error and return the exit status, never that of a guest's verdict."""
    if isinstance(error, KeyboardInterrupt | Interrupted) or _has_interrupt(error):
        complain("bootmatrix: interrupted")
        return INTERRUPTED
    if isinstance(error, BootmatrixError):
        complain(error if isinstance(error, InputError) else f"bootmatrix: {error}")
        return BAD_INPUT if isinstance(error, InputError) else OUR_FAULT
    if isinstance(error, OSError):
        message, advice = described(error)
        complain(f"bootmatrix: {message}" + (f"\n  {advice}" if advice else ""))
        return OUR_FAULT
    import traceback

    trace = "".join(traceback.format_exception(error))
    complain(f"bootmatrix: internal error; please report it\n{trace}")
    return OUR_FAULT


def _has_interrupt(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt) is not None


if __name__ == "__main__":
    sys.exit(main())

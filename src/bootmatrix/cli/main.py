"""The command line. Each command is a module with `add_parser` and `run`; what it needs is imported when it runs."""

from __future__ import annotations

import argparse
import atexit
import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from bootmatrix import __version__
from bootmatrix.cli import options
from bootmatrix.cli.exits import BAD_INPUT, INTERRUPTED, OUR_FAULT
from bootmatrix.errors import BootmatrixError, InputError, Interrupted
from bootmatrix.redact import redacted
from bootmatrix.report.sanitize import harmless

NEW_OBJECTS = 50_000
"""What is imported stays: to search it for cycles at every 700 new objects, as Python does, is a tenth of a build."""

COMMANDS = (
    *("matrix", "plan", "run", "build", "validate", "arch", "kernels", "fetch", "lock", "report", "judge"),
    *("bisect", "runs", "history", "compare", "prune", "signoff", "serve", "schema", "doctor"),
)
"""Names of the modules, which are those of the commands."""

EPILOG = """\
exit status:
  0    all as expected
  1    a guest's verdict was not: fail, panic, hang, timeout, flaky, or a pass that was not expected
  2    bad input or usage, or nothing was tested
  3    only our own or infrastructure's errors: build-error, infra-error
  130  interrupted
"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints quote arguments, among which may be URLs with secrets."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with status 2."""
        super().error(harmless(redacted(message)))


def parser(only: str = "") -> argparse.ArgumentParser:
    """The whole command line; or, for speed, the part of it that has just one command."""
    top = Parser(
        prog="bootmatrix",
        description="Boot every spec × architecture × kernel under emulation, and say of each whether it passed, "
        "failed, panicked or hung, and why.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"bootmatrix {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in [only] if only in COMMANDS else COMMANDS:
        import_module(f"bootmatrix.cli.{name}").add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    gc.set_threshold(NEW_OBJECTS)
    atexit.register(gc.freeze)  # before it ends, Python would search all that was imported once more, for 0.06 s
    words = sys.argv[1:] if arguments is None else list(arguments)
    args = parser(words[0] if words else "").parse_args(words)
    try:
        return int(args.run(args))
    except (KeyboardInterrupt, Interrupted):
        print("bootmatrix: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BootmatrixError as error:
        options.complain(f"bootmatrix: {error}" if not isinstance(error, InputError) else error)
        return BAD_INPUT if isinstance(error, InputError) else OUR_FAULT
    except BrokenPipeError:
        sys.stderr.close()
        return OUR_FAULT
    except OSError as error:
        options.complain(f"bootmatrix: {error}")
        return OUR_FAULT
    except Exception:  # whatever it is, it must not end with the status that speaks of a guest
        import traceback

        options.complain(f"bootmatrix: a fault of bootmatrix itself; please report it\n{traceback.format_exc()}")
        return OUR_FAULT


if __name__ == "__main__":
    sys.exit(main())

"""`autopkgtest-virt-bootmatrix`: started behind `-- bootmatrix`."""

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bootmatrix.autopkgtest.protocol import ProtocolServer
from bootmatrix.autopkgtest.source_tree import packages_of
from bootmatrix.cli import testbed_command
from bootmatrix.cli.arguments import NUMBER, add_shared, add_single, option
from bootmatrix.cli.exits import BAD_INPUT, OUR_FAULT
from bootmatrix.cli.output import complain
from bootmatrix.errors import BootmatrixError, InputError, described

ENDING = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
DESCRIPTION = """\
A virtualisation server of autopkgtest: each testbed is a guest of this machine and kernel.
Use it as: autopkgtest … -- bootmatrix --arch A --kernel K
"""


class _Ended(BaseException):
    """A signal that ends the server."""

    def __init__(self, number: int) -> None:
        self.number = number


def parser() -> argparse.ArgumentParser:
    """Make the parser of its options."""
    made = argparse.ArgumentParser(
        "autopkgtest-virt-bootmatrix", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_single(made)
    option(made, "--root IMAGE", "root with apt (default: debian)", default="debian")
    option(made, "--memory MEMORY", "the guest's memory (default: 2G)", default="2G")
    option(made, "--cpus", "the guest's CPUs", type=NUMBER)
    option(made, "--network", "default: none", choices=("none", "outbound"), default="none")
    option(made, "--tree FOLDER", "let apt know only what this source tree's tests need", type=Path)
    option(made, "--isolation", "run tests that need it", choices=("none", "container", "machine"), default="none")
    option(made, "--module NAME", "load this module of the kernel", action="append", default=[])
    option(made, "--record FILE", "write the guests' kernels, files and packages", type=Path)
    option(made, "--lock FILE", "use the kernels and packages of a lock file only", type=Path)
    add_shared(made, "--cache", "--archive", "--offline")
    option(made, "-d --debug", "ignored")
    return made


def main() -> int:
    """Serve on the standard streams; return 0 after `quit`."""
    args = parser().parse_args()
    for number in ENDING:
        signal.signal(number, _end)
    try:
        _serve(args)
    except _Ended as ended:
        _die(ended.number)
    except BootmatrixError as error:
        complain(f"autopkgtest-virt-bootmatrix: {error}")
        return BAD_INPUT if isinstance(error, InputError) else OUR_FAULT
    except OSError as error:
        complain(f"autopkgtest-virt-bootmatrix: {described(error)[0]}")
        return OUR_FAULT
    return 0


def _end(number: int, _frame: object) -> None:
    for other in ENDING:  # the end itself is waited for only once
        signal.signal(other, signal.SIG_DFL)
    raise _Ended(number)


def _die(number: int) -> NoReturn:
    os.kill(os.getpid(), number)
    raise AssertionError("the signal's default ends this process")


def _serve(args: argparse.Namespace) -> None:
    from bootmatrix.autopkgtest.testbed import Testbed, TestbedSettings

    settings = TestbedSettings(
        *(args.root, args.arch, args.kernel, _workspace(args), _selection(args)),
        record=args.record.absolute() if args.record else None,
        isolation=args.isolation,
        packages=packages_of(args.tree) if args.tree else (),
        modules=tuple(args.module),
    )
    testbed = Testbed(settings, (sys.executable, "-P", testbed_command.__file__))
    with open(1, "wb", buffering=0, closefd=False) as replies:
        ProtocolServer(testbed, lambda words: _shell(testbed, words)).serve(sys.stdin.buffer, replies)


def _workspace(args: argparse.Namespace) -> Mapping[str, Any]:
    paths = {"cache": args.cache, "lock": args.lock}
    values = {name: str(path.absolute()) for name, path in paths.items() if path}
    return {**values, **({"archive": args.archive} if args.archive else {}), "offline": args.offline}


def _selection(args: argparse.Namespace) -> Mapping[str, Any]:
    values = {"memory": args.memory, "cpus": args.cpus}
    if args.network != "none":
        values["network"] = args.network
    return {name: value for name, value in values.items() if value is not None}


def _shell(testbed: Any, words: Sequence[str]) -> None:
    """Run a shell on this process' terminal; without one, nothing."""
    folder, *variables = words
    names = [name for name in variables if "=" in name]
    command = [
        "env",
        f"--chdir={folder}",
        *names,
        "sh",
        "-c",
        "command -v bash >/dev/null && exec bash -i || exec sh -i",
    ]
    try:
        with open("/dev/tty", "rb") as source, open("/dev/tty", "wb") as target:  # noqa: PTH123
            testbed.run(command, terminal=True, streams=(source, target))
    except OSError as error:
        complain(f"autopkgtest-virt-bootmatrix: cannot run a shell: {error.strerror}")

"""`bootmatrix completion`: completion of commands, options and files in shells."""

import argparse
from collections.abc import Iterator

import shtab

from bootmatrix.cli.main import parser

FILES = {
    *("FILE", "SPEC", "MATRIX|SPEC", "SPEC|FILE|PREFIX", "PREFIX", "THING", "TREE", "SOURCE", "-- COMMAND…"),
    *("RUN", "[verify|push] RUN|REPORT.html", "BASELINE", "FROM", "TO", "PATH", "KEY", "PUBLIC-KEY"),
}
"""Metavariables of arguments that may be files; `FOLDER` is one of folders."""


def run(args: argparse.Namespace) -> int:
    """Print the completion script of a shell."""
    whole = parser()
    for action in _actions(whole):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "FOLDER":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(whole, shell=args.shell))
    return 0


def _actions(one: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a command and of those below it."""
    for action in one._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)

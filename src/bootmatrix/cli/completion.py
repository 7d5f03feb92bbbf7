"""`bootmatrix completion`: words that shells complete, as of machines."""

import argparse
from collections.abc import Iterator, Mapping, Sequence

import shtab

from bootmatrix.cli import options
from bootmatrix.cli.main import parser
from bootmatrix.model import Profile

FILES = {
    *("FILE", "SPEC", "MATRIX|SPEC", "SPEC|FILE|PREFIX", "PREFIX", "THING", "TREE", "SOURCE", "-- COMMAND…"),
    *("RUN", "[verify|push] RUN|REPORT.html", "BASELINE", "FROM", "TO", "PATH", "KEY", "PUBLIC-KEY"),
}
"""Metavariables of arguments that may be files; `FOLDER` is one of folders."""
ALL = "all"
BASH = """\
{function}() {{
  local last="${{1##*,}}"
  compgen -P "${{1%"$last"}}" -W "{words}" -- "$last"
}}"""
ZSH = """\
{function}() {{
  _values -s , name {words}
}}"""
FISH = """\
function {function}
  __fish_complete_list , 'string split " " "{words}"'
end"""


def run(args: argparse.Namespace) -> int:
    """Print the completion script of a shell."""
    whole = parser()
    names = _names(options.profiles())
    for action in _actions(whole):
        option = action.option_strings[-1] if action.option_strings else ""
        if option in names:
            action.complete = _one_of(option, names[option])  # type: ignore[attr-defined]
        elif action.metavar in FILES:
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


def _names(profiles: Mapping[str, Profile]) -> dict[str, tuple[str, ...]]:
    """Return the names that options take, from the profiles."""
    machines = [(profile, name) for profile in profiles.values() for name in profile.machines]
    targets = [f"{profile.name}/{name}" for profile, name in machines]
    kernels = {kernel for profile, name in machines for kernel in profile.kernels_of(name)}
    return {
        "--arch": (ALL, *profiles, *targets),
        "--kernel": tuple(sorted(kernels)),
        "--machine": tuple(sorted({name for _, name in machines})),
    }


def _one_of(option: str, names: Sequence[str]) -> dict[str, object]:
    """Return what shtab takes for names, also several with commas between."""
    function = f"_bootmatrix_{option.strip('-')}_names"
    given = {"function": function, "words": " ".join(names)}
    return {
        "bash": function,
        "zsh": function,
        "fish": f"({function})",
        "preamble": {"bash": BASH.format(**given), "zsh": ZSH.format(**given), "fish": FISH.format(**given)},
    }

"""Template of a new profile: a board that extends a known one."""

from typing import Any

import yaml

from bootmatrix.model import Machine, Profile

HEAD = """\
# A board like {like}, until this file says what differs. Delete lines that stay the same.
# docs/add-an-architecture.md says more of each key.
extends: {arch}
setup: false
"""
REQUIRED = ("description", "source")
"""Keys that every new board must set."""
LEFT_OUT = (*REQUIRED, "cpu_models", "kernels")
"""Keys left out: too long for a template, or rarely changed."""
COLUMN = 44
"""Preferred column of comments."""


def new_board(profile: Profile, machine: str, name: str) -> str:
    """Return the text of a profile with one board, so far a copy of another machine.

    Each of the machine's values is listed with its meaning.
    """
    like = f"{profile.name}/{machine}"
    lines = [
        *HEAD.format(like=like, arch=profile.name).splitlines(),
        f"description: {profile.description}, on a board of mine",
        "machines:",
        f"  {name}:",
        f"    extends: {like}",
        f"    description: what {name} is, and its CPU",
        "    source: where these values come from",
        *(_line(key, value) for key, value in _values(profile.machines[machine]).items()),
    ]
    return "\n".join(lines) + "\n"


def _values(machine: Machine) -> dict[str, Any]:
    every = machine.model_dump(mode="json", exclude=set(LEFT_OUT), exclude_defaults=True)
    return {key: every[key] for key in Machine.model_fields if key in every}


def _line(key: str, value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")
    return f"    {key}: {text}".ljust(COLUMN) + f"  # {Machine.model_fields[key].description}"

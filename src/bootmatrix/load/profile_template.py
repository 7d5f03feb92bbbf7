"""The beginning of a new profile: a board that is like one that is known, until its file says what differs."""

from __future__ import annotations

from typing import Any

import yaml

from bootmatrix.model import Machine, Profile

HEAD = """\
# A board like {like}, until this file says what differs. A line that is as it was there may go.
# docs/add-an-architecture.md says more of each key.
extends: {arch}
setup: false
"""
TOLD = ("description", "source")
"""What a new board has to say of itself."""
LEFT_OUT = (*TOLD, "cpu_models", "kernels", "exit_program")
"""What is too long for a beginning, or is hardly ever to be changed."""
COLUMN = 44
"""Where the comments begin, if there is room."""


def new_board(profile: Profile, machine: str, name: str) -> str:
    """The text of a profile with one board, named as the file will be, which is so far the machine of another.

    Each value that the machine has stands in it with what it means.
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

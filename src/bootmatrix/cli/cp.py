"""`bootmatrix cp`: copy files into or out of a kept guest."""

from __future__ import annotations

import argparse
import os
import re

from bootmatrix.cli.guests import find_one
from bootmatrix.cli.output import complain
from bootmatrix.errors import InputError
from bootmatrix.workspace.kept_client import request

REMOTE = re.compile(r"([0-9a-f]{2,12}):(.*)", re.DOTALL)


def run(args: argparse.Namespace) -> int:
    """Copy, and return the exit status."""
    source, target = REMOTE.fullmatch(args.source), REMOTE.fullmatch(args.target)
    if bool(source) == bool(target):
        raise InputError("one of FROM and TO must be ID:PATH", "Such as: bootmatrix cp file 3f2a:/tmp")
    match = source or target
    assert match
    guest = find_one(match[1])
    here = os.path.abspath(args.target if source else args.source)  # noqa: PTH100
    copy = {"direction": "get" if source else "put", "here": here, "there": match[2] or "/root"}
    answer = request(guest, {"copy": copy})
    for text in answer.get("messages", ()):
        complain(f"bootmatrix: {text}")
    return int(answer["status"])

"""`bootmatrix guests`, `cp` and `forward`: kept guests, their files and ports."""

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from bootmatrix import __version__
from bootmatrix.cli.output import complain, say
from bootmatrix.errors import InputError
from bootmatrix.workspace.kept_client import KeptGuest, follow, kept_guests, request, stop


def list_guests(_args: argparse.Namespace) -> int:
    """List all kept guests."""
    guests = list(kept_guests())
    say(*(_line(guest) for guest in guests))
    if not guests:
        say("no guest is kept: 'bootmatrix exec --keep-alive 10m …' keeps one")
    return 0


def _line(guest: KeptGuest) -> str:
    from bootmatrix.report.sanitize import one_line  # not light, and 'exec' imports this module
    from bootmatrix.report.units import duration

    info = guest.info
    age_s = max(0.0, time.time() - float(info["started"]))
    kernel = one_line(str(info.get("release") or info["kernel"]))
    words = (info["name"], info["arch"], kernel, *(f"{key}={text}" for key, text in info["selection"].items()))
    kept = duration(float(info["keep_s"]))
    return f"{guest.id}  {' '.join(map(str, words))}  up {duration(age_s)}, kept {kept} after its last use"


def stop_guests(args: argparse.Namespace) -> int:
    """Stop kept guests. Raises InputError if one is not there."""
    for guest in find(args.ids):
        stop(guest)
        say(f"stopped {guest.id}")
    return 0


def find_one(name: str) -> KeptGuest:
    """Find a kept guest by its id, which may be shortened.

    Raises InputError if it is not there, or is of another version of bootmatrix.
    """
    (guest,) = find([name])
    if guest.info.get("version") != __version__:
        text = f"the guest {guest.id} was started by version {guest.info.get('version')} of bootmatrix"
        raise InputError(text, f"To end it: bootmatrix guests stop {guest.id}")
    return guest


def find(ids: list[str]) -> list[KeptGuest]:
    """Find kept guests by short ids, all without. Raises InputError for one."""
    guests = list(kept_guests())
    chosen = []
    for name in ids:
        matching = [guest for guest in guests if guest.id.startswith(name)]
        if len(matching) != 1:
            known = ", ".join(guest.id for guest in guests) or "none"
            raise InputError(f"{name!r}: expected the id of one kept guest; there are: {known}")
        chosen += matching
    return chosen if ids else guests


REMOTE = re.compile(r"([0-9a-f]{2,12}):(.*)", re.DOTALL)


def run_cp(args: argparse.Namespace) -> int:
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
    return _end(answer)


def _end(answer: Mapping[str, Any]) -> int:
    """Print the messages of a guest's last answer on stderr; return its status."""
    for text in answer.get("messages", ()):
        complain(f"bootmatrix: {text}")
    return int(answer["status"])


PORT = re.compile(r"(?:(\d{1,5}):)?(\d{1,5}|/.+)", re.ASCII)


def run_forward(args: argparse.Namespace) -> int:
    """Forward until interrupted."""
    guest = find_one(args.id)
    ports = [parse_port(text) for text in args.ports]
    for message in follow(guest, {"forward": ports}):
        if "status" in message:
            return _end(message)
        say(*message.get("messages", ()))
        sys.stdout.flush()  # the address, also for who reads a pipe
    return 0


def parse_port(text: str) -> dict[str, Any]:
    """Parse `[LOCAL:]PORT` or `[LOCAL:]/SOCKET`. Raises InputError if it is neither."""
    match = PORT.fullmatch(text)
    if match is None or any(not 0 < int(part) < 65536 for part in match.groups() if part and part.isdecimal()):
        raise InputError(f"{text!r} must be [LOCAL:]PORT, or [LOCAL:]/path/of/socket")
    there: int | str = int(match[2]) if match[2].isdecimal() else match[2]
    local = int(match[1]) if match[1] else there if isinstance(there, int) else 0
    return {"local": local, "there": there}

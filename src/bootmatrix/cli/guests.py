"""`bootmatrix guests`: list and stop kept guests."""

from __future__ import annotations

import argparse
import time

from bootmatrix import __version__
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError
from bootmatrix.workspace.kept_client import KeptGuest, kept_guests, stop


def list_guests(_args: argparse.Namespace) -> int:
    """List all kept guests."""
    guests = list(kept_guests())
    say(*(_line(guest) for guest in guests))
    if not guests:
        say("no guest is kept: 'bootmatrix exec --keep-alive 10m …' keeps one")
    return 0


def _line(guest: KeptGuest) -> str:
    info = guest.info
    age_s = max(0.0, time.time() - float(info["started"]))
    words = (info["name"], info["arch"], info["kernel"], *(f"{key}={text}" for key, text in info["selection"].items()))
    return f"{guest.id}  {' '.join(map(str, words))}  up {age_s:.0f} s, kept {info['keep_s']:.0f} s after its last use"


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
    """Find kept guests by their ids, which may be shortened; all without any. Raises InputError if one is not there."""
    guests = list(kept_guests())
    chosen = []
    for name in ids:
        matching = [guest for guest in guests if guest.id.startswith(name)]
        if len(matching) != 1:
            known = ", ".join(guest.id for guest in guests) or "none"
            raise InputError(f"{name!r}: expected the id of one kept guest; there are: {known}")
        chosen += matching
    return chosen if ids else guests

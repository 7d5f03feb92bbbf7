"""`bootmatrix forward`: ports of this host's loopback that lead into a kept guest."""

from __future__ import annotations

import argparse
import re
from typing import Any

from bootmatrix.cli.guests import find_one
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError
from bootmatrix.workspace.kept_client import follow

PORT = re.compile(r"(?:(\d{1,5}):)?(\d{1,5}|/.+)", re.ASCII)


def run(args: argparse.Namespace) -> int:
    """Forward until interrupted."""
    guest = find_one(args.id)
    ports = [parse_port(text) for text in args.ports]
    for message in follow(guest, {"forward": ports}):
        say(*message.get("messages", ()))
        if "status" in message:
            return int(message["status"])
    return 0


def parse_port(text: str) -> dict[str, Any]:
    """Parse `[LOCAL:]PORT` or `[LOCAL:]/SOCKET`. Raises InputError if it is neither."""
    match = PORT.fullmatch(text)
    if match is None or any(not 0 < int(part) < 65536 for part in match.groups() if part and part.isdecimal()):
        raise InputError(f"{text!r} must be [LOCAL:]PORT, or [LOCAL:]/path/of/socket")
    there: int | str = int(match[2]) if match[2].isdecimal() else match[2]
    local = int(match[1]) if match[1] else there if isinstance(there, int) else 0
    return {"local": local, "there": there}

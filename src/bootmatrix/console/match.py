"""Texts on a console, as a person reads them there: whatever colours they have, whatever the kernel wrote between."""

from __future__ import annotations

import re
from functools import lru_cache

from bootmatrix.console.kernel_messages import STAMP

COLOURS = rb"(?:\x1b\[[0-?]{0,20}[ -/]{0,4}[@-~])*"
"""Control sequences of a terminal (ECMA-48, 5.4), which programs put into the middle of what they print."""


@lru_cache(maxsize=64)
def shown(text: str) -> re.Pattern[bytes]:
    """Finds a text; between its characters there may be changes of colour, as systemd has in `[FAILED]`."""
    return re.compile(COLOURS.join(re.escape(one.encode("utf-8")) for one in text))


def without_printk(transcript: bytes) -> bytes:
    """The console without the kernel's lines, so that a line which one of them tore is whole again."""
    return re.sub(rb"%s[^\n]*\n" % STAMP, b"", transcript)

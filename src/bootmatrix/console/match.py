"""Matching of console text through colours and the kernel's lines."""

import re
from functools import lru_cache

from bootmatrix.console.kernel_messages import STAMP

COLOURS = rb"(?:\x1b\[[0-?]{0,20}[ -/]{0,4}[@-~])*"
"""Terminal control sequences (ECMA-48, 5.4), also in the middle of a text."""


@lru_cache(maxsize=64)
def text_pattern(text: str) -> re.Pattern[bytes]:
    """Return a pattern of a text with colours inside, as systemd's `[FAILED]`."""
    return re.compile(COLOURS.join(re.escape(char.encode("utf-8")) for char in text))


def strip_printk(transcript: bytes) -> bytes:
    """Remove the kernel's lines, which joins lines that they interrupted."""
    return re.sub(rb"%s[^\n]*\n" % STAMP, b"", transcript)

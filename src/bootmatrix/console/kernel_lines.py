"""The console without the text of containers, which may quote a kernel: of this kernel, or of another."""

from __future__ import annotations

import re

from bootmatrix.console.kernel_log import KernelLog
from bootmatrix.console.kernel_messages import STAMP
from bootmatrix.model.base import NAME

CONTAINER = rb"%s\| " % NAME.encode("ascii")
"""How init begins a line that a container printed."""
CUT = b"..."
"""Before a line of which the beginning was left out (console/log.py)."""
SAID = re.compile(rb"^(?:%s|%s)[^\n]*" % (CONTAINER, re.escape(CUT)), re.MULTILINE)
MARK_LEVEL = 6
"""The level of the line with the mark: a console of this level or less does not show it."""
STAMPED = re.compile(STAMP)


def kernel_lines(transcript: bytes, log: KernelLog | None) -> bytes:
    """The transcript with blanks in place of what containers printed, so that all places stay the same.

    A kernel prints into the middle of others' lines, and a container can print what looks so. What the kernel said up
    to the mark of a complete log is known, so nothing there is taken from a container's line. Behind it, or without
    such a log, all from the first time stamp in a line may be the kernel's.
    """
    known = _known_bytes(transcript, log)
    return SAID.sub(lambda line: _blank(line[0], line.end() <= known), transcript)


def _known_bytes(transcript: bytes, log: KernelLog | None) -> int:
    """How much of the transcript was printed before the log was read."""
    if log is None or not log.is_complete:
        return 0
    mark = re.search(rb"^\r?%s[^\n|]*%s" % (STAMP, log.mark.encode("ascii")), transcript, re.MULTILINE)
    if mark:
        return mark.start()
    return len(transcript) if min(log.levels) <= MARK_LEVEL else 0


def _blank(line: bytes, is_known: bool) -> bytes:
    if line.startswith(CUT) and not is_known:
        return line
    stamp = None if is_known else STAMPED.search(line)
    start = stamp.start() if stamp else len(line)
    return b" " * start + line[start:]

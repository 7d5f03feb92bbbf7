"""Masking of container output on the console, since containers may print kernel messages."""

from __future__ import annotations

import re

from bootmatrix.console.kernel_log import KernelLog
from bootmatrix.console.kernel_messages import STAMP
from bootmatrix.model.base import NAME

CONTAINER = rb"%s\| " % NAME.encode("ascii")
"""Init's prefix of a line that a container printed."""
CUT = b"..."
"""Prefix of a line whose beginning was dropped (console/log.py)."""
CONTAINER_LINE = re.compile(rb"^(?:%s|%s)[^\n]*" % (CONTAINER, re.escape(CUT)), re.MULTILINE)
MARK_LEVEL = 6
"""The level of the line with the mark: a console of this level or less does not show it."""
STAMPED = re.compile(STAMP)


def kernel_lines(transcript: bytes, log: KernelLog | None) -> bytes:
    """Return the transcript with blanks for container output; offsets stay the same.

    The kernel prints into the middle of container lines, and a container can imitate that. Up to the mark of a complete
    kernel log, the log has all kernel messages: container lines are masked as a whole. After the mark, or without
    such a log, a container line is masked up to its first time stamp only.
    """
    logged_bytes = _logged_bytes(transcript, log)
    return CONTAINER_LINE.sub(lambda line: _blank(line[0], line.end() <= logged_bytes), transcript)


def _logged_bytes(transcript: bytes, log: KernelLog | None) -> int:
    """Return the number of transcript bytes printed before the kernel log was read."""
    if log is None or not log.is_complete:
        return 0
    mark = re.search(rb"^\r?%s[^\n|]*%s" % (STAMP, log.mark.encode("ascii")), transcript, re.MULTILINE)
    if mark:
        return mark.start()
    return len(transcript) if min(log.levels) <= MARK_LEVEL else 0


def _blank(line: bytes, is_logged: bool) -> bytes:
    if line.startswith(CUT) and not is_logged:
        return line
    stamp = None if is_logged else STAMPED.search(line)
    start = stamp.start() if stamp else len(line)
    return b" " * start + line[start:]

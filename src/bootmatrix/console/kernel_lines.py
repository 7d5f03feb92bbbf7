"""Masking of containers' output, which may look like the kernel's."""

import re
from collections.abc import Iterator

from bootmatrix.console.kernel_log import MARK_LEVEL, KernelLog
from bootmatrix.console.kernel_messages import STAMP, UNSTAMPED
from bootmatrix.model.base import NAME

CONTAINER = rb"%s\| " % NAME.encode("ascii")
"""Init's prefix of a line that a container printed."""
CUT = b"..."
"""Prefix of a line whose beginning was dropped (console/log.py)."""
CONTAINER_LINE = re.compile(rb"^(?:%s|%s)[^\n]*" % (CONTAINER, re.escape(CUT)), re.MULTILINE)
FIRST = re.compile(rb"^%s" % CONTAINER, re.MULTILINE)
UNSTAMPED_LINE = re.compile(rb"^(?!\r?%s)[^\n]+" % STAMP, re.MULTILINE)
STAMPED = re.compile(STAMP)


def kernel_lines(transcript: bytes, log: KernelLog | None) -> bytes:
    """Return the transcript with blanks for container output; offsets stay the same.

    The kernel prints into the middle of container lines, and a container can imitate that. Up to the mark of a complete
    kernel log, the log has all kernel messages: container lines are masked as a whole, and so are lines without a time
    stamp after the first container line, as the rest of a broken line has no prefix. After the mark, or without such a
    log, a container line is masked up to its first time stamp only.
    """
    logged_bytes = _logged_bytes(transcript, log)
    masked = CONTAINER_LINE.sub(lambda line: _blank(line[0], line.end() <= logged_bytes), transcript)
    first = FIRST.search(transcript, 0, logged_bytes)
    if not first:
        return masked
    start = first.start()
    stamped = UNSTAMPED_LINE.sub(lambda line: b" " * len(line[0]), masked[start:logged_bytes])
    return masked[:start] + stamped + masked[logged_bytes:]


def _logged_bytes(transcript: bytes, log: KernelLog | None) -> int:
    """Return the number of transcript bytes printed before the kernel log was read."""
    if log is None or not log.is_complete:
        return 0
    mark = log.mark.encode("ascii")
    own = rb"^%s(?:%s|bootmatrix: )[^\n]*%s" % (UNSTAMPED, STAMP, mark)  # a kernel may print no times
    if line := re.search(own, transcript, re.MULTILINE):
        return line.start()
    return next(_stamps_before(transcript, mark), len(transcript) if min(log.levels) <= MARK_LEVEL else 0)


def _stamps_before(transcript: bytes, mark: bytes) -> Iterator[int]:
    """Yield the first time stamp of each line before a mark."""
    # Without a pattern of both, which would take quadratic time.
    end = 0
    while (at := transcript.find(mark, end)) >= 0:
        start, end = transcript.rfind(b"\n", 0, at) + 1, transcript.find(b"\n", at)
        end = len(transcript) if end < 0 else end
        if stamp := STAMPED.search(transcript, start, transcript.rfind(mark, at, end)):
            yield stamp.start()


def _blank(line: bytes, is_logged: bool) -> bytes:
    if line.startswith(CUT) and not is_logged:
        return line
    stamp = None if is_logged else STAMPED.search(line)
    start = stamp.start() if stamp else len(line)
    return b" " * start + line[start:]

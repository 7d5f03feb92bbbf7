"""Replays of the kernel's log by consoles that are registered late.

Until then an early console (`earlycon`, `earlyprintk`, `udbg-immortal`) has printed it, often on the same port: the
banner of one boot is there twice (kernel/printk/printk.c: register_console, CON_PRINTBUFFER).
"""

import re

from bootmatrix.console.kernel_messages import STAMP

LINE = re.compile(rb"^\r?(%s[^\r\n]*)" % STAMP, re.MULTILINE)
TIME = re.compile(rb"\[ *([0-9]+\.[0-9]{6})\]")
CHANGE = re.compile(rb"console \[[\w-]{1,16}\] (?:en|dis)abled")
"""Printed when a console is registered, or an early one is removed."""
SEARCHED_BYTES = 1 << 18
"""The kernel's log up to the registration of its last console is not larger."""
REPEATED = 3
"""Last lines before a replay that have to be in it."""


def is_replay(transcript: bytes, start: int) -> bool:
    """Return whether the log at an offset came before, from the same boot.

    The last lines before it are repeated with the same microseconds, and a console was registered there. A kernel that
    starts anew has other times, and does not end where its console begins.
    """
    before = _last_before(transcript, start)
    after = LINE.findall(transcript, start, start + SEARCHED_BYTES)
    if not before or not set(before) <= set(after):
        return False
    end = len(after) - after[::-1].index(before[-1])
    return any(CHANGE.search(line) for line in (*before, *after[end : end + REPEATED]))


def _last_before(transcript: bytes, start: int) -> list[bytes]:
    """Return the last lines of the latest time before an offset."""
    lines = LINE.findall(transcript, max(0, start - SEARCHED_BYTES), start)
    times = [_time_s(line) for line in lines]
    latest = max((number for number, time in enumerate(times) if time == max(times)), default=-1)
    return lines[: latest + 1][-REPEATED:]


def _time_s(line: bytes) -> float:
    time = TIME.match(line)
    return float(time[1]) if time else 0.0

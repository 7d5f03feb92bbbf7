"""Signs of trouble on a console, as kernel_messages.toml lists them, and the traces that follow them."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from bootmatrix.model import KernelFault

STAMP = rb"\[ *[0-9]+\.[0-9]{6}\](?:\[[^\]\n]{1,24}\])? "
"""How the kernel begins a line: seconds since its start, and perhaps the caller."""
STAMPED = re.compile(STAMP.replace(b"[0-9]+\\.[0-9]{6}", b"([0-9]+\\.[0-9]{6})"))
MORE_BLANKS = rb" {0,40}"
"""Between a stamp and text: what a message begins with, such as a test's within a test."""
BEGINNING = rb"(?:^\r?|%s%s)" % (STAMP, MORE_BLANKS)

MAX_OF_A_KIND = 3
"""A fault that repeats itself is told a few times, not as often as it does."""
MAX_TRACE_LINES = 80
MAX_LOOKED_AT = 1000
"""Lines in which the rest of a trace is looked for, when other output stands between its lines."""
MAX_LINE = 300
TRACE_GAP_S = 3.0
"""A trace is printed in one go; what the kernel says later than this after a line does not belong to it."""
TRACE_END = b"---[ end"
PANIC = "kernel panic"


@dataclass(frozen=True)
class Sign:
    """One entry of kernel_messages.toml."""

    name: str
    severity: str
    trace: bool
    pattern: str
    source: str
    stall: bool = False
    advice: str = ""
    examples: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def signs() -> tuple[Sign, ...]:
    """All signs, in the order in which they are tried."""
    text = files("bootmatrix.console").joinpath("kernel_messages.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text)["sign"]
    return tuple(Sign(**{**entry, "examples": tuple(entry["examples"])}) for entry in entries)


def is_stall(name: str) -> bool:
    """Whether a sign may be due to a host that had no core for the guest."""
    return any(sign.stall for sign in signs() if sign.name == name)


@lru_cache(maxsize=1)
def _all_patterns() -> re.Pattern[bytes]:
    """Any sign, at a line's beginning; the group that matched has the sign's number."""
    each = (rb"(?P<sign_%d>%s)" % (number, _plain(sign.pattern)) for number, sign in enumerate(signs()))
    return re.compile(rb"%s(?:%s)[^\r\n]*" % (BEGINNING, b"|".join(each)), re.MULTILINE)


def faults() -> tuple[bytes, ...]:
    """Patterns of all by which a kernel tells that it is broken, where a line of its begins."""
    return tuple(_plain(sign.pattern) for sign in signs() if sign.severity == "fail")


def _plain(pattern: str) -> bytes:
    """A pattern that is written over several lines has its blanks in brackets."""
    return (f"(?x:{pattern})" if "\n" in pattern else pattern).encode("utf-8")


def find_kernel_faults(transcript: bytes) -> tuple[KernelFault, ...]:
    """What the console tells of, in order, bounded. What stands in the trace of another is not told again."""
    return tuple(_find(transcript))


def _find(transcript: bytes) -> Iterator[KernelFault]:
    counted: Counter[str] = Counter()
    position, line = 0, 1
    trace_end, fatal_trace = 0, False
    for found in _all_patterns().finditer(transcript):
        sign = signs()[int(str(found.lastgroup).removeprefix("sign_"))]
        is_fatal = sign.severity == "fail"
        is_told = found.start() < trace_end and (fatal_trace or not is_fatal) and sign.name != PANIC
        if is_told or counted[sign.name] == MAX_OF_A_KIND:
            continue
        counted[sign.name] += 1
        fatal_trace = is_fatal
        line += transcript.count(b"\n", position, found.start())
        position = found.start()
        trace, trace_end = _trace(transcript, found) if sign.trace else ((), found.end())
        yield KernelFault(
            name=sign.name,
            is_fatal=is_fatal,
            text=_text(re.sub(rb"^\r?%s" % STAMP, b"", found[0])),
            line=line,
            trace=trace,
            advice=sign.advice,
        )


def _trace(transcript: bytes, found: re.Match[bytes]) -> tuple[tuple[str, ...], int]:
    """The lines of a trace with the first one, and where it ends. Other programs' output between them is left out."""
    stamp = STAMPED.search(found[0])
    before = float(stamp[1]) if stamp else 0.0
    kept = [_text(found[0])]
    end = found.end()
    for _ in range(MAX_LOOKED_AT):
        start = transcript.find(b"\n", end) + 1
        if not start or len(kept) == MAX_TRACE_LINES:
            break
        end = transcript.find(b"\n", start)
        end = len(transcript) if end < 0 else end
        now = STAMPED.search(transcript, start, end)
        if stamp and not now:
            continue
        if now and float(now[1]) > before + TRACE_GAP_S:
            return tuple(kept), start
        before = float(now[1]) if now else before
        kept.append(_text(transcript[now.start() if now else start : end]))
        if TRACE_END in transcript[start:end]:
            break
    return tuple(kept), end


def _text(line: bytes) -> str:
    return line[:MAX_LINE].decode("utf-8", "replace").strip()

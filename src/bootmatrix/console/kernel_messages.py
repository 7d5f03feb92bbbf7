"""Kernel and firmware messages of faults, and the traces after them.

The messages are in kernel_messages.toml.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from bootmatrix.model import KernelFault
from bootmatrix.packaged import packaged_table

STAMP = rb"\[ *[0-9]+\.[0-9]{6}\](?:\[[^\]\n]{1,24}\])? "
"""The kernel's prefix of a line: seconds since its start, and optionally the caller."""
STAMPED = re.compile(STAMP.replace(b"[0-9]+\\.[0-9]{6}", b"([0-9]+\\.[0-9]{6})"))
MORE_BLANKS = rb" {0,40}"
"""Indentation after a stamp, as of subtests in KTAP."""
UNSTAMPED = rb"\r?(?:<[0-9]{1,4}>)?(?:\[ {0,8}[CT][0-9]{1,9}\] )?"
"""The beginning of a line without a time: perhaps priority and caller (kernel/printk/printk.c: print_prefix)."""
BEGINNING = rb"(?:^%s|%s%s)" % (UNSTAMPED, STAMP, MORE_BLANKS)

STAMPED_BANNER = re.compile(rb"^\r?(?:<[0-9]{1,4}>)?%sLinux version " % STAMP, re.MULTILINE)
"""The first message of a kernel that gives all of its lines a time."""
UNTIMED = re.compile(rb"ommand line:[^\n]*\sprintk\.time=(?:0|n|f|of)", re.IGNORECASE)
"""A command line that takes effect after an early console has shown the first message."""

FILE = "console/kernel_messages.toml"
MAX_OF_A_KIND = 3
"""Faults of one name that are recorded; further ones are dropped."""
MAX_TRACE_LINES = 80
MAX_LOOKED_AT = 1000
"""Lines searched for the rest of a trace, which may be interleaved with other output."""
MAX_LINE = 300
MAX_BEFORE = 1000
SOURCE_LINE = re.compile(r" \([^()]{1,200}:[0-9]{1,7}\)")
TRACE_GAP_S = 3.0
"""The longest pause between two lines of a trace."""
TRACE_END = b"---[ end"
PANIC = "kernel panic"
NOTE = "note"
"""Severity of messages that prevent no pass."""
WARNINGS = ("kernel warning", "undefined behaviour")
"""Notes by which a kernel reports a fault of its own."""


@dataclass(frozen=True)
class KernelMessage:
    """One entry of kernel_messages.toml."""

    name: str
    severity: str
    trace: bool
    pattern: str
    source: str
    stall: float = 0.0
    unstamped: bool = False
    info: bool = False
    cause: str = ""
    advice: str = ""
    examples: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def load_messages() -> tuple[KernelMessage, ...]:
    """Load all messages of kernel_messages.toml, in the order of matching."""
    entries = packaged_table(FILE)["message"]
    return tuple(KernelMessage(**{**entry, "examples": tuple(entry["examples"])}) for entry in entries)


@lru_cache(maxsize=1)
def fault_words() -> tuple[bytes, ...]:
    """Load the words of which each message, and each banner, contains one."""
    return tuple(word.encode() for word in packaged_table(FILE)["words"])


def stall_of(name: str) -> float:
    """Return the least stall in s of messages of a name; 0 if not the host's."""
    return max((message.stall for message in load_messages() if message.name == name), default=0.0)


def info_names(names: Collection[str]) -> tuple[str, ...]:
    """Return those of some names whose messages are of level `info`."""
    return tuple(dict.fromkeys(message.name for message in load_messages() if message.info and message.name in names))


def escalated(faults: Iterable[KernelFault], fatal: Collection[str]) -> tuple[KernelFault, ...]:
    """Return the faults, with those of the given names as fatal ones."""
    return tuple(fault.model_copy(update={"is_fatal": True}) if fault.name in fatal else fault for fault in faults)


@lru_cache(maxsize=1)
def _locations() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(entry["pattern"]) for entry in packaged_table(FILE)["location"])


def locate(trace: Iterable[str]) -> str:
    """Return a fault's function and offset from its trace; empty if unknown.

    The source line follows, if `with_lines` added it.
    """
    matches = (pattern.search(line) for line in trace for pattern in _locations())
    match = next((match for match in matches if match), None)
    if match is None:
        return ""
    line = SOURCE_LINE.match(match.string, match.end(1))
    return match[1] + (line[0] if line else "")


def with_lines(faults: Iterable[KernelFault], lines: Mapping[str, str]) -> tuple[KernelFault, ...]:
    """Add source lines to traces: `function+0x12/0x30 (lib/x.c:27)`."""
    if not lines:
        return tuple(faults)
    places = re.compile("|".join(map(re.escape, lines)))
    return tuple(fault.model_copy(update={"trace": tuple(_with_lines(fault.trace, places, lines))}) for fault in faults)


def _with_lines(trace: Iterable[str], places: re.Pattern[str], lines: Mapping[str, str]) -> Iterator[str]:
    return (places.sub(lambda match: f"{match[0]} ({lines[match[0]]})", line) for line in trace)


@lru_cache(maxsize=1)
def _all_patterns() -> re.Pattern[bytes]:
    """Return a pattern of all messages; its group has the message's number."""
    each = (
        rb"(?P<message_%d>%s)" % (number, _pattern(message.pattern)) for number, message in enumerate(load_messages())
    )
    return re.compile(rb"%s(?:%s)[^\r\n]*" % (BEGINNING, b"|".join(each)), re.MULTILINE)


def fault_patterns() -> tuple[bytes, ...]:
    """Return the patterns of fatal messages, without the beginning of a line."""
    return tuple(_pattern(message.pattern) for message in load_messages() if message.severity == "fail")


def _pattern(pattern: str) -> bytes:
    """Compile a pattern; one of several lines is verbose."""
    return (f"(?x:{pattern})" if "\n" in pattern else pattern).encode("utf-8")


def find_kernel_faults(transcript: bytes) -> tuple[KernelFault, ...]:
    """Return a console's faults in order, without those in others' traces.

    Lines without a time do not count after the banner of a kernel that gives its lines a time, unless its command line
    ends that.
    """
    return tuple(_find(transcript))


def _find(transcript: bytes) -> Iterator[KernelFault]:
    counted: Counter[str] = Counter()
    position, line = 0, 1
    trace_end, above = 0, None
    banner = None if UNTIMED.search(transcript) else STAMPED_BANNER.search(transcript)
    stamped_from = banner.end() if banner else len(transcript)
    for match in _all_patterns().finditer(transcript):
        message = load_messages()[int(str(match.lastgroup).removeprefix("message_"))]
        is_fatal = message.severity == "fail"
        is_covered = match.start() < trace_end and above is not None and _covers(above, message)
        is_programs = match.start() > stamped_from and not message.unstamped and not STAMPED.search(match[0])
        if is_covered or is_programs or counted[message.name] == MAX_OF_A_KIND:
            continue
        counted[message.name] += 1
        above = message
        line += transcript.count(b"\n", position, match.start())
        position = match.start()
        trace, trace_end = _trace(transcript, match) if message.trace else ((), match.end())
        yield KernelFault(
            name=message.name,
            is_fatal=is_fatal,
            text=_text(re.sub(rb"^\r?%s" % STAMP, b"", match[0])) + _cause(transcript, match.start(), message.cause),
            line=line,
            at_s=_stamp(match[0]),
            trace=trace,
            advice=message.advice,
        )


def _covers(above: KernelMessage, message: KernelMessage) -> bool:
    """Return whether a message in the trace of another is part of it.

    The host may be the cause of a stall, but of no fault after it. A note covers none of another name, which may be
    fatal to the cell by `fail_on`.
    """
    if above.severity == NOTE:
        return message.name == above.name
    if above.stall:
        return message.severity == NOTE or bool(message.stall)
    return message.name != PANIC


def _cause(transcript: bytes, end: int, pattern: str) -> str:
    """Return a pattern's last match in the lines before a message, or empty."""
    before = transcript[max(0, end - MAX_BEFORE) : end]
    matches = [*re.finditer(pattern.encode(), before)] if pattern else []
    return f": {_text(matches[-1][0])}" if matches else ""


def _trace(transcript: bytes, match: re.Match[bytes]) -> tuple[tuple[str, ...], int]:
    """Return the lines of a trace and its end; output of other programs is left out."""
    stamp = _stamp(match[0])
    before = stamp or 0.0
    kept = [_text(match[0])]
    end = match.end()
    for _ in range(MAX_LOOKED_AT):
        start = transcript.find(b"\n", end) + 1
        if not start or len(kept) == MAX_TRACE_LINES:
            break
        end = transcript.find(b"\n", start)
        end = len(transcript) if end < 0 else end
        now = STAMPED.search(transcript, start, end)
        if stamp is not None and not now:
            continue
        if now and float(now[1]) > before + TRACE_GAP_S:
            return tuple(kept), start
        before = float(now[1]) if now else before
        kept.append(_text(transcript[now.start() if now else start : end]))
        if TRACE_END in transcript[start:end]:
            break
    return tuple(kept), end


def _stamp(line: bytes) -> float | None:
    stamp = STAMPED.search(line)
    return float(stamp[1]) if stamp else None


def _text(line: bytes) -> str:
    return line[:MAX_LINE].decode("utf-8", "replace").strip()

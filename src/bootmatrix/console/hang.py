"""The place where a kernel hangs: its initcalls, and the CPUs' program counters with the names of System.map. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

_INITCALL = rb"([\w.$]{1,200}\+0x[0-9a-f]+/0x[0-9a-f]+)(?: \[[\w-]{1,64}\])?"
CALLING = re.compile(rb"(?:^|\] )calling  " + _INITCALL, re.MULTILINE)
RETURNED = re.compile(rb"(?:^|\] )initcall " + _INITCALL + rb" returned", re.MULTILINE)
"""Lines of `initcall_debug` (init/main.c). It prints such lines of fixups too, behind the device's name."""
CPU = re.compile(r"^CPU#(\d+)", re.MULTILINE)
COUNTER = re.compile(
    r"(?:^|\s)(?:RIP|EIP|PC|R15|NIP|pc|PSW=mask [0-9a-f]+ addr)\s*[ =]\s*(?:0x)?([0-9a-f]{8,16})(?=\s|$)", re.MULTILINE
)
"""The program counter in QEMU's `info registers`, by its names on all architectures (target/*/cpu.c)."""
SYMBOL = re.compile(rb"^([0-9a-f]{8,16}) ([A-Za-z]) ([^\s\[]{1,200})", re.MULTILINE)
LAST = (b"_end", b"__bss_stop")
MAX_CPUS = 8
SECOND = "later ---"
"""Of the line between two looks at the registers (boot/diagnosis.py)."""


class Symbols:
    """The symbols of a kernel, from its System.map."""

    def __init__(self, text: bytes) -> None:
        symbols = {(int(match[1], 16), match[3]) for match in SYMBOL.finditer(text) if match[2] in b"tTwW"}
        rows = sorted(symbols)
        self._addresses = [address for address, _ in rows]
        self._names = [name.decode("ascii", "replace") for _, name in rows]
        ends = (int(match[1], 16) for match in SYMBOL.finditer(text) if match[3] in LAST)
        self._end = max(ends, default=self._addresses[-1] + 1 if rows else 0)

    def name(self, address: int) -> str:
        """Return `function+0x12` for an address; empty for one outside of the kernel."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0 or address >= self._end:
            return ""
        return f"{self._names[index]}+{address - self._addresses[index]:#x}"


def open_initcalls(console: bytes) -> list[str]:
    """Return the initcalls that began and did not return, the last one last."""
    running: dict[bytes, None] = {}
    events = [(match.start(), True, match[1]) for match in CALLING.finditer(console)]
    events += [(match.start(), False, match[1]) for match in RETURNED.finditer(console)]
    for _, is_start, name in sorted(events):
        if is_start:
            running[name] = None
        else:
            running.pop(name, None)
    return [name.decode("ascii", "replace") for name in running]


def program_counters(registers: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield each CPU with its program counters, one for each look at the registers."""
    looks = [_look(part) for part in _parts(registers)]
    for cpu in list(dict.fromkeys(number for look in looks for number in look))[:MAX_CPUS]:
        yield cpu, tuple(look[cpu] for look in looks if cpu in look)


def _parts(registers: str) -> Sequence[str]:
    return registers.split(SECOND) if SECOND in registers else (registers,)


def _look(text: str) -> dict[int, int]:
    starts = [(match.start(), int(match[1])) for match in CPU.finditer(text)] or [(0, 0)]
    ends = [start for start, _ in starts[1:]] + [len(text)]
    found = {}
    for (start, number), end in zip(starts, ends, strict=True):
        if match := COUNTER.search(text, start, end):
            found[number] = int(match[1], 16)
    return found


def describe_hang(console: bytes, registers: str, symbols: Symbols | None) -> str:
    """Describe where a kernel hangs, in one line, from a boot with `initcall_debug` and `nokaslr`."""
    called = CALLING.search(console)
    stuck = open_initcalls(console)
    parts = []
    if stuck:
        parts.append(f"initcall {stuck[-1]} did not return")
    elif called:
        parts.append("all initcalls returned")
    parts += _places(program_counters(registers), symbols)
    return "; ".join(parts) or "its kernel printed no initcall"


def _places(counters: Iterable[tuple[int, tuple[int, ...]]], symbols: Symbols | None) -> Iterator[str]:
    for cpu, addresses in counters:
        places = (symbols.name(address) or f"{address:#x}" if symbols else f"{address:#x}" for address in addresses)
        yield f"CPU {cpu} at {', then '.join(dict.fromkeys(places))}"

"""The place of a hang: initcalls, first task, program counters. Pure."""

import re
from collections.abc import Iterable, Iterator

from bootmatrix.console.symbols import Symbols

_INITCALL = rb"([\w.$]{1,200}\+0x[0-9a-f]+/0x[0-9a-f]+)(?: \[[\w-]{1,64}\])?"
CALLING = re.compile(rb"(?:^|\] )calling  " + _INITCALL, re.MULTILINE)
RETURNED = re.compile(rb"(?:^|\] )initcall " + _INITCALL + rb" returned", re.MULTILINE)
"""Lines of `initcall_debug` (init/main.c). It prints such lines of fixups too, behind the device's name."""
CPU = re.compile(r"^CPU#(\d+)", re.MULTILINE)
COUNTER = re.compile(
    r"(?:^|\s)(?:(?:[RE]IP|PC|NIP|pc|PSW=mask \w+ addr)\s*[ =]\s*(?:0x)?|R15=(?=\w{8}\s))([0-9a-f]{8,16})(?=\s|$)",
    re.MULTILINE,
)
"""The program counter in QEMU's `info registers`, by its names on all architectures (target/*/cpu.c).

R15 is one if it has 32 bits.
"""
INTERRUPTS = (
    (re.compile(r"\b[RE]FL=([0-9a-f]{1,16})"), 0x200, True),
    (re.compile(r"\bPSTATE=([0-9a-f]{8})"), 0x80, False),
    (re.compile(r"\bPSR=([0-9a-f]{8})"), 0x80, False),
    (re.compile(r"\bMSR ([0-9a-f]{16})"), 0x8000, True),
    (re.compile(r"\bPSW=mask ([0-9a-f]{16})"), 0x03 << 56, True),
    (re.compile(r"\bmstatus +([0-9a-f]{8,16})"), 0x2, True),
)
"""The register of each architecture with the bits for interrupts, and whether they are on if one is set."""
IDLE = re.compile(r"idle|cede|wfi|safe_halt")
"""Functions in which a CPU waits for work, on some architectures with interrupts off."""
TASK = (
    rb"task:([\w./-]{1,16}) {1,20}state:([A-Z]) [^\n]{0,200}\bpid: {0,10}%b [^\n]*\n"
    rb"((?:(?!.*task:)[^\n]*\n){1,60})"
)
"""A task with its trace, in the answer to sysrq-t or a message (kernel/sched/core.c: sched_show_task)."""
INIT, ANY = re.compile(TASK % b"1"), re.compile(TASK % rb"\d+")
FRAME = re.compile(
    rb"^(?!.*unreliable)[ ]*(?:\[[^\]\n]*\][ ]*)*\(?([A-Za-z_][\w.$]{0,200})(?:\+0x[0-9a-f]+/|\)? from )", re.MULTILINE
)
"""A line of a trace, on all architectures; `? ` and `(unreliable)` mark what the kernel is not sure of."""
SCHEDULING = re.compile(rb"_*(?:switch(?:_to)?|(?:io_|preempt_)?schedule(?:_\w+)?)")
STATES = {b"S": "sleeps", b"D": "waits", b"R": "runs"}
MAX_FRAMES = 3
MAX_CPUS = 8
SECOND = "later ---"
"""Of the line between two looks at the registers (boot/diagnosis.py)."""


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


def describe_init(tasks: bytes) -> str:
    """Describe the first task by the answer to sysrq-t; empty if unknown."""
    init = INIT.search(tasks.replace(b"\r", b""))
    place = _frames(init[3]) if init else ""
    return f"init ({init[1].decode()}) {STATES[init[2]]} in {place}" if init and init[2] in STATES and place else ""


def blocked_in(trace: Iterable[str]) -> str:
    """Return the functions in which a trace's task waits; empty if unknown."""
    task = ANY.search("".join(f"{line}\n" for line in trace).encode("utf-8", "replace"))
    return _frames(task[3]) if task and task[2] == b"D" else ""


def _frames(trace: bytes) -> str:
    """Name the innermost functions of a trace, without the scheduler's."""
    names = [name.decode() for name in FRAME.findall(trace) if not SCHEDULING.fullmatch(name)]
    return ", from ".join(names[:MAX_FRAMES])


def program_counters(registers: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield each CPU with its program counters, one for each look at the registers."""
    for cpu, looks in _looks(registers):
        yield cpu, tuple(int(match[1], 16) for look in looks if (match := COUNTER.search(look)))


def _looks(registers: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each CPU with its registers, at each look."""
    looks: dict[int, list[str]] = {}
    for part in registers.split(SECOND):
        starts = [(match.start(), int(match[1])) for match in CPU.finditer(part)] or [(0, 0)]
        ends = [start for start, _ in starts[1:]] + [len(part)]
        for (start, number), end in zip(starts, ends, strict=True):
            if COUNTER.search(part, start, end):
                looks.setdefault(number, []).append(part[start:end])
    yield from list(looks.items())[:MAX_CPUS]


def _interrupts_are_off(look: str) -> bool:
    """Return whether a CPU took no interrupts."""
    states = ((pattern.search(look), bits, is_on) for pattern, bits, is_on in INTERRUPTS)
    return any(match and bool(int(match[1], 16) & bits) is not is_on for match, bits, is_on in states)


def describe_hang(console: bytes, registers: str, symbols: Symbols | None) -> str:
    """Describe a hang in one line, by `initcall_debug` and `nokaslr`."""
    called = CALLING.search(console)
    stuck = open_initcalls(console)
    parts = []
    if stuck:
        parts.append(f"initcall {stuck[-1]} did not return")
    elif called:
        parts.append("all initcalls returned")
    parts += _places(registers, symbols)
    return "; ".join(parts) or "its kernel printed no initcall"


def _places(registers: str, symbols: Symbols | None) -> Iterator[str]:
    for (cpu, addresses), (_, looks) in zip(program_counters(registers), _looks(registers), strict=True):
        names = [symbols.name(address) if symbols else "" for address in addresses]
        places = dict.fromkeys(name or f"{address:#x}" for name, address in zip(names, addresses, strict=True))
        stuck = all(names) and not IDLE.search("".join(names)) and all(map(_interrupts_are_off, looks))
        yield f"CPU {cpu} at {', then '.join(places)}{', interrupts off' if stuck else ''}"

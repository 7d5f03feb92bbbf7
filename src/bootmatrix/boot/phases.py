"""Durations of a boot's phases, from the guest's messages. Pure."""

import re
from collections.abc import Iterator

from bootmatrix.model import GuestMessage, Outcome, PhaseTime

SECONDS = re.compile(r"\d{1,6}\.\d\d", re.ASCII)
"""Seconds as in /proc/uptime (proc(5))."""


def guest_phases(outcome: Outcome) -> tuple[PhaseTime, ...]:
    """Return durations of the guest's phases; the last one ends with QEMU.

    `firmware` lasts from QEMU's start to the kernel's clock, `kernel` to init's start, `init` to its first message.
    They are one phase, `boot`, if init did not report them. Each onboot container is a phase, `onboot NAME`.
    """
    times: list[PhaseTime] = []
    before = 0.0
    for name, at_s in _ends(outcome.messages):
        times.append(PhaseTime(name=name, seconds=at_s - before))
        before = at_s
    last = "shutdown" if outcome.ended_by == "guest" else "last"
    return (*times, PhaseTime(name=last, seconds=max(0.0, outcome.wall_s - before)))


def _ends(messages: tuple[GuestMessage, ...]) -> Iterator[tuple[str, float]]:
    """Phases and when they ended, in their order."""
    services = checks = 0.0
    for message in messages:
        if message.kind == "ready":
            yield from _start(message.at_s, messages)
        elif message.kind == "onboot" and message.words[1:2] == ("exit",):
            yield f"onboot {message.words[0]}", message.at_s
        elif message.kind == "services":
            services = message.at_s
        elif message.kind == "check" and message.words[1:2] == ("exit",):
            checks = message.at_s
    yield from ((name, at_s) for name, at_s in (("services", services), ("checks", checks)) if at_s)


def _start(ready_s: float, messages: tuple[GuestMessage, ...]) -> Iterator[tuple[str, float]]:
    """Return the phases before init was ready, if they fit into the measured time."""
    words = next((message.words for message in messages if message.kind == "uptime"), ())
    seconds = [float(word) for word in words if SECONDS.fullmatch(word)]
    born_s, now_s = seconds if len(seconds) == 2 else (-1.0, -1.0)
    if 0 <= born_s <= now_s <= ready_s:
        yield "firmware", ready_s - now_s
        yield "kernel", ready_s - now_s + born_s
        yield "init", ready_s
    else:
        yield "boot", ready_s

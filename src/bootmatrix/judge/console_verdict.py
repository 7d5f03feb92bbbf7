"""Guests whose init is not ours: judged by what their console shows, which is weaker evidence, and said to be."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bootmatrix.console.kernel_messages import STAMP
from bootmatrix.console.match import shown, without_printk
from bootmatrix.console.transcript import last_lines
from bootmatrix.model import ConsoleProof, Evidence, Outcome, QmpEvent, Verdict
from bootmatrix.model.finding import Finding, piece

WEAKER = "judged by its console alone, which whatever runs in the guest can print"
ECHO = re.compile(rb"(?:command line:|unknown kernel command line parameters|BOOT_IMAGE=)", re.IGNORECASE)
"""In lines in which a kernel repeats its command line; the text of a pass is refused there in any case."""
KERNEL_ECHO = re.compile(
    rb"^\r?(?:%s)?(?:(?:kernel )?command line: |unknown kernel command line parameters )" % STAMP, re.IGNORECASE
)
"""How only a kernel begins such a line: what is forbidden counts in all others."""
LEFT = frozenset({"guest-shutdown", "guest-reset"})
STAYED = "shown"
"""The limit of a guest that is ended as soon as it has shown the text, as its proof wants."""


def find_line(transcript: bytes, text: str, echo: re.Pattern[bytes] = ECHO) -> Evidence | None:
    """The first line that shows a text, but for those in which a kernel repeats its command line."""
    for candidate in (transcript, without_printk(transcript)):
        position = 0
        while found := shown(text).search(candidate, position):
            start = candidate.rfind(b"\n", 0, found.start()) + 1
            end = candidate.find(b"\n", found.end())
            line = candidate[start : end if end >= 0 else None]
            if not echo.search(line):
                number = candidate.count(b"\n", 0, start) + 1 if candidate is transcript else None
                return piece("console", line[:4096].decode("utf-8", "replace").strip(), number)
            position = start + len(line)
    return None


def complaints(proof: ConsoleProof, outcome: Outcome, transcript: bytes) -> Iterator[Finding]:
    """What stands in the way of a pass by the console."""
    for text in proof.forbid:
        found = find_line(transcript, text, KERNEL_ECHO)
        if found:
            yield Finding(Verdict.FAIL, f"the console shows {text!r}, which is forbidden", (found,))
    if find_line(transcript, proof.console) is None:
        yield Finding(
            Verdict.FAIL,
            f"the console never showed {proof.console!r}",
            last_lines(transcript),
            "Is this the text that the guest prints, letter by letter, on the machine's console?",
        )
    yield from _way_out(proof, outcome)


def _way_out(proof: ConsoleProof, outcome: Outcome) -> Iterator[Finding]:
    if outcome.limit == STAYED and proof.stays:
        return
    reasons = [str(event.data.get("reason")) for event in left(outcome)]
    if len(reasons) != 1 or reasons[0] not in LEFT:
        found = ", ".join(reasons) or "nothing of the kind"
        yield Finding(
            Verdict.FAIL,
            f"the guest did not leave by itself: expected a power off or a reset, found {found}",
            (),
            "If it is to stay, say so beside the text: 'stays: true'.",
        )


def left(outcome: Outcome) -> list[QmpEvent]:
    """The events of a guest that leaves."""
    return [event for event in outcome.events if event.name == "SHUTDOWN" and event.data.get("guest") is True]


def proofs(proof: ConsoleProof, outcome: Outcome, transcript: bytes) -> Iterator[Evidence]:
    """What a pass rests on."""
    yield piece("judge", WEAKER)
    found = find_line(transcript, proof.console)
    if found:
        yield found
    yield from (piece("qmp", f"SHUTDOWN: {event.data.get('reason')}") for event in left(outcome))

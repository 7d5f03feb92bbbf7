"""Verdicts on foreign inits by their console: weaker evidence, marked so."""

import re
from collections.abc import Iterator

from bootmatrix.console.kernel_messages import STAMP
from bootmatrix.console.match import strip_printk, text_pattern
from bootmatrix.console.transcript import last_lines
from bootmatrix.model import ConsoleProof, Evidence, Outcome, QmpEvent, Verdict
from bootmatrix.model.verdict import Finding, piece

WEAKER = "judged by its console alone, which whatever runs in the guest can print"
ECHO = re.compile(rb"(?:command line:|unknown kernel command line parameters|BOOT_IMAGE=)", re.IGNORECASE)
"""Lines in which a kernel repeats its command line: they never show the text of a pass."""
KERNEL_ECHO = re.compile(
    rb"^\r?(?:%s)?(?:(?:kernel )?command line: |unknown kernel command line parameters )" % STAMP, re.IGNORECASE
)
"""The kernel's own form of such a line; `forbid` applies to all others."""
EXITS = frozenset({"guest-shutdown", "guest-reset"})
STAYED = "shown"
"""The limit that ends a guest with `stays` when its console shows the text."""


def find_line(transcript: bytes, text: str, echo: re.Pattern[bytes] = ECHO) -> Evidence | None:
    """Return the first line that shows a text, without those that match `echo`."""
    for candidate in (transcript, strip_printk(transcript)):
        position = 0
        while match := text_pattern(text).search(candidate, position):
            start = candidate.rfind(b"\n", 0, match.start()) + 1
            end = candidate.find(b"\n", match.end())
            line = candidate[start : end if end >= 0 else None]
            if not echo.search(line):
                number = candidate.count(b"\n", 0, start) + 1 if candidate is transcript else None
                return piece("console", line[:4096].decode("utf-8", "replace").strip(), number)
            position = start + len(line)
    return None


def check_console(proof: ConsoleProof, outcome: Outcome, transcript: bytes) -> Iterator[Finding]:
    """Yield findings that rule out a pass by the console."""
    for text in proof.forbid:
        line = find_line(transcript, text, KERNEL_ECHO)
        if line:
            yield Finding(Verdict.FAIL, f"the console shows {text!r}, which is forbidden", (line,))
    if find_line(transcript, proof.console) is None:
        yield Finding(
            Verdict.FAIL,
            f"the console never showed {proof.console!r}",
            last_lines(transcript),
            "Does the guest print exactly this text on the machine's console?",
        )
    yield from _check_exit(proof, outcome)


def _check_exit(proof: ConsoleProof, outcome: Outcome) -> Iterator[Finding]:
    if outcome.limit == STAYED and proof.stays:
        return
    reasons = [str(event.data.get("reason")) for event in exit_events(outcome)]
    if len(reasons) != 1 or reasons[0] not in EXITS:
        got = ", ".join(reasons) or "none"
        yield Finding(
            Verdict.FAIL,
            f"unexpected exit: expected a guest shutdown or reset, got {got}",
            (),
            "For a guest that keeps running, set 'stays: true' beside the text.",
        )


def exit_events(outcome: Outcome) -> list[QmpEvent]:
    """Return the shutdown events that the guest caused."""
    return [event for event in outcome.events if event.name == "SHUTDOWN" and event.data.get("guest") is True]


def pass_evidence(proof: ConsoleProof, outcome: Outcome, transcript: bytes) -> Iterator[Evidence]:
    """Yield the evidence of a pass."""
    yield piece("judge", WEAKER)
    line = find_line(transcript, proof.console)
    if line:
        yield line
    yield from (piece("qmp", f"SHUTDOWN: {event.data.get('reason')}") for event in exit_events(outcome))

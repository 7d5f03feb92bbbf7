"""What init reported against what the spec has: every container must be accounted for."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from bootmatrix.console.transcript import failed_first, last_lines, said_by
from bootmatrix.model import Bootable, GuestMessage, Outcome, SubResult, Verdict
from bootmatrix.model.finding import Finding, piece

DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_ERROR = 300
RESET_ADVICE = (
    "It reset its machine, and would have done so again and again: the kernel may not fit the CPU or the machine, or "
    "may have died before it could print. Add earlycon to the machine's cmdline."
)
NO_PORT = "bootmatrix: there is no result port"
"""What init says on the console before it gives up."""
PORT_ADVICE = (
    "Its kernel found no virtio-serial port: do `bus`, `bus_name` and `modules` of the machine's profile fit the board?"
)


def words_of(message: GuestMessage) -> str:
    """A message as it was sent, without its number and its signature."""
    return " ".join((message.kind, *message.words))


def reported_faults(outcome: Outcome, bootable: Bootable, transcript: bytes) -> Iterator[Finding]:
    """Faults that init itself told of, in the order in which they happened."""
    for message in outcome.messages:
        if message.kind == "error":
            yield Finding(Verdict.FAIL, f"init failed: {_decoded(message)}", (piece("result", words_of(message)),))
        elif message.words[1:2] == ("exit",) and message.kind in {"onboot", "onshutdown", "service", "check"}:
            yield from _exit(message, bootable, transcript)


def notes(outcome: Outcome) -> Iterator[str]:
    """Remarks of init's that change no verdict."""
    return (_decoded(message) for message in outcome.messages if message.kind == "note")


def _exit(message: GuestMessage, bootable: Bootable, transcript: bytes) -> Iterator[Finding]:
    name, status = message.words[0], message.words[2] if len(message.words) == 3 else "?"
    if status == "0" and message.kind != "service":
        return
    what = {"onboot": "onboot container", "onshutdown": "onshutdown container"}.get(message.kind, message.kind)
    said = said_by(transcript, name)
    failed = failed_first(transcript, name)
    evidence = (piece("result", words_of(message)), *([failed] if failed and failed not in said else []), *said)
    telling = failed or (said[-1] if said else None)
    last = f": {telling.text.removeprefix(f'{name}| ')[:MAX_ERROR]}" if telling else ""
    if message.kind == "service":
        yield Finding(
            Verdict.FAIL, f"service {name} ended unasked with status {status}{last}", evidence, _advice(status)
        )
    elif status == "timeout":
        limit = bootable.checks.get(name)
        within = f" within its {limit:g} s" if limit else " in time"
        yield Finding(
            Verdict.TIMEOUT,
            f"{what} {name} did not end{within}{last}",
            evidence,
            "If it only needs longer, raise the time in its bootmatrix.check annotation.",
        )
    else:
        yield Finding(Verdict.FAIL, f"{what} {name} exited with status {status}{last}", evidence, _advice(status))


def _advice(status: str) -> str:
    return {
        "126": "Its command cannot be executed: is it of the guest's architecture, and executable?",
        "127": "Its command is not in the image.",
        "137": "It was killed (SIGKILL): by the kernel for want of memory, or by init.",
        "139": "It crashed (SIGSEGV).",
    }.get(status, "")


def missing(outcome: Outcome, bootable: Bootable, transcript: bytes) -> Iterator[Finding]:
    """What a sound boot reports and this one did not."""
    messages = outcome.messages
    if not messages:
        reason = "the guest ended without a result: its init never reported"
        reset = any(event.data.get("reason") == "guest-reset" for event in outcome.events if event.name == "SHUTDOWN")
        said = last_lines(transcript)
        without_port = PORT_ADVICE if any(line.text == NO_PORT for line in said) else ""
        yield Finding(Verdict.FAIL, reason, said, RESET_ADVICE if reset else without_port)
        return
    yield from _end(messages, transcript)
    yield from _frame(messages, bootable)
    yield from _series("onboot", messages, bootable.onboot)
    yield from _series("onshutdown", messages, bootable.onshutdown)
    started = {one.words for one in messages if one.kind == "service"}
    for name in bootable.services:
        if (name, "start") not in started:
            yield _unreported(f"service {name} was never started")
    yield from _checks(messages, bootable)


def _frame(messages: Sequence[GuestMessage], bootable: Bootable) -> Iterator[Finding]:
    numbers = [message.sequence for message in messages]
    if numbers != list(range(1, len(numbers) + 1)):
        yield _unreported("messages of init are missing or out of order")
    if [message.kind for message in messages].count("ready") != 1 or messages[0].kind != "ready":
        yield _unreported("init did not say, first and once, that it runs")
    elif messages[0].words != (bootable.kernel_release,):
        found = " ".join(messages[0].words)
        reason = f"the guest runs kernel {found!r}, and {bootable.kernel_release!r} is what this cell is about"
        yield Finding(Verdict.INFRA_ERROR, reason, (piece("result", words_of(messages[0])),))
    for kind, words in (("services", ("up",)), ("shutdown", ())):
        said = [message.words for message in messages if message.kind == kind]
        if said != [words]:
            often = f"reported {len(said)} times, and not once," if said else "never reported"
            yield _unreported(f"init {often} {' '.join((kind, *words))!r}")


def _end(messages: Sequence[GuestMessage], transcript: bytes) -> Iterator[Finding]:
    ends = [message for message in messages if message.kind == "end"]
    if not ends or messages[-1].kind != "end":
        evidence = (piece("result", f"the last message is: {words_of(messages[-1])}"), *last_lines(transcript))
        yield Finding(Verdict.FAIL, "the guest ended without a result: init's last message is missing", evidence)
    elif len(ends) > 1 or len(ends[0].words) != 2 or not DIGEST.fullmatch(ends[0].words[1]):
        yield _unreported("init's last message is not as it has to be")
    elif ends[0].words[0] != "pass":
        evidence = (piece("result", words_of(ends[0])),)
        yield Finding(Verdict.FAIL, "init gave the verdict 'fail'", evidence, follows=True)


def _series(kind: str, messages: Sequence[GuestMessage], expected: Sequence[str]) -> Iterator[Finding]:
    """Containers that run one after the other: each starts and exits with 0, in the order of the spec."""
    found = [message.words for message in messages if message.kind == kind]
    wanted = [words for name in expected for words in ((name, "start"), (name, "exit", "0"))]
    if found == wanted:
        return
    exits = Counter(words[0] for words in found if words[1:2] == ("exit",))
    absent = list((Counter(expected) - exits).elements())
    if absent:
        yield _unreported(f"{kind} container {absent[0]} never came to its end")
    else:
        yield _unreported(f"{kind} containers were not reported as the spec has them", follows=True)


def _checks(messages: Sequence[GuestMessage], bootable: Bootable) -> Iterator[Finding]:
    found = sorted(message.words for message in messages if message.kind == "check")
    wanted = sorted(words for name in bootable.checks for words in ((name, "start"), (name, "exit", "0")))
    if found == wanted:
        return
    exited = {words[0] for words in found if words[1:2] == ("exit",)}
    for name in bootable.checks:
        if name not in exited:
            yield _unreported(f"check {name} gave no result")
    if exited >= set(bootable.checks):
        yield _unreported("checks were not reported as the spec has them", follows=True)


def _unreported(reason: str, follows: bool = False) -> Finding:
    return Finding(Verdict.FAIL, reason, (piece("result", reason),), follows=follows)


def _decoded(message: GuestMessage) -> str:
    try:
        data = base64.b64decode("".join(message.words), validate=True)
    except (binascii.Error, ValueError):
        return " ".join(message.words)[:MAX_ERROR]
    return " ".join(data.decode("utf-8", "replace").split())[:MAX_ERROR]


def subresults(outcome: Outcome, bootable: Bootable) -> Iterator[SubResult]:
    """One for each container that the spec has, in the order of the phases."""
    exits: dict[tuple[str, str], list[str]] = {}
    for message in outcome.messages:
        if message.words[1:2] == ("exit",) and len(message.words) == 3:
            exits.setdefault((message.kind, message.words[0]), []).append(message.words[2])
    for kind, names in (("onboot", bootable.onboot), ("check", tuple(bootable.checks))):
        yield from (_container(kind, name, exits) for name in names)
    started = {message.words[0] for message in outcome.messages if message.kind == "service" and message.words}
    for name in bootable.services:
        died = exits.get(("service", name))
        verdict = Verdict.FAIL if died or name not in started else Verdict.PASS
        detail = f"ended unasked with status {died[0]}" if died else "" if name in started else "not started"
        yield SubResult(name=f"service {name}", verdict=verdict, detail=detail)
    yield from (_container("onshutdown", name, exits) for name in bootable.onshutdown)


def _container(kind: str, name: str, exits: dict[tuple[str, str], list[str]]) -> SubResult:
    statuses = exits.get((kind, name))
    if not statuses:
        return SubResult(name=f"{kind} {name}", verdict=Verdict.FAIL, detail="gave no result")
    status = statuses.pop(0)  # the first of this name that did not have its own yet
    if status == "0":
        return SubResult(name=f"{kind} {name}", verdict=Verdict.PASS)
    if status == "timeout":
        return SubResult(name=f"{kind} {name}", verdict=Verdict.TIMEOUT, detail="did not end in time")
    return SubResult(name=f"{kind} {name}", verdict=Verdict.FAIL, detail=f"exited with status {status}")

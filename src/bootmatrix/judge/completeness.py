"""Completeness of init's report: messages of every container."""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from bootmatrix.console.test_output import failed_results, find_failed_tests, is_telling
from bootmatrix.console.transcript import container_lines, first_failure, last_lines, line_at
from bootmatrix.model import Bootable, Evidence, GuestMessage, Outcome, SubResult, Verdict
from bootmatrix.model.verdict import Finding, piece

DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_ERROR = 300
NO_RESULT = "no result"
KSELFTEST_SKIP = "4"
"""KSFT_SKIP (tools/testing/selftests/kselftest.h)."""
RESET_ADVICE = (
    "It reset its machine: the kernel may not fit the CPU or the machine, or crashed before it could print. "
    "Add earlycon to the machine's cmdline."
)
NO_PORT = "no result port"
"""End of the line that init prints before it gives up."""
PORT_ADVICE = (
    "Its kernel found no virtio-serial port: do `bus`, `bus_name` and `modules` of the machine's profile fit the board?"
)

RUNTIME_ADVICE = "Add another image with crun or runc to 'init' (docs/qemu-arguments.md, \"Consequences\")."


def message_text(message: GuestMessage) -> str:
    """Return a message without its number and its signature."""
    return " ".join((message.kind, *message.words))


def reported_faults(
    outcome: Outcome, bootable: Bootable, transcript: bytes, results: Sequence[SubResult] = ()
) -> Iterator[Finding]:
    """Yield init's faults in order of time; `results` of TAP and JUnit."""
    for message in outcome.messages:
        if message.kind == "error":
            yield Finding(
                Verdict.FAIL, f"init failed: {_decoded(message.words)}", (piece("result", message_text(message)),)
            )
        elif message.kind == "unable":
            yield Finding(
                Verdict.BUILD_ERROR,
                f"init: {_decoded(message.words)}",
                (piece("result", message_text(message)),),
                RUNTIME_ADVICE,
            )
        elif message.words[1:2] == ("exit",) and message.kind in {"onboot", "onshutdown", "service", "check"}:
            yield from _exit_finding(message, outcome, bootable, transcript, results)
        elif message.kind == "service" and message.words[1:2] == ("stuck",):
            yield _stuck_finding(message)


def _stuck_finding(message: GuestMessage) -> Finding:
    """Return the finding of a service that the kernel holds against SIGKILL."""
    process = _decoded(message.words[2:]) if message.words[2:] != ("-",) else ""
    what = f": {process} is stuck in the kernel" if process else ""
    return Finding(
        Verdict.TIMEOUT,
        f"service {message.words[0]} did not end on SIGKILL{what}",
        (piece("result", message_text(message)),),
        "A process in uninterruptible sleep waits for the kernel: for a disk, a frozen file system, or a driver.",
    )


def notes(outcome: Outcome) -> Iterator[str]:
    """Decode the `note` messages of init, which change no verdict."""
    return (_decoded(message.words) for message in outcome.messages if message.kind == "note")


def _exit_finding(
    message: GuestMessage, outcome: Outcome, bootable: Bootable, transcript: bytes, results: Sequence[SubResult]
) -> Iterator[Finding]:
    name, status = message.words[0], message.words[2] if len(message.words) == 3 else "?"
    if status == "0" and message.kind != "service":
        return
    role = {"onboot": "onboot container", "onshutdown": "onshutdown container"}.get(message.kind, message.kind)
    words, first = find_cause(name, transcript, results)
    lines = container_lines(transcript, name)
    sign = [first] if first and first not in lines else []
    evidence = (piece("result", message_text(message)), *sign, *lines)
    last = f": {words[:MAX_ERROR]}" if words else ""
    if message.kind == "service":
        yield Finding(
            Verdict.FAIL, f"service {name} ended unasked with status {status}{last}", evidence, _advice(status)
        )
    elif status == "timeout":
        limit = bootable.checks.get(name)
        within = f" within its {limit:g} s" if limit else " in time"
        yield Finding(
            Verdict.TIMEOUT,
            f"{role} {name} did not end{within}{last}",
            evidence,
            "If it only needs longer, raise the time in its bootmatrix.check annotation.",
        )
    elif status == KSELFTEST_SKIP and (skips := _skipped(name, bootable, results)):
        reason = f": {skips[0].detail}" if skips[0].detail else ""
        ended = f"; init then ended {', '.join(others)}" if (others := _unfinished(outcome, bootable)) else ""
        yield Finding(Verdict.SKIP, f"{role} {name} skipped all of its tests{reason}{ended}", evidence)
    else:
        yield Finding(Verdict.FAIL, f"{role} {name} exited with status {status}{last}", evidence, _advice(status))


def _unfinished(outcome: Outcome, bootable: Bootable) -> list[str]:
    """Return the checks that were started and have no result."""
    words = {message.words[:2] for message in outcome.messages if message.kind == "check"}
    return [f"check {name}" for name in bootable.checks if (name, "start") in words and (name, "exit") not in words]


def _skipped(name: str, bootable: Bootable, results: Sequence[SubResult]) -> list[SubResult]:
    """Return the skips of a container that printed nothing else.

    None if containers share the name: one's skips would excuse another's failure.
    """
    names = (*bootable.onboot, *bootable.checks, *bootable.onshutdown)
    mine = [result for result in results if result.name.startswith(f"{name}: ")]
    return mine if names.count(name) == 1 and all(result.verdict is Verdict.SKIP for result in mine) else []


def find_cause(name: str, transcript: bytes, results: Sequence[SubResult]) -> tuple[str, Evidence | None]:
    """Describe a container's failed tests or last line, and the first sign."""
    first = first_failure(transcript, name)
    tests = find_failed_tests(transcript, name) or failed_results(name, results)
    if tests and not (first and len(tests.names) == 1):
        return str(tests), line_at(transcript, tests.line) if tests.line else first
    lines = [line for line in container_lines(transcript, name) if is_telling(line.text.removeprefix(f"{name}| "))]
    cause = first or (lines[-1] if lines else None)
    return (cause.text.removeprefix(f"{name}| ") if cause else ""), cause


def _advice(status: str) -> str:
    return {
        KSELFTEST_SKIP: "If it is a kselftest that skips: it counts as a skip if it prints '1..0 # SKIP REASON'.",
        "126": "Its command cannot be executed: check its mode and its architecture.",
        "127": "Its command is not in the image, or the kernel cannot run it: a script needs CONFIG_BINFMT_SCRIPT.",
        "132": "It executed what this CPU does not know (SIGILL): it is built for a newer CPU, or is damaged.",
        "137": "It was killed (SIGKILL): by the kernel when memory ran out, or by init.",
        "139": "It crashed (SIGSEGV).",
    }.get(status, "")


def find_gaps(
    outcome: Outcome, bootable: Bootable, transcript: bytes, *, is_skipped: bool = False
) -> Iterator[Finding]:
    """Yield a finding for each message that a complete report has and this one lacks.

    With `is_skipped` a container skipped its tests: init ends early then, and what it did not start follows from that.
    """
    messages = outcome.messages
    if not messages:
        reason = "the guest ended without a result: its init never reported"
        reset = any(event.data.get("reason") == "guest-reset" for event in outcome.events if event.name == "SHUTDOWN")
        lines = last_lines(transcript)
        without_port = (
            PORT_ADVICE
            if any(line.text.startswith("bootmatrix: ") and line.text.endswith(NO_PORT) for line in lines)
            else ""
        )
        yield Finding(Verdict.FAIL, reason, lines, RESET_ADVICE if reset else PORT_ADVICE if without_port else "")
        return
    yield from _check_end(messages, transcript)
    yield from _check_frame(messages, bootable, is_skipped)
    yield from _check_sequence("onboot", messages, bootable.onboot, is_skipped)
    yield from _check_sequence("onshutdown", messages, bootable.onshutdown)
    started = {message.words for message in messages if message.kind == "service"}
    for name in bootable.services:
        if (name, "start") not in started:
            yield _unreported(f"service {name} was never started", follows=is_skipped)
    yield from _check_checks(messages, bootable, is_skipped)


def _check_frame(messages: Sequence[GuestMessage], bootable: Bootable, is_skipped: bool) -> Iterator[Finding]:
    numbers = [message.sequence for message in messages]
    if numbers != list(range(1, len(numbers) + 1)):
        yield _unreported("init's messages are incomplete or out of order")
    if [message.kind for message in messages].count("ready") != 1 or messages[0].kind != "ready":
        ready = [message.kind for message in messages].count("ready")
        found = "none" if not ready else f"{ready}, the first message is {messages[0].kind!r}"
        yield _unreported(f"expected exactly one 'ready' as the first message, got {found}")
    elif messages[0].words != (bootable.kernel_release,):
        reason = f"wrong kernel: expected {bootable.kernel_release!r}, got {' '.join(messages[0].words)!r}"
        yield Finding(Verdict.INFRA_ERROR, reason, (piece("result", message_text(messages[0])),))
    for kind, words in (("services", ("up",)), ("shutdown", ())):
        seen = [message.words for message in messages if message.kind == kind]
        if seen != [words]:
            reason = f"expected exactly one {' '.join((kind, *words))!r} message, got {len(seen) or 'none'}"
            yield _unreported(reason, follows=is_skipped and kind == "services" and not seen)


def _check_end(messages: Sequence[GuestMessage], transcript: bytes) -> Iterator[Finding]:
    ends = [message for message in messages if message.kind == "end"]
    if not ends or messages[-1].kind != "end":
        evidence = (piece("result", f"the last message is: {message_text(messages[-1])}"), *last_lines(transcript))
        yield Finding(Verdict.FAIL, "the guest ended without a result: init's last message is missing", evidence)
    elif len(ends) > 1 or len(ends[0].words) != 2 or not DIGEST.fullmatch(ends[0].words[1]):
        yield _unreported("invalid 'end' message: expected exactly one, with a verdict and a digest")
    elif ends[0].words[0] != "pass":
        evidence = (piece("result", message_text(ends[0])),)
        yield Finding(Verdict.FAIL, "init gave the verdict 'fail'", evidence, follows=True)


def _check_sequence(
    kind: str, messages: Sequence[GuestMessage], expected: Sequence[str], is_skipped: bool = False
) -> Iterator[Finding]:
    """Check sequential containers: each exits with 0, in the spec's order."""
    actual = [message.words for message in messages if message.kind == kind]
    required = [words for name in expected for words in ((name, "start"), (name, "exit", "0"))]
    if actual == required:
        return
    exits = Counter(words[0] for words in actual if words[1:2] == ("exit",))
    absent = list((Counter(expected) - exits).elements())
    if absent:
        yield _unreported(f"{kind} container {absent[0]} did not report an exit", follows=is_skipped)
    else:
        yield _unreported(f"{kind} containers were not reported in the order of the spec", follows=True)


def _check_checks(messages: Sequence[GuestMessage], bootable: Bootable, is_skipped: bool) -> Iterator[Finding]:
    actual = sorted(message.words for message in messages if message.kind == "check")
    required = sorted(words for name in bootable.checks for words in ((name, "start"), (name, "exit", "0")))
    if actual == required:
        return
    exited = {words[0] for words in actual if words[1:2] == ("exit",)}
    for name in bootable.checks:
        if name not in exited:
            yield _unreported(f"check {name} reported no result", follows=is_skipped)
    if exited >= set(bootable.checks):
        yield _unreported("checks were not reported exactly once each", follows=True)


def _unreported(reason: str, follows: bool = False) -> Finding:
    return Finding(Verdict.FAIL, reason, (piece("result", reason),), follows=follows)


def _decoded(words: Sequence[str]) -> str:
    try:
        data = base64.b64decode("".join(words), validate=True)
    except (binascii.Error, ValueError):
        return " ".join(words)[:MAX_ERROR]
    return " ".join(data.decode("utf-8", "replace").split())[:MAX_ERROR]


def subresults(outcome: Outcome, bootable: Bootable, results: Sequence[SubResult] = ()) -> Iterator[SubResult]:
    """Yield a sub-result for each container, in the order of the phases.

    `results` are of their tests.
    """
    exits: dict[tuple[str, str], list[str]] = {}
    for message in outcome.messages:
        if message.words[1:2] == ("exit",) and len(message.words) == 3:
            exits.setdefault((message.kind, message.words[0]), []).append(message.words[2])
    for kind, names in (("onboot", bootable.onboot), ("check", tuple(bootable.checks))):
        yield from (_container((kind, name), bootable, exits, results) for name in names)
    started = {message.words[0] for message in outcome.messages if message.kind == "service" and message.words}
    for name in bootable.services:
        died = exits.get(("service", name))
        verdict = Verdict.FAIL if died or name not in started else Verdict.PASS
        detail = f"ended unasked with status {died[0]}" if died else "" if name in started else "not started"
        yield SubResult(name=f"service {name}", verdict=verdict, detail=detail)
    yield from (_container(("onshutdown", name), bootable, exits, results) for name in bootable.onshutdown)


def _container(
    key: tuple[str, str],
    bootable: Bootable,
    exits: dict[tuple[str, str], list[str]],
    results: Sequence[SubResult],
) -> SubResult:
    name, statuses = " ".join(key), exits.get(key)
    if not statuses:
        return SubResult(name=name, verdict=Verdict.FAIL, detail=NO_RESULT)
    status = statuses.pop(0)  # containers may share a name
    if status == "0":
        return SubResult(name=name, verdict=Verdict.PASS)
    if status == "timeout":
        return SubResult(name=name, verdict=Verdict.TIMEOUT, detail="did not end in time")
    verdict = Verdict.SKIP if status == KSELFTEST_SKIP and _skipped(key[1], bootable, results) else Verdict.FAIL
    return SubResult(name=name, verdict=verdict, detail=f"exited with status {status}")

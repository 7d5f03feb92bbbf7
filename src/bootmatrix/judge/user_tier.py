"""Verdicts of the user tier, never on a guest or a kernel. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from bootmatrix.console.transcript import container_lines
from bootmatrix.judge.completeness import KSELFTEST_SKIP, MAX_ERROR, find_cause
from bootmatrix.judge.tap import MAX_RESULTS, parse
from bootmatrix.model import Evidence, Judgement, SubResult, Verdict
from bootmatrix.model.user_tier import UserContainer, UserEnd, UserOutcome
from bootmatrix.model.verdict import piece

STOPPED = 137
"""Status of a service that was killed in the end: 128 and SIGKILL."""
OUT_OF_TIME = 124
"""Status of timeout(1)."""
FIRST_NEW_CALL = 424
"""From here on system calls have the same numbers on all architectures (arch/*/syscalls in Linux)."""
PROBED_CALLS = {435, 436, 439}
"""clone3, close_range and faccessat2: the C library does without."""
ADVICE = "This was on a kernel that ran already. The system tier, without --tier, decides."
NARROW = "{name} has capabilities, which reach less here: there is one user only, and no change to another"
MAX_EVIDENCE = 8


def judge_user(outcome: UserOutcome, containers: Sequence[UserContainer], console: str) -> Judgement:
    """Judge a run of the user tier.

    A pass needs an account to its end: every container started, onboot containers, checks and onshutdown ended with
    status 0, services ran until they were stopped, and no TAP result failed. A container that skips all of its tests,
    as a kselftest does, skips the cell; what was not started then follows from that.
    """
    if outcome.fault:
        reason = f"the user tier could not run it: {outcome.fault}"
        return Judgement(verdict=Verdict.INFRA_ERROR, reason=reason, advice=ADVICE)
    tap, tap_faults = _tap(containers, console)
    skipped = _skipped(outcome, containers, tap)
    faults = [*_faults(outcome, containers, console, skipped), *tap_faults]
    faults += [f"{result.name}: {result.detail or 'failed'}" for result in tap if result.verdict is Verdict.FAIL]
    results = (*_results(outcome, containers, skipped), *tap)
    kernel = f"on the host's Linux {outcome.kernel_release}"
    means = f"user-mode emulation by {outcome.emulator}" if outcome.emulator else "the host's own processor"
    if not faults and skipped:
        number, detail = next(iter(skipped.items()))
        reason = f"{containers[number].role} {containers[number].name} skipped all of its tests{detail}"
        return Judgement(verdict=Verdict.SKIP, reason=reason, subresults=results, advice=ADVICE, is_weak=True)
    if not faults:
        count = "1 container" if len(containers) == 1 else f"{len(containers)} containers"
        reason = f"{count} as expected by {means}, {kernel}: no verdict on a kernel"
        return Judgement(verdict=Verdict.USER_PASS, reason=reason, subresults=results, advice="", is_weak=True)
    lacking = [*_lacking(outcome, containers)]
    verdict = Verdict.USER_UNSUPPORTED if lacking else Verdict.USER_FAIL
    reason = f"{lacking[0]}: {faults[0]}" if lacking else faults[0]
    narrow = (NARROW.format(name=container.name) for container in containers if container.capabilities)
    texts = (*lacking[1:], *faults[1:], *narrow, *_other_calls(outcome, containers), f"{means}, {kernel}")
    evidence = (*(piece("host", text) for text in texts[:MAX_EVIDENCE]), *_last_lines(outcome, containers, console))
    return Judgement(verdict=verdict, reason=reason, evidence=evidence, subresults=results, advice=ADVICE, is_weak=True)


def unsupported(reason: str) -> Judgement:
    """Return the judgement on a spec that needs what only a guest has."""
    return Judgement(verdict=Verdict.USER_UNSUPPORTED, reason=reason, advice=ADVICE, is_weak=True)


def _skipped(outcome: UserOutcome, containers: Sequence[UserContainer], results: Sequence[SubResult]) -> dict[int, str]:
    """Return the containers that skipped all of their tests, with the reason.

    It is as completeness.py has it for guests.
    """
    names = [container.name for container in containers]
    found: dict[int, str] = {}
    for end in outcome.ends:
        container = containers[end.number]
        mine = [result for result in results if result.name.startswith(f"{container.name}: ")]
        is_skip = str(end.status) == KSELFTEST_SKIP and all(result.verdict is Verdict.SKIP for result in mine)
        if mine and is_skip and container.role != "service" and names.count(container.name) == 1:
            found[end.number] = f": {mine[0].detail}" if mine[0].detail else ""
    return found


def _faults(
    outcome: UserOutcome, containers: Sequence[UserContainer], console: str, skipped: Mapping[int, str]
) -> Iterator[str]:
    if outcome.is_late:
        yield "it did not end in time"
    ends = {end.number: end for end in outcome.ends}
    for number, container in enumerate(containers):
        if number in skipped:
            continue
        if number in outcome.started and (fault := _fault(container, ends.get(number))):
            words, _ = find_cause(container.name, console.encode("utf-8", "replace"), ())
            yield f"{container.role} {container.name} {fault}{f': {words[:MAX_ERROR]}' if words else ''}"
    for number, container in enumerate(containers):
        if number not in outcome.started and not skipped:
            yield f"{container.role} {container.name} was not started"
    if not outcome.finished:
        yield "the account of the run has no end"


def _last_lines(outcome: UserOutcome, containers: Sequence[UserContainer], console: str) -> tuple[Evidence, ...]:
    """Return the last output of the first container that did not end as it should."""
    ends = {end.number: end for end in outcome.ends}
    names = (container.name for number, container in enumerate(containers) if _fault(container, ends.get(number)))
    name = next(names, "")
    return container_lines(console.encode("utf-8", "replace"), name) if name else ()


def _fault(container: UserContainer, end: UserEnd | None) -> str:
    """Return why a container did not end as it should; empty if it did."""
    if end is None:
        return "has no end"
    if container.role == "service":
        is_good = end.was_stopped and end.status == STOPPED
        return "" if is_good else f"ended unasked with status {end.status}"
    if not end.status:
        return ""
    late = " or ran out of time" if end.status == OUT_OF_TIME else ""
    return f"exited with status {end.status}{late}"


def _results(
    outcome: UserOutcome, containers: Sequence[UserContainer], skipped: Mapping[int, str]
) -> Iterator[SubResult]:
    ends = {end.number: end for end in outcome.ends}
    for number, container in enumerate(containers):
        detail = _fault(container, ends.get(number))
        verdict = Verdict.SKIP if number in skipped else Verdict.USER_FAIL if detail else Verdict.USER_PASS
        yield SubResult(name=f"{container.role} {container.name}", verdict=verdict, detail=detail)


def _tap(containers: Sequence[UserContainer], console: str) -> tuple[tuple[SubResult, ...], list[str]]:
    results: list[SubResult] = []
    faults: list[str] = []
    lines = console.split("\n")
    for name in dict.fromkeys(container.name for container in containers if container.role != "service"):
        prefix = f"{name}| "
        tap = parse("\n".join(line.removeprefix(prefix) for line in lines if line.startswith(prefix)), name)
        results += tap.results[:MAX_RESULTS]
        faults += [f"{name}: {fault}" for fault in tap.faults[:5]]
    return tuple(results[:MAX_RESULTS]), faults


def _lacking(outcome: UserOutcome, containers: Sequence[UserContainer]) -> Iterator[str]:
    """Yield what a program used, not only probed, that the emulator lacks."""
    for number, calls in outcome.missing_calls.items():
        new = [call for call in calls if call >= FIRST_NEW_CALL and call not in PROBED_CALLS]
        if new:
            names = ", ".join(map(str, new[:5]))
            yield f"{containers[number].name} uses system calls that user-mode emulation lacks ({names})"


def _other_calls(outcome: UserOutcome, containers: Sequence[UserContainer]) -> Iterator[str]:
    for number, calls in outcome.missing_calls.items():
        names = ", ".join(map(str, calls[:10]))
        yield f"system calls of {containers[number].name} that the emulator lacks, and that may matter: {names}"

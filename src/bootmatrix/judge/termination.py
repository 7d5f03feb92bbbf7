"""How a boot came to its end: QEMU, its events, and our limits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bootmatrix.console.transcript import find_banners, last_lines
from bootmatrix.model import Bootable, Evidence, GuestMessage, Machine, Outcome, QmpEvent, Verdict
from bootmatrix.model.finding import Finding, piece
from bootmatrix.model.outcome import SUSPENDED_S
from bootmatrix.qemu.command import scale

WAY_OUT = {"poweroff": "guest-shutdown", "reboot": "guest-reset", "watchdog": "guest-reset"}
"""Reason of QEMU's SHUTDOWN event (qapi/run-state.json) for each way in which a machine leaves."""
SEMIHOSTING_PASS = 80
"""The status with which init leaves by semihosting after a pass, 81 after a failure; QEMU itself ends with 0 or 1."""
STAYED = (
    "Its init had reported all, and then QEMU did not end. If that is so with each kernel, this machine leaves in "
    "another way than 'exit' in its profile says: docs/add-an-architecture.md."
)
MAX_BANNERS = 5
STARVED_SHARE = 0.5
"""Of the time that a container had: with less than the rest of a core it may have needed no longer than it may."""
STALL_PANIC = re.compile(r"softlockup|hard lockup|hung_task|blocked tasks|rcu|watchdog|stall", re.IGNORECASE)
"""Panics of kernels that give up at a stall (kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h)."""
BITE = "WATCHDOG"
UNWANTED = ("GUEST_CRASHLOADED", BITE, "INTERNAL_ERROR", "MEMORY_FAILURE")


def panic_events(outcome: Outcome) -> Iterator[Finding]:
    """Complaints for a panic that the console need not have shown."""
    for event in outcome.events:
        if event.name == "GUEST_PANICKED":
            yield Finding(Verdict.PANIC, "kernel panic, as the guest told its machine", (_seen(event),))
    if outcome.limit == "panic":
        yield Finding(Verdict.PANIC, "kernel panic; the guest did not leave by itself")


def withheld_time(outcome: Outcome, first: Finding, machine: Machine, bootable: Bootable) -> Iterator[Finding]:
    """A complaint in the place of a `first` one that time which the guest was not given may have brought about."""
    if not first.verdict.is_guests or (first.verdict is Verdict.PANIC and not STALL_PANIC.search(first.reason)):
        return
    if outcome.suspended_s >= SUSPENDED_S:
        why = f"QEMU or bootmatrix was stopped for {outcome.suspended_s:.0f} s or its host suspended"
        yield _withheld(why, first, "Run the cell again, and let it run to its end.")
    elif first.verdict is Verdict.TIMEOUT and outcome.ended_by != "host":  # host limits are extended by such time
        windows = list(_timed_out(outcome))
        limits_s = [bootable.checks.get(name, 0.0) * scale(machine) for name, *_ in windows]
        if windows and all(
            lost_s >= STARVED_SHARE * length_s and (not limit_s or length_s - lost_s < limit_s)
            for (_, lost_s, length_s), limit_s in zip(windows, limits_s, strict=True)
        ):
            _, lost_s, length_s = windows[0]
            why = f"the host had no core for the guest for {lost_s:.1f} of {length_s:.1f} s"
            yield _withheld(why, first, "Run fewer guests at once (--jobs), or on a host with less to do.")


def _timed_out(outcome: Outcome) -> Iterator[tuple[str, float, float]]:
    """Containers whose time was up in the guest: name, seconds without a host core, at least, and seconds in all.

    The guest's clock runs on while QEMU waits for a core. What it lost elsewhere, while it booted, made no difference.
    """
    started: dict[tuple[str, str], GuestMessage] = {}
    for message in outcome.messages:
        name, *what = message.words or ("",)
        if what == ["start"]:
            started[message.kind, name] = message
        elif what == ["exit", "timeout"]:
            start = started.get((message.kind, name))
            length_s = message.at_s - (start.at_s if start else 0.0)
            yield name, _lost_s(outcome, start, message, length_s), length_s


def _lost_s(outcome: Outcome, start: GuestMessage | None, end: GuestMessage, length_s: float) -> float:
    if end.starved_s is not None:
        return end.starved_s - ((start.starved_s or 0.0) if start else 0.0)
    # Format 1 has no figures for each message: this much is certain.
    return max(0.0, outcome.starved_s - (outcome.wall_s - length_s))


def _withheld(why: str, first: Finding, advice: str) -> Finding:
    reason = f"{why}, which may be why {first.reason}"
    return Finding(Verdict.INFRA_ERROR, reason, (piece("clock", why), *first.evidence), advice)


def seen(outcome: Outcome) -> Evidence:
    """How it ended, in one line, for what has no evidence of its own."""
    status = "never started" if outcome.exit_status is None else f"ended with status {outcome.exit_status}"
    limit = f", which was told to by us (limit: {outcome.limit})" if outcome.ended_by == "host" else ""
    return piece("qemu", f"QEMU {status} after {outcome.wall_s:.1f} s{limit}")


def host_faults(outcome: Outcome, machine: Machine) -> Iterator[Finding]:
    """Complaints for what is not the guest's fault."""
    stderr = tuple(piece("qemu", line) for line in outcome.stderr.strip().splitlines()[-5:])
    if outcome.ended_by == "user":
        yield Finding(Verdict.INFRA_ERROR, "interrupted")
    elif outcome.ended_by == "error" or outcome.host_error:
        reason = " ".join(outcome.host_error.split()) or "QEMU ended, and it is not known why"
        yield Finding(Verdict.INFRA_ERROR, reason, stderr, _advice_on(reason, machine))
    elif outcome.exit_status is None:
        yield Finding(Verdict.INFRA_ERROR, "QEMU never started", stderr)
    elif outcome.ended_by == "guest" and outcome.exit_status != 0 and not _left_by_status(outcome, machine):
        reason = f"QEMU ended with status {outcome.exit_status}, after its guest had left"
        yield Finding(Verdict.INFRA_ERROR, reason, stderr)


def _advice_on(reason: str, machine: Machine) -> str:
    """What to do about a QEMU that ended by itself: `reason` has its own words (hw/core/machine.c, hw/core/cpu)."""
    if "unsupported machine type" in reason:
        return f"Its profile says 'machine: {machine.machine}'; '{machine.qemu} -M help' lists those that there are."
    if "unable to find CPU model" in reason:
        return f"Its profile says 'cpu: {machine.cpu}'; '{machine.qemu} -M {machine.machine} -cpu help' lists them."
    return f"Does {machine.qemu} run by hand, with this command?"


def reboots(outcome: Outcome, transcript: bytes) -> Iterator[Finding]:
    """A complaint for a guest that began anew, perhaps again and again."""
    resets = [event for event in outcome.events if event.name == "RESET" and event.data.get("guest") is True]
    banners = tuple(find_banners(transcript))
    if len(banners) > 1 or len(resets) > 1:
        times = max(len(banners), len(resets) + 1)
        yield Finding(
            Verdict.FAIL,
            f"the guest rebooted: its kernel started {times} times",
            (*banners[:MAX_BANNERS], *(_seen(event) for event in resets[:MAX_BANNERS])),
            "What it printed before each start says why.",
        )


def limits(outcome: Outcome, transcript: bytes) -> Iterator[Finding]:
    """Complaints for a guest that we had to stop."""
    if outcome.ended_by != "host" or outcome.limit in {"panic", "shown"}:
        return
    phase = outcome.limit_phase or "boot"
    stopped = piece("clock", f"stopped after {outcome.wall_s:.1f} s, in phase {phase}")
    evidence = (stopped, *last_lines(transcript))
    if outcome.limit == "silence":
        heard = max([0.0, *(message.at_s for message in outcome.messages)])
        reason = f"the guest hangs in phase {phase}: nothing came from it any more"
        advice = f"Its last message came after {heard:.1f} s. The console shows how far it got."
        if outcome.messages and outcome.messages[-1].kind == "end":
            advice = STAYED
        yield Finding(Verdict.HANG, reason, evidence, advice)
    elif outcome.limit == "flood":
        yield Finding(Verdict.FAIL, f"the guest floods its result channel: {outcome.result_fault}", evidence)
    else:
        reason = f"the guest did not finish phase {phase} in time"
        advice = f"If it only needs longer, raise {phase} under timeouts in the matrix."
        if phase == "checks":
            advice = "The check's own limit did not end it, so the guest is very slow or its init is stuck."
        yield Finding(Verdict.TIMEOUT, reason, evidence, advice)


def way_out(outcome: Outcome, machine: Machine, transcript: bytes) -> Iterator[Finding]:
    """Complaints for a guest that left in another way than a sound one leaves this machine."""
    if machine.exit == "semihosting":
        yield from _status(outcome, transcript)
    else:
        yield from _event(outcome, WAY_OUT[machine.exit], transcript)
    yield from unwanted(outcome, _last_bite(outcome) if machine.exit == "watchdog" else None)


def _last_bite(outcome: Outcome) -> QmpEvent | None:
    """The one by which a board resets that has no other way: the first after init's last message."""
    last = outcome.messages[-1] if outcome.messages else None
    if last is None or last.kind != "end":
        return None
    return next((event for event in outcome.events if event.name == BITE and event.at_s >= last.at_s), None)


def unwanted(outcome: Outcome, wanted: QmpEvent | None = None) -> Iterator[Finding]:
    """Complaints for events of which a sound boot has none, but for one that is `wanted`."""
    for event in outcome.events:
        if event.name in UNWANTED and event is not wanted:
            yield Finding(Verdict.FAIL, f"QEMU reported {event.name}", (_seen(event),))


def _event(outcome: Outcome, expected: str, transcript: bytes) -> Iterator[Finding]:
    left = [event for event in outcome.events if event.name == "SHUTDOWN" and event.data.get("guest") is True]
    reasons = [str(event.data.get("reason")) for event in left]
    if reasons != [expected]:
        found = ", ".join(reasons) or "nothing of the kind"
        yield Finding(
            Verdict.FAIL,
            f"the guest did not leave as it should: expected {expected}, found {found}",
            (*(_seen(event) for event in left), *last_lines(transcript)),
        )


def _left_by_status(outcome: Outcome, machine: Machine) -> bool:
    return machine.exit == "semihosting" and outcome.exit_status is not None and outcome.exit_status >= 0


def _status(outcome: Outcome, transcript: bytes) -> Iterator[Finding]:
    """By semihosting QEMU ends with the guest's status and without a word on its monitor."""
    left = [_seen(event) for event in outcome.events if event.name == "SHUTDOWN"]
    if outcome.exit_status == SEMIHOSTING_PASS and not left:
        return
    found = f"status {outcome.exit_status}" if not left else "SHUTDOWN"
    yield Finding(
        Verdict.FAIL,
        f"the guest did not leave as it should: expected status {SEMIHOSTING_PASS} by semihosting, found {found}",
        (*left, *last_lines(transcript)),
    )


def channel_faults(outcome: Outcome, machine: Machine) -> Iterator[Finding]:
    """Complaints for a result channel that cannot be trusted."""
    if outcome.result_fault:
        reason = f"the result cannot be trusted: {outcome.result_fault}"
        yield Finding(Verdict.FAIL, reason, (piece("result", outcome.result_fault),))
    # On a console anything may stand between messages; a port of its own is init's alone.
    if outcome.rejected and machine.result != "console":
        reason = f"{outcome.rejected} lines on the result channel do not come from init"
        yield Finding(Verdict.FAIL, reason, (piece("result", reason),))


def _seen(event: QmpEvent) -> Evidence:
    details = ", ".join(f"{key}={value}" for key, value in sorted(event.data.items()))
    return piece("qmp", f"{event.name} after {event.at_s:.1f} s" + (f": {details}" if details else ""))

"""Termination of a boot: QEMU's status and events, and bootmatrix' limits."""

import re
from collections.abc import Iterator, Sequence

from bootmatrix.console.kernel_messages import BEGINNING
from bootmatrix.console.kernel_messages import PANIC as PANIC_SIGN
from bootmatrix.console.stalls import may_be_starved, starvation_of
from bootmatrix.console.transcript import BUSY_ADVICE, find_banners, has_kernel_output, last_lines
from bootmatrix.model import Bootable, Evidence, GuestMessage, KernelFault, Machine, Outcome, QmpEvent, Verdict
from bootmatrix.model.outcome import SUSPENDED_S
from bootmatrix.model.verdict import Finding, piece
from bootmatrix.qemu.command import scale

SHUTDOWN_REASONS = {"poweroff": "guest-shutdown", "reboot": "guest-reset", "watchdog": "guest-reset"}
"""Reason of QEMU's SHUTDOWN event (qapi/run-state.json) for each `exit` of a machine."""
SEMIHOSTING_PASS = 80
"""Exit status by semihosting after a pass; 81 after a failure. QEMU itself exits with 0 or 1."""
NOT_EXITED_ADVICE = (
    "Init reported its end, but QEMU did not exit. If this happens with each kernel, 'exit' in the machine's profile "
    "is wrong: docs/add-an-architecture.md."
)
FLOOD_ADVICE = (
    "If its result files are that many, name their folder under bootmatrix.results: the agent then fetches it."
)
NO_OUTPUT_ADVICE = (
    "Does the kernel have the driver of the console ({0}), built in, and no console= of its own? With 'earlycon' on "
    "its command line (--append) it prints from its first moments on."
)
MAX_BANNERS = 5
STARVED_SHARE = 0.5
"""Share of a container's time limit without a host core from which its timeout is the host's fault."""
STALL_PANIC = re.compile(r"softlockup|hard lockup|hung_task|blocked tasks|rcu|watchdog|stall", re.IGNORECASE)
"""Panics of kernels that give up at a stall (kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h)."""
WATCHDOG = "WATCHDOG"
RESTARTS = re.compile(rb"%sreboot: Restarting system" % BEGINNING, re.MULTILINE)
"""The kernel's last words (kernel/reboot.c)."""
FAULT_EVENTS = ("GUEST_CRASHLOADED", WATCHDOG, "INTERNAL_ERROR", "MEMORY_FAILURE")


def check_panic(outcome: Outcome) -> Iterator[Finding]:
    """Yield findings for panics reported by QEMU, or by the watch on the console."""
    for event in outcome.events:
        if event.name == "GUEST_PANICKED":
            yield Finding(Verdict.PANIC, "kernel panic, reported by the guest's device", (_event_evidence(event),))
    if outcome.limit == "panic":
        yield Finding(Verdict.PANIC, "kernel panic; the guest did not exit")


def find_withheld_time(
    outcome: Outcome, first: Finding, machine: Machine, bootable: Bootable, faults: Sequence[KernelFault]
) -> Iterator[Finding]:
    """Yield a finding before `first` if withheld time may have caused it."""
    if not first.verdict.is_guests or _is_kernels_own(first):
        return
    if outcome.suspended_s >= SUSPENDED_S:
        why = f"QEMU or bootmatrix was stopped, or the host suspended, for {outcome.suspended_s:.0f} s"
        yield _withheld(why, first, "Run the cell again without interruption.")
    elif first.verdict is Verdict.PANIC:
        starvation = starvation_of(outcome)
        stalls = [fault for fault in faults if fault.is_fatal and fault.name != PANIC_SIGN]
        if stalls and all(may_be_starved(fault, starvation) for fault in stalls):
            why = f"the host had no core for the guest for {starvation.during(stalls[0]):.0f} s"
            yield _withheld(why, first, BUSY_ADVICE)
    elif first.verdict is Verdict.TIMEOUT and outcome.ended_by != "host":  # host limits are extended by such time
        windows = list(_timed_out(outcome))
        limits_s = [bootable.checks.get(name, 0.0) * scale(machine) for name, *_ in windows]
        if windows and all(
            lost_s >= STARVED_SHARE * length_s and (not limit_s or length_s - lost_s < limit_s)
            for (_, lost_s, length_s), limit_s in zip(windows, limits_s, strict=True)
        ):
            _, lost_s, length_s = windows[0]
            why = f"the host had no core for the guest for {lost_s:.1f} of {length_s:.1f} s"
            yield _withheld(why, first, BUSY_ADVICE)


def _is_kernels_own(first: Finding) -> bool:
    """Return whether the kernel reported a fault that no busy host causes."""
    if first.verdict is Verdict.PANIC:
        return not STALL_PANIC.search(first.reason.rpartition("kernel panic: ")[2])
    return first.cause == "kernel"


def _timed_out(outcome: Outcome) -> Iterator[tuple[str, float, float]]:
    """Yield name, seconds without a core, seconds of timed-out containers.

    The guest's clock runs on while QEMU waits for a core. Time lost before the container's start does not count; nor
    does that before SIGKILL, of a service which that did not end.
    """
    started: dict[tuple[str, str], GuestMessage] = {}
    for message in outcome.messages:
        name, *state = message.words or ("",)
        if state[:1] in (["start"], ["killed"]):
            started[message.kind, name] = message
        elif state == ["exit", "timeout"] or state[:1] == ["stuck"]:
            start = started.get((message.kind, name))
            length_s = message.at_s - (start.at_s if start else 0.0)
            yield name, _lost_s(outcome, start, message, length_s), length_s


def _lost_s(outcome: Outcome, start: GuestMessage | None, end: GuestMessage, length_s: float) -> float:
    if end.starved_s is not None:
        return end.starved_s - ((start.starved_s or 0.0) if start else 0.0)
    # Records of format 1 have no figure for each message; this is the least.
    return max(0.0, outcome.starved_s - (outcome.wall_s - length_s))


def _withheld(why: str, first: Finding, advice: str) -> Finding:
    reason = f"{why}; possibly therefore: {first.reason}"
    return Finding(Verdict.INFRA_ERROR, reason, (piece("clock", why), *first.evidence), advice)


def summarize_end(outcome: Outcome) -> Evidence:
    """Summarize the end of QEMU, for findings without evidence of their own."""
    status = "never started" if outcome.exit_status is None else f"ended with status {outcome.exit_status}"
    limit = f", stopped by bootmatrix ({_limit_name(outcome.limit)})" if outcome.ended_by == "host" else ""
    return piece("qemu", f"QEMU {status} after {outcome.wall_s:.1f} s{limit}")


def _limit_name(limit: str) -> str:
    return f"{limit} timeout" if limit not in {"panic", "flood", "shown", "fault"} else f"limit: {limit}"


def check_host(outcome: Outcome, machine: Machine) -> Iterator[Finding]:
    """Yield findings for faults of QEMU or the host."""
    stderr = tuple(piece("qemu", line) for line in outcome.stderr.strip().splitlines()[-5:])
    if outcome.ended_by == "user":
        yield Finding(Verdict.INFRA_ERROR, "interrupted")
    elif outcome.ended_by == "error" or outcome.host_error:
        reason = " ".join(outcome.host_error.split()) or "QEMU ended for an unknown reason"
        yield Finding(Verdict.INFRA_ERROR, reason, stderr, _advice_on(reason, machine))
    elif outcome.exit_status is None:
        yield Finding(Verdict.INFRA_ERROR, "QEMU never started", stderr)
    elif outcome.ended_by == "guest" and outcome.exit_status != 0 and not _exited_by_status(outcome, machine):
        reason = f"QEMU ended with status {outcome.exit_status} after its guest's exit"
        yield Finding(Verdict.INFRA_ERROR, reason, stderr)


def _advice_on(reason: str, machine: Machine) -> str:
    """Return advice on QEMU's failed start, by its message (hw/core)."""
    if "unsupported machine type" in reason:
        return f"Its profile says 'machine: {machine.machine}'; '{machine.qemu} -M help' lists the supported ones."
    if "unable to find CPU model" in reason:
        return f"Its profile says 'cpu: {machine.cpu}'; '{machine.qemu} -M {machine.machine} -cpu help' lists them."
    return f"Does {machine.qemu} run by hand, with this command?"


def check_reboots(outcome: Outcome, transcript: bytes) -> Iterator[Finding]:
    """Yield a finding for a guest that rebooted."""
    resets = [event for event in outcome.events if event.name == "RESET" and event.data.get("guest") is True]
    banners = tuple(find_banners(transcript))
    if len(banners) > 1 or len(resets) > 1:
        times = max(len(banners), len(resets) + 1)
        yield Finding(
            Verdict.FAIL,
            f"the guest rebooted: its kernel started {times} times",
            (*banners[:MAX_BANNERS], *(_event_evidence(event) for event in resets[:MAX_BANNERS])),
            "Its output before each start says why.",
        )


def check_limits(outcome: Outcome, machine: Machine, transcript: bytes) -> Iterator[Finding]:
    """Yield a finding for a guest that a limit ended."""
    if outcome.ended_by != "host" or outcome.limit in {"panic", "shown", "fault"}:
        return
    phase = outcome.limit_phase or "boot"
    stopped = piece("clock", f"stopped after {outcome.wall_s:.1f} s, in phase {phase}")
    evidence = (stopped, *last_lines(transcript))
    if outcome.limit == "silence":
        heard = max([0.0, *(message.at_s for message in outcome.messages)])
        reason = f"the guest hangs in phase {phase}: no more output on any channel"
        advice = f"Its last message came after {heard:.1f} s. The console shows its progress."
        if outcome.messages and outcome.messages[-1].kind == "end":
            advice = NOT_EXITED_ADVICE
        elif not outcome.messages and not has_kernel_output(transcript):
            reason = "the guest hangs: its kernel printed nothing on the console"
            advice = NO_OUTPUT_ADVICE.format(machine.console)
        yield Finding(Verdict.HANG, f"{reason}{_place(outcome)}", evidence, advice)
    elif outcome.limit == "flood":
        yield Finding(
            Verdict.FAIL, f"the guest floods its result channel: {outcome.result_fault}", evidence, FLOOD_ADVICE
        )
    else:
        reason = f"the guest did not finish phase {phase} in time"
        advice = f"If it only needs longer, raise {phase} under timeouts in the matrix."
        if phase == "checks":
            advice = "The check's own limit did not end it: the guest is very slow, or its init is stuck."
        yield Finding(Verdict.TIMEOUT, f"{reason}{_place(outcome)}", evidence, advice)


def _place(outcome: Outcome) -> str:
    """Return the place of a hang by its kernel and a second boot, if told."""
    notes = {diagnostic.kind: diagnostic.note for diagnostic in outcome.diagnostics}
    is_told = any(diagnostic.kind == "tasks" and diagnostic.file for diagnostic in outcome.diagnostics)
    init = f"; {notes['tasks']}" if is_told and notes["tasks"] and not outcome.messages else ""
    return f"{init}; by a second boot: {notes['hang']}" if notes.get("hang") else init


def check_exit(outcome: Outcome, machine: Machine, transcript: bytes) -> Iterator[Finding]:
    """Yield findings for an exit other than the machine's `exit`."""
    if machine.exit == "semihosting":
        yield from _check_status(outcome, transcript)
    else:
        yield from _check_shutdown(outcome, SHUTDOWN_REASONS[machine.exit], transcript)
    yield from check_events(outcome, _watchdog_reset(outcome) if machine.exit == "watchdog" else None)


def _watchdog_reset(outcome: Outcome) -> QmpEvent | None:
    """Return the watchdog's reset of a board, the first after init's end."""
    last = outcome.messages[-1] if outcome.messages else None
    if last is None or last.kind != "end":
        return None
    return next((event for event in outcome.events if event.name == WATCHDOG and event.at_s >= last.at_s), None)


def restart_by_watchdog(outcome: Outcome, machine: Machine, transcript: bytes) -> QmpEvent | None:
    """Return the reset by which a foreign init left a board, if its kernel said so."""
    if machine.exit != "watchdog" or not RESTARTS.search(transcript):
        return None
    return next((event for event in reversed(outcome.events) if event.name == WATCHDOG), None)


def check_events(outcome: Outcome, expected: QmpEvent | None = None) -> Iterator[Finding]:
    """Yield findings for events that no sound boot has, except `expected`."""
    for event in outcome.events:
        if event.name in FAULT_EVENTS and event is not expected:
            yield Finding(Verdict.FAIL, f"QEMU reported {event.name}", (_event_evidence(event),))


def _check_shutdown(outcome: Outcome, expected: str, transcript: bytes) -> Iterator[Finding]:
    shutdowns = [event for event in outcome.events if event.name == "SHUTDOWN" and event.data.get("guest") is True]
    reasons = [str(event.data.get("reason")) for event in shutdowns]
    if reasons != [expected]:
        got = ", ".join(reasons) or "none"
        yield Finding(
            Verdict.FAIL,
            f"unexpected exit: expected {expected}, got {got}",
            (*(_event_evidence(event) for event in shutdowns), *last_lines(transcript)),
        )


def _exited_by_status(outcome: Outcome, machine: Machine) -> bool:
    return machine.exit == "semihosting" and outcome.exit_status is not None and outcome.exit_status >= 0


def _check_status(outcome: Outcome, transcript: bytes) -> Iterator[Finding]:
    """Check an exit by semihosting: the guest's status, and no event."""
    shutdowns = [_event_evidence(event) for event in outcome.events if event.name == "SHUTDOWN"]
    if outcome.exit_status == SEMIHOSTING_PASS and not shutdowns:
        return
    got = f"status {outcome.exit_status}" if not shutdowns else "SHUTDOWN"
    yield Finding(
        Verdict.FAIL,
        f"unexpected exit: expected status {SEMIHOSTING_PASS} by semihosting, got {got}",
        (*shutdowns, *last_lines(transcript)),
    )


def check_channel(outcome: Outcome, machine: Machine) -> Iterator[Finding]:
    """Yield findings for an invalid result channel."""
    if outcome.result_fault:
        reason = f"invalid result channel: {outcome.result_fault}"
        yield Finding(Verdict.FAIL, reason, (piece("result", outcome.result_fault),))
    # A console has other output between messages; a port is init's alone.
    if outcome.rejected and machine.result != "console":
        reason = f"{outcome.rejected} lines on the result channel are not from init"
        yield Finding(Verdict.FAIL, reason, (piece("result", reason),))


def _event_evidence(event: QmpEvent) -> Evidence:
    details = ", ".join(f"{key}={value}" for key, value in sorted(event.data.items()))
    return piece("qmp", f"{event.name} after {event.at_s:.1f} s" + (f": {details}" if details else ""))

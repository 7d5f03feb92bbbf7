"""From everything that was seen to a verdict. Pure, so that it can be reached again from a saved run.

A pass is what remains when there is nothing to complain of; all the rest of this package looks for complaints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bootmatrix.console import kernel_log
from bootmatrix.console import transcript as console
from bootmatrix.console.kernel_lines import kernel_lines
from bootmatrix.console.kernel_log import KernelLog, read_kernel_log
from bootmatrix.console.kernel_messages import find_kernel_faults
from bootmatrix.judge import completeness, console_verdict, termination
from bootmatrix.judge.result_files import read_files
from bootmatrix.judge.tap import read_tap
from bootmatrix.model import (
    Bootable,
    ConsoleProof,
    Evidence,
    Judgement,
    KernelFault,
    Machine,
    Outcome,
    SubResult,
    Verdict,
)
from bootmatrix.model.artefact import LACKS_MODULE
from bootmatrix.model.finding import GRAVITY, Finding, piece

MAX_EVIDENCE = 60
MAX_OTHERS = 10
MAX_NOTES = 10
MAX_REASON = 400

ADVICE = {
    Verdict.PANIC: "The trace says where in the kernel. Do the same spec's other kernels and machines pass?",
    Verdict.INFRA_ERROR: "This says nothing of the guest. See what 'bootmatrix doctor' says, and run the cell again.",
    Verdict.HANG: "The registers and tasks that are kept beside the record say what the guest was doing.",
    Verdict.TIMEOUT: "If it only needs longer, raise the limit under timeouts in the matrix.",
    Verdict.FAIL: "'bootmatrix run' repeats it with the console on the terminal; --shell lets you look around.",
}
"""What to do next where no complaint knows better."""


PRIVILEGED = "privileged containers: weaker evidence"
NO_ACCOUNT = "init of protocol {}: no account of the kernel: weaker evidence"
NOTHING_TESTED = "nothing was tested: the spec has no container under onboot, services or onshutdown"
NOTHING_ADVICE = "Add one. 'onboot' decides by its exit status, a service with 'bootmatrix.check' too."


@dataclass(frozen=True)
class Consoles:
    """The console, the same without what containers printed, and the kernel's own account."""

    transcript: bytes
    kernels: bytes
    log: KernelLog | None


def judge(outcome: Outcome, machine: Machine, bootable: Bootable, transcript: bytes) -> Judgement:
    """The verdict on a boot, with what it rests on."""
    printed = [] if bootable.proof else [*read_tap(outcome.messages), *read_files(outcome, bootable)]
    log = None if bootable.proof else read_kernel_log(outcome.messages)
    said = transcript if bootable.proof else kernel_lines(transcript, log)
    seen = find_kernel_faults(said)
    troubles = (*seen, *kernel_log.unseen_troubles(log, seen))
    complaints = [
        *_complaints(outcome, machine, bootable, Consoles(transcript, said, log), troubles),
        *(one for each in printed for one in each.complaints),
    ]
    reported = () if bootable.proof else completeness.subresults(outcome, bootable)
    notes = [*completeness.notes(outcome), *(note for each in printed for note in each.notes)]
    remarks = (*kernel_log.notes(log, said), *[piece("result", f"note: {note}") for note in notes][:MAX_NOTES])
    subresults = _distinct([*reported, *(one for each in printed for one in each.results)])
    if not complaints:
        if bootable.proof:
            return _shown(bootable.proof, outcome, transcript, troubles)
        if not (bootable.onboot or bootable.services or bootable.checks or bootable.onshutdown):
            return Judgement(verdict=Verdict.BUILD_ERROR, reason=NOTHING_TESTED, advice=NOTHING_ADVICE)
        return _weakened(_passed(outcome, subresults, troubles, remarks), bootable, log)
    complaints.sort(key=lambda one: GRAVITY.index(one.verdict))
    first, *others = [*termination.withheld_time(outcome, complaints[0], machine, bootable), *complaints]
    if not first.evidence:
        first = replace(first, evidence=(termination.seen(outcome), *console.last_lines(transcript)))
    return Judgement(
        verdict=first.verdict,
        reason=" ".join(first.reason.split())[:MAX_REASON],
        evidence=(*_evidence(first, others, troubles), *remarks),
        subresults=subresults,
        advice=_without_arguments(first, bootable)
        or _without_modules(outcome, bootable)
        or first.advice
        or _advice(first.verdict, troubles),
        kernel_faults=troubles,
        is_weak=bootable.proof is not None,
        privileged=bootable.privileged,
    )


def _distinct(subresults: Sequence[SubResult]) -> tuple[SubResult, ...]:
    """Sub-results with a name of their own each: what reads reports would take those of one name for one."""
    taken = {one.name for one in subresults}
    seen: Counter[str] = Counter()
    distinct = []
    for one in subresults:
        name = one.name
        while seen[one.name] and name in taken:
            seen[one.name] += 1
            name = f"{one.name} ({seen[one.name]})"
        seen[one.name] = max(seen[one.name], 1)
        taken.add(name)
        distinct.append(one if name == one.name else one.model_copy(update={"name": name}))
    return tuple(distinct)


def _without_arguments(first: Finding, bootable: Bootable) -> str:
    """What to do about a QEMU that fails and was given arguments of the user's own."""
    is_ours = first.verdict is Verdict.INFRA_ERROR and bootable.qemu_args
    return "It was given QEMU arguments of its own: does it boot without them?" if is_ours else ""


def _without_modules(outcome: Outcome, bootable: Bootable) -> str:
    """What to do about a guest whose init never reported, on a kernel that lacks modules by which it would."""
    lacking = [note.removeprefix(LACKS_MODULE) for note in bootable.notes if note.startswith(LACKS_MODULE)]
    if outcome.messages or not lacking or bootable.proof:
        return ""
    return (
        f"The kernel came without the module {', '.join(lacking)}. If it is not built in, init cannot report: "
        "add the kernel with its modules (docs/kernels.md)."
    )


def _advice(verdict: Verdict, troubles: tuple[KernelFault, ...]) -> str:
    known = (one.advice for one in troubles if one.advice and verdict.is_guests)
    return next(known, ADVICE[verdict])


def _complaints(
    outcome: Outcome, machine: Machine, bootable: Bootable, consoles: Consoles, troubles: tuple[KernelFault, ...]
) -> Iterator[Finding]:
    """All that stands in the way of a pass; of one verdict, what explains most comes first."""
    transcript = consoles.transcript
    yield from console.cut_off(troubles, outcome)
    yield from console.panics(consoles.kernels)
    yield from termination.panic_events(outcome)
    yield from termination.host_faults(outcome, machine)
    if bootable.proof:
        yield from termination.reboots(outcome, consoles.kernels)
        yield from termination.limits(outcome, transcript)
        yield from console.faults(troubles, outcome.starved_s)
        yield from console_verdict.complaints(bootable.proof, outcome, transcript)
        yield from termination.unwanted(outcome)
        return
    yield from completeness.reported_faults(outcome, bootable, transcript)
    yield from termination.reboots(outcome, consoles.kernels)
    yield from termination.limits(outcome, transcript)
    yield from console.faults(troubles, outcome.starved_s)
    yield from kernel_log.complaints(consoles.log, troubles, outcome.starved_s)
    yield from termination.channel_faults(outcome, machine)
    yield from completeness.missing(outcome, bootable, transcript)
    yield from kernel_log.missing(outcome, bootable.protocol)
    yield from termination.way_out(outcome, machine, transcript)


def _evidence(first: Finding, others: list[Finding], troubles: tuple[KernelFault, ...]) -> tuple[Evidence, ...]:
    """The first complaint's own evidence, then what else was found, without its details."""
    further = [piece("result", f"also: {other.reason}") for other in others if not other.follows]
    shown = {one.line for one in first.evidence if one.line}
    noted = console.noted([one for one in troubles if not one.is_fatal], shown)
    return (*first.evidence, *further[:MAX_OTHERS], *noted)[:MAX_EVIDENCE]


def _passed(
    outcome: Outcome,
    subresults: tuple[SubResult, ...],
    troubles: tuple[KernelFault, ...],
    remarks: tuple[Evidence, ...],
) -> Judgement:
    count = len([one for one in subresults if one.verdict is Verdict.PASS])
    evidence = (
        piece("result", f"{len(outcome.messages)} messages, complete and signed; the last: {_last(outcome)}"),
        *(piece("qmp", f"SHUTDOWN: {event.data.get('reason')}") for event in outcome.events if event.data.get("guest")),
        piece("qemu", f"exited with status {outcome.exit_status}"),
        *console.noted(troubles, ()),
        *remarks,
    )
    reason = f"{count} of {len(subresults)} results passed, and the guest left as it should"
    return Judgement(
        verdict=Verdict.PASS, reason=reason, evidence=evidence, subresults=subresults, kernel_faults=troubles
    )


def _weakened(passed: Judgement, bootable: Bootable, log: KernelLog | None) -> Judgement:
    """A pass that names what makes its evidence weaker: privileged containers, no account of the kernel."""
    limits = [
        *([f"{PRIVILEGED}: {'; '.join(bootable.privileged)}"] if bootable.privileged else ()),
        *([NO_ACCOUNT.format(bootable.protocol)] if log is None else ()),
    ]
    if not limits:
        return passed
    return passed.model_copy(
        update={
            "reason": f"{passed.reason} ({'; '.join(limits)})"[:MAX_REASON],
            "evidence": (*(piece("judge", limit) for limit in limits), *passed.evidence),
            "is_weak": True,
            "privileged": bootable.privileged,
        }
    )


def _shown(proof: ConsoleProof, outcome: Outcome, transcript: bytes, troubles: tuple[KernelFault, ...]) -> Judgement:
    """A pass by the console, which says of itself that it is weaker."""
    evidence = (*console_verdict.proofs(proof, outcome, transcript), *console.noted(troubles, ()))
    reason = f"the console shows {proof.console!r} ({console_verdict.WEAKER})"
    return Judgement(verdict=Verdict.PASS, reason=reason, evidence=evidence, is_weak=True, kernel_faults=troubles)


def _last(outcome: Outcome) -> str:
    return completeness.words_of(outcome.messages[-1])

"""Verdicts from outcomes. Pure, so that a saved run can be judged again.

A boot passes unless another module of this package yields a finding.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bootmatrix.console import kernel_log
from bootmatrix.console import transcript as console
from bootmatrix.console.kernel_lines import kernel_lines
from bootmatrix.console.kernel_log import KernelLog, read_kernel_log
from bootmatrix.console.kernel_messages import escalated, find_kernel_faults, info_names, with_lines
from bootmatrix.console.stalls import Starvation, starvation_of
from bootmatrix.judge import completeness, console_verdict, termination
from bootmatrix.judge.result_files import FileReader, no_files, read_files
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
from bootmatrix.model.artefact import LACKS_MODULE, LACKS_OPTION
from bootmatrix.model.verdict import Finding, piece

MAX_EVIDENCE = 60
MAX_OTHERS = 10
MAX_NOTES = 10
MAX_REASON = 400
MAX_OPTIONS = 5
MUTE = "(the console)"
"""End of the note on an option without which a kernel has no console (options.toml)."""
FRAGMENT = "'bootmatrix kernels fragment ARCH' prints what it needs, for merge_config.sh."

ADVICE = {
    Verdict.PANIC: "The trace says where in the kernel. Do the same spec's other kernels and machines pass?",
    Verdict.INFRA_ERROR: "The guest is not at fault. Run 'bootmatrix doctor', then run the cell again.",
    Verdict.HANG: "The registers and tasks beside the record show what the guest was doing.",
    Verdict.TIMEOUT: "If it only needs longer, raise the limit under timeouts in the matrix.",
    Verdict.SKIP: "It was booted, and tested nothing: its tests found what they need missing.",
    Verdict.FAIL: "'bootmatrix run --shell' opens a shell in its guest; without --shell it shows the boot again.",
}
"""Advice for findings without their own."""

PRIVILEGED = "privileged containers: weaker evidence"
DAEMONS = "init image's daemons: weaker evidence"
NO_ACCOUNT = "init of protocol {}: no account of the kernel: weaker evidence"
OUTBOUND = "a network that leads outside: an unreproducible input"
LOST = "messages of the kernel are missing on the console and in its log: weaker evidence"
HIDDEN = "the console's level hides messages such as '{}': weaker evidence"
LOST_MESSAGES = "lost messages"
OUT_OF_MEMORY = "out of memory"
"""Names of the kernel's messages about that, in kernel_messages.toml."""
NOTHING_TESTED = "nothing was tested: the spec has no container under onboot, services or onshutdown"
NOTHING_ADVICE = "Add a container to 'onboot', or a service with 'bootmatrix.check': its exit status decides."


@dataclass(frozen=True)
class Consoles:
    """The console, whole and the kernel's; its account; TAP's and JUnit's results."""

    transcript: bytes
    kernel: bytes
    log: KernelLog | None
    results: tuple[SubResult, ...]


def judge(
    outcome: Outcome, machine: Machine, bootable: Bootable, transcript: bytes, read: FileReader = no_files
) -> Judgement:
    """Judge a boot. `read` opens files that were fetched from the guest."""
    printed = [] if bootable.proof else [*read_tap(outcome.messages), *read_files(outcome, bootable, read)]
    log = None if bootable.proof else read_kernel_log(outcome.messages)
    parsed = tuple(result for results in printed for result in results.results)
    consoles = Consoles(transcript, transcript if bootable.proof else kernel_lines(transcript, log), log, parsed)
    kernel_faults = find_kernel_faults(consoles.kernel)
    kernel_faults += _unlogged(consoles, kernel_faults, bootable)
    lines = {place: line for diagnostic in outcome.diagnostics for place, line in diagnostic.lines.items()}
    faults = escalated(
        with_lines((*kernel_faults, *kernel_log.unseen_faults(log, kernel_faults)), lines), bootable.fail_on
    )
    findings = [
        *_find(outcome, machine, bootable, consoles, faults),
        *(finding for results in printed for finding in results.findings),
    ]
    reported = () if bootable.proof else completeness.subresults(outcome, bootable, parsed)
    notes = [*completeness.notes(outcome), *(note for results in printed for note in results.notes)][:MAX_NOTES]
    remarks = (*kernel_log.kernel_notes(log, consoles.kernel), *(piece("result", f"note: {note}") for note in notes))
    subresults = _with_unique_names([*reported, *parsed])
    if not findings:
        if bootable.proof:
            return _passed_by_console(bootable.proof, outcome, transcript, faults)
        if not (bootable.onboot or bootable.services or bootable.checks or bootable.onshutdown):
            return Judgement(verdict=Verdict.BUILD_ERROR, reason=NOTHING_TESTED, advice=NOTHING_ADVICE)
        return _weakened(_passed(outcome, bootable, subresults, faults, remarks), bootable, log, faults)
    if any(finding.verdict is Verdict.SKIP for finding in findings):
        findings = [finding for finding in findings if not finding.follows]
    findings.sort(key=lambda finding: finding.gravity)
    findings[0] = _for_want_of_memory(findings[0], faults)
    first, *others = [*termination.find_withheld_time(outcome, findings[0], machine, bootable, faults), *findings]
    if not first.evidence:
        first = replace(first, evidence=(termination.summarize_end(outcome), *console.last_lines(transcript)))
    return Judgement(
        verdict=first.verdict,
        reason=" ".join(first.reason.split())[:MAX_REASON],
        evidence=(*_evidence(first, others, faults), *remarks),
        subresults=subresults,
        advice=_without_arguments(first, bootable)
        or _without_options(outcome, bootable, consoles.transcript, faults)
        or _without_modules(outcome, bootable)
        or first.advice
        or _advice(first.verdict, faults),
        kernel_faults=faults,
        is_weak=bootable.proof is not None,
        privileged=(*bootable.privileged, *bootable.daemons),
    )


def _unlogged(consoles: Consoles, seen: Sequence[KernelFault], bootable: Bootable) -> tuple[KernelFault, ...]:
    """Return the fatal messages of level `info` in containers' lines.

    Init's account lacks them, so that it does not decide whose they are.
    """
    names = {*info_names(bootable.fail_on)} - {fault.name for fault in seen}
    if not names or consoles.log is None:
        return ()
    found = find_kernel_faults(kernel_lines(consoles.transcript, None))
    return tuple(fault for fault in found if fault.name in names)


def _for_want_of_memory(first: Finding, faults: Sequence[KernelFault]) -> Finding:
    """Say of a late guest that its kernel ran out of memory, if it did."""
    lack = next((fault for fault in faults if fault.name == OUT_OF_MEMORY), None)
    if lack is None or first.verdict not in {Verdict.HANG, Verdict.TIMEOUT}:
        return first
    evidence = (piece("console", lack.text, lack.line), *first.evidence)
    reason = f"the guest ran out of memory; then: {first.reason}"
    return replace(first, reason=reason, evidence=evidence, advice=lack.advice)


def _with_unique_names(subresults: Sequence[SubResult]) -> tuple[SubResult, ...]:
    """Number sub-results of the same name, since readers of reports merge them."""
    taken = {result.name for result in subresults}
    counts: Counter[str] = Counter()
    unique = []
    for result in subresults:
        name = result.name
        while counts[result.name] and name in taken:
            counts[result.name] += 1
            name = f"{result.name} ({counts[result.name]})"
        counts[result.name] = max(counts[result.name], 1)
        taken.add(name)
        unique.append(result if name == result.name else result.model_copy(update={"name": name}))
    return tuple(unique)


def _without_arguments(first: Finding, bootable: Bootable) -> str:
    """Return advice on a QEMU fault beside the user's own arguments."""
    is_suspect = first.verdict is Verdict.INFRA_ERROR and bootable.qemu_args
    return "QEMU has extra arguments of the user's: does it boot without them?" if is_suspect else ""


def _without_modules(outcome: Outcome, bootable: Bootable) -> str:
    """Return advice on a silent init on a kernel that lacks modules."""
    lacking = [note.removeprefix(LACKS_MODULE) for note in bootable.notes if note.startswith(LACKS_MODULE)]
    if outcome.messages or not lacking or bootable.proof:
        return ""
    return (
        f"The kernel has no module {', '.join(lacking)}. Unless it is built in, init cannot report: "
        "add the kernel with its modules (docs/kernels.md)."
    )


def _without_options(outcome: Outcome, bootable: Bootable, transcript: bytes, faults: Iterable[KernelFault]) -> str:
    """Return advice on a silent guest whose kernel lacks options."""
    lacking = [note.removeprefix(LACKS_OPTION) for note in bootable.notes if note.startswith(LACKS_OPTION)]
    if outcome.messages or not lacking or any(fault.is_fatal for fault in faults):
        return ""
    mute = [option for option in lacking if option.endswith(MUTE)]
    if mute and not console.has_kernel_output(transcript):
        return f"It cannot print: its configuration lacks {', '.join(mute)}. {FRAGMENT}"
    return f"The kernel's configuration lacks {', '.join(lacking[:MAX_OPTIONS])}. {FRAGMENT}"


def _advice(verdict: Verdict, faults: tuple[KernelFault, ...]) -> str:
    advice = (fault.advice for fault in faults if fault.advice and verdict.is_guests)
    return next(advice, ADVICE[verdict])


def _find(
    outcome: Outcome, machine: Machine, bootable: Bootable, consoles: Consoles, faults: tuple[KernelFault, ...]
) -> Iterator[Finding]:
    """Yield all findings; of each verdict, the best explanation first."""
    transcript = consoles.transcript
    yield from console.check_initrd(faults, outcome)
    yield from console.find_panics(consoles.kernel, faults)
    yield from termination.check_panic(outcome)
    yield from termination.check_host(outcome, machine)
    if bootable.proof:
        yield from termination.check_reboots(outcome, consoles.kernel)
        yield from termination.check_limits(outcome, machine, transcript)
        yield from console.check_faults(faults, starvation_of(outcome))
        yield from console_verdict.check_console(bootable.proof, outcome, transcript)
        yield from termination.check_events(outcome, termination.restart_by_watchdog(outcome, machine, consoles.kernel))
        return
    reported = list(completeness.reported_faults(outcome, bootable, transcript, consoles.results))
    yield from reported
    yield from termination.check_reboots(outcome, consoles.kernel)
    yield from termination.check_limits(outcome, machine, transcript)
    starvation = Starvation() if kernel_log.is_broken(consoles.log) else starvation_of(outcome)
    yield from console.check_faults(faults, starvation)
    yield from kernel_log.check_kernel(consoles.log, faults, starvation, transcript, bootable.fail_on)
    yield from termination.check_channel(outcome, machine)
    is_skipped = any(finding.verdict is Verdict.SKIP for finding in reported)
    yield from completeness.find_gaps(outcome, bootable, transcript, is_skipped=is_skipped)
    yield from kernel_log.check_account(outcome, bootable.protocol)
    yield from termination.check_exit(outcome, machine, transcript)


def _evidence(first: Finding, others: list[Finding], faults: tuple[KernelFault, ...]) -> tuple[Evidence, ...]:
    """Collect the first finding's evidence, then the reasons of the others."""
    further = [piece("result", f"also: {other.reason}") for other in others if not other.follows]
    lines = {piece.line for piece in first.evidence if piece.line}
    notes = console.fault_notes([fault for fault in faults if not fault.is_fatal], lines)
    return (*first.evidence, *further[:MAX_OTHERS], *notes)[:MAX_EVIDENCE]


def _meaning(bootable: Bootable) -> str:
    """Say what a pass of a spec without any check means; empty with one."""
    if bootable.checks:
        return ""
    ends = [
        *(["its onboot containers ended with 0"] if bootable.onboot else []),
        *(["its services stayed up for 2 s"] if bootable.services else []),
        *(["its onshutdown containers ended with 0"] if bootable.onshutdown else []),
    ]
    return f"; it has no check: {', '.join(ends)}"


def _passed(
    outcome: Outcome,
    bootable: Bootable,
    subresults: tuple[SubResult, ...],
    faults: tuple[KernelFault, ...],
    remarks: tuple[Evidence, ...],
) -> Judgement:
    count = len([result for result in subresults if result.verdict is Verdict.PASS])
    evidence = (
        piece("result", f"{len(outcome.messages)} messages, complete and signed; the last: {_last(outcome)}"),
        *(piece("qmp", f"SHUTDOWN: {event.data.get('reason')}") for event in outcome.events if event.data.get("guest")),
        piece("qemu", f"exited with status {outcome.exit_status}"),
        *console.fault_notes(faults, ()),
        *remarks,
    )
    reason = f"{count} of {len(subresults)} results passed, and the guest exited as expected{_meaning(bootable)}"
    return Judgement(
        verdict=Verdict.PASS, reason=reason, evidence=evidence, subresults=subresults, kernel_faults=faults
    )


def _weakened(passed: Judgement, bootable: Bootable, log: KernelLog | None, faults: Sequence[KernelFault]) -> Judgement:
    """Mark a pass with weaker evidence: privileges, or a lacking account."""
    limits = [
        *([f"{PRIVILEGED}: {'; '.join(bootable.privileged)}"] if bootable.privileged else ()),
        *([f"{DAEMONS}: {'; '.join(bootable.daemons)}"] if bootable.daemons else ()),
        *([OUTBOUND] if bootable.outbound else ()),
        *([NO_ACCOUNT.format(bootable.protocol)] if log is None else ()),
        *(HIDDEN.format(name) for name in info_names(bootable.fail_on) if log and log.hides_info),
        *([LOST] if log and not log.is_complete and any(fault.name == LOST_MESSAGES for fault in faults) else ()),
    ]
    if not limits:
        return passed
    return passed.model_copy(
        update={
            "reason": f"{passed.reason} ({'; '.join(limits)})"[:MAX_REASON],
            "evidence": (*(piece("judge", limit) for limit in limits), *passed.evidence),
            "is_weak": True,
            "privileged": (*bootable.privileged, *bootable.daemons),
        }
    )


def _passed_by_console(
    proof: ConsoleProof, outcome: Outcome, transcript: bytes, faults: tuple[KernelFault, ...]
) -> Judgement:
    """Build a pass by the console, marked as weaker evidence."""
    evidence = (*console_verdict.pass_evidence(proof, outcome, transcript), *console.fault_notes(faults, ()))
    reason = f"the console shows {proof.console!r} ({console_verdict.WEAKER})"
    return Judgement(verdict=Verdict.PASS, reason=reason, evidence=evidence, is_weak=True, kernel_faults=faults)


def _last(outcome: Outcome) -> str:
    return completeness.message_text(outcome.messages[-1])

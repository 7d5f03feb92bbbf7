"""Verdicts on specs in an engine or a cloud (docs/where-to-run.md). Pure.

QEMU does not report there how the guest left, so its account must be complete, and a pass is marked as weaker
evidence.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bootmatrix.console import transcript as console
from bootmatrix.console.kernel_lines import CONTAINER, kernel_lines
from bootmatrix.console.kernel_messages import STAMP, find_kernel_faults
from bootmatrix.console.stalls import Starvation
from bootmatrix.judge import completeness
from bootmatrix.judge.console_verdict import WEAKER
from bootmatrix.judge.result_files import read_files
from bootmatrix.judge.tap import ParsedResults, parse, read_tap
from bootmatrix.model import Bootable, Evidence, GuestMessage, Judgement, KernelFault, Outcome, SubResult, Verdict
from bootmatrix.model.verdict import Finding, piece

UNSIGNED = re.compile(
    rb"^bootmatrix: ((?:ready|uptime|onboot|services?|check|shutdown|onshutdown|end)(?: [!-~]+)*)\r*$", re.MULTILINE
)
"""A message of init in the mode `manual`, in which it has no secret."""
STAMPED = re.compile(rb"%s[^\n]*(?:(\n)(?=%s|bootmatrix: )|\n)" % (STAMP, CONTAINER))
"""The rest of a line after a time stamp; its end only if init's own line follows."""
MAX_EVIDENCE = 40
MAX_MESSAGES = 5000
USER = {Verdict.PASS: Verdict.USER_PASS, Verdict.FAIL: Verdict.USER_FAIL, Verdict.TIMEOUT: Verdict.USER_FAIL}
"""Verdicts on what ran on a kernel that is not the guest's own."""
NO_KERNEL = "on the kernel of {}, {}: no verdict on another kernel"


@dataclass(frozen=True)
class Elsewhere:
    """A place where a spec ran; `exit_status` is init's, if it reports one."""

    name: str
    exit_status: int | None = None


def unsigned_messages(transcript: bytes) -> tuple[GuestMessage, ...]:
    """Return init's messages on a console without a host.

    A container with that console can forge them.
    """
    lines = [match[1].decode("ascii") for match in UNSIGNED.finditer(_joined(transcript))][:MAX_MESSAGES]
    return tuple(
        GuestMessage(kind=kind, words=tuple(words), at_s=0, sequence=number)
        for number, (kind, *words) in enumerate((line.split(" ") for line in lines), 1)
    )


def judge_signed(place: str, outcome: Outcome, bootable: Bootable, transcript: bytes) -> Judgement:
    """Judge a signed account on a place's kernel, the bootable's release."""
    printed = [*read_tap(outcome.messages), *read_files(outcome, bootable)]
    judgement = _judge(Elsewhere(place, outcome.exit_status), outcome, bootable, transcript, (printed, ()))
    words = NO_KERNEL.format(place, bootable.kernel_release)
    return judgement.model_copy(
        update={
            "verdict": USER.get(judgement.verdict, judgement.verdict),
            "reason": f"{judgement.reason} ({words})",
            "subresults": tuple(
                result.model_copy(update={"verdict": USER.get(result.verdict, result.verdict)})
                for result in judgement.subresults
            ),
        }
    )


def judge_console(place: Elsewhere, outcome: Outcome, bootable: Bootable, transcript: bytes) -> Judgement:
    """Judge a cloud's console: init's unsigned account, and the kernel."""
    outcome = outcome.model_copy(update={"messages": unsigned_messages(transcript)})
    names = (*bootable.onboot, *bootable.checks, *bootable.onshutdown)
    printed = [_tap(name, transcript) for name in dict.fromkeys(names)]
    faults = find_kernel_faults(kernel_lines(transcript, None))
    judgement = _judge(place, outcome, bootable, transcript, (printed, faults))
    if judgement.verdict is not Verdict.PASS:
        return judgement
    return judgement.model_copy(update={"reason": f"{judgement.reason} ({WEAKER})"})


def _tap(name: str, transcript: bytes) -> ParsedResults:
    """Parse a container's TAP; without plan or version, nothing is expected."""
    prefix = f"{name}| "
    lines = _joined(transcript).decode("utf-8", "replace").replace("\r", "").split("\n")
    tap = parse("\n".join(line.removeprefix(prefix) for line in lines if line.startswith(prefix)), name)
    return ParsedResults(
        tuple(tap.results), tuple(Finding(Verdict.FAIL, f"{name}: {reason}") for reason in tap.faults[:5])
    )


def _joined(transcript: bytes) -> bytes:
    """Remove the kernel's lines, which joins lines that they interrupted.

    A container can print what looks like the kernel's: a line that begins as init's lines do was not interrupted.
    """
    return STAMPED.sub(lambda match: match[1] or b"", transcript)


def _judge(
    place: Elsewhere,
    outcome: Outcome,
    bootable: Bootable,
    transcript: bytes,
    parsed: tuple[list[ParsedResults], tuple[KernelFault, ...]],
) -> Judgement:
    printed, faults = parsed
    results = tuple(result for tap in printed for result in tap.results)
    subresults = (*completeness.subresults(outcome, bootable, results), *results)
    findings = sorted(
        _find(place, outcome, bootable, transcript, (results, faults)), key=lambda finding: finding.gravity
    )
    findings += [finding for tap in printed for finding in tap.findings]
    if any(finding.verdict is Verdict.SKIP for finding in findings):
        findings = [finding for finding in findings if not finding.follows]
        findings.sort(key=lambda finding: finding.gravity)
    if not subresults and not findings:
        return Judgement(verdict=Verdict.BUILD_ERROR, reason="nothing was tested: the spec has no container")
    if not findings:
        return _passed(place, outcome, subresults, bootable)
    first, *others = findings
    evidence = first.evidence or console.last_lines(transcript)
    also = (piece("result", f"also: {other.reason}") for other in others if not other.follows)
    return Judgement(
        verdict=first.verdict,
        reason=first.reason,
        evidence=(*evidence, *also)[:MAX_EVIDENCE],
        subresults=subresults,
        advice=first.advice,
        kernel_faults=faults,
        is_weak=True,
    )


def _passed(place: Elsewhere, outcome: Outcome, subresults: tuple[SubResult, ...], bootable: Bootable) -> Judgement:
    evidence: list[Evidence] = [piece("result", f"{len(outcome.messages)} messages, complete, on {place.name}")]
    if place.exit_status is not None:
        evidence.append(piece("host", f"init exited with status {place.exit_status}"))
    return Judgement(
        verdict=Verdict.PASS,
        reason=f"{len(subresults)} of {len(subresults)} results passed on {place.name}",
        evidence=tuple(evidence),
        subresults=subresults,
        is_weak=True,
        privileged=(*bootable.privileged, *bootable.daemons),
    )


def _find(
    place: Elsewhere,
    outcome: Outcome,
    bootable: Bootable,
    transcript: bytes,
    parsed: tuple[tuple[SubResult, ...], tuple[KernelFault, ...]],
) -> Iterator[Finding]:
    results, faults = parsed
    if outcome.host_error:
        yield Finding(Verdict.INFRA_ERROR, outcome.host_error, (piece("host", outcome.host_error),))
    if faults:
        yield from console.find_panics(kernel_lines(transcript, None), faults)
        yield from console.check_faults(faults, Starvation())
    if outcome.limit and outcome.limit != "flood":
        reason = f"it did not end within {outcome.wall_s:.0f} s"
        yield Finding(Verdict.TIMEOUT, reason, console.last_lines(transcript), "Raise the limit with --timeout.")
    reported = list(completeness.reported_faults(outcome, bootable, transcript, results))
    yield from reported
    if outcome.result_fault:
        yield Finding(Verdict.FAIL, f"invalid result channel: {outcome.result_fault}")
    is_skipped = any(finding.verdict is Verdict.SKIP for finding in reported)
    yield from completeness.find_gaps(outcome, bootable, transcript, is_skipped=is_skipped)
    if place.exit_status:
        yield Finding(Verdict.FAIL, f"init exited with status {place.exit_status}", follows=True)

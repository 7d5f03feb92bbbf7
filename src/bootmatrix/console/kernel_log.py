"""The kernel's taints and log, as init reports them: evidence beside the console."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from bootmatrix.console.kernel_messages import find_kernel_faults, stall_of
from bootmatrix.console.stalls import STARVED_S, Starvation
from bootmatrix.model import Evidence, GuestMessage, KernelFault, Outcome, Verdict
from bootmatrix.model.verdict import Finding, piece
from bootmatrix.packaged import packaged_table

KIND = "kernel"
PROTOCOL = 2
"""The first version of the guest protocol with a `kernel` message."""
UNREAD = "-"
MAX_WORDS = 7
LOUD = 5
"""The lowest console level that shows warnings: a console shows records below its level."""
MARK_LEVEL = 6
"""The level of the line with the mark: a console of this level or less does not show it."""
LOUDEST = 8
"""The highest level that syslog(2) sets; the kernel itself uses higher ones."""
NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
MARK = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A random UUID of the kernel (proc(5), /proc/sys/kernel/random)."""
RECORD = re.compile(rb"[0-9]{1,19},[0-9]{1,19},([0-9]{1,19}),[^;]*;(.*)", re.DOTALL)
"""A record of /dev/kmsg: priority, number, microseconds, flags, text (Documentation/ABI/testing/dev-kmsg)."""
ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
MAX_NOTED = 5


@dataclass(frozen=True)
class Taint:
    """One entry of taints.toml."""

    bit: int
    letter: str
    severity: str
    meaning: str
    stall: bool = False
    message: str = ""


@dataclass(frozen=True)
class KernelLog:
    """A `kernel` message (docs/guest-protocol.md).

    `levels` are the console levels at the start and at the end of init. `errors` counts records of level `err` or
    worse, `lost` overwritten records, `unsent` records left out; all are None if the log was not read up to `mark`.
    `text` has the records sent (warnings and worse) as a console shows them.
    """

    taints: int
    levels: tuple[int, int]
    mark: str
    errors: int | None
    lost: int | None
    unsent: int | None
    text: bytes

    @property
    def is_complete(self) -> bool:
        """True if no record of a fault can be missing."""
        return self.lost == 0 and self.unsent == 0

    @property
    def is_quiet(self) -> bool:
        """True if the console may have hidden warnings or worse."""
        return min(self.levels) < LOUD

    @property
    def hides_info(self) -> bool:
        """True if the console may have hidden messages of level `info`."""
        return min(self.levels) <= MARK_LEVEL

    @property
    def was_changed(self) -> bool:
        """True if a program set the console level; a crash sets 15 (panic.c)."""
        return self.levels[0] != self.levels[1] and self.levels[1] <= LOUDEST


@lru_cache(maxsize=1)
def load_taints() -> tuple[Taint, ...]:
    """Load all taints of taints.toml."""
    return tuple(Taint(**entry) for entry in packaged_table("console/taints.toml")["taint"])


def read_kernel_log(messages: Iterable[GuestMessage]) -> KernelLog | None:
    """Parse the last `kernel` message; None if it is missing or invalid."""
    accounts = [message for message in messages if message.kind == KIND]
    return _read(accounts[-1].words) if accounts else None


def _read(words: Sequence[str]) -> KernelLog | None:
    numbers, counts = words[:3], words[4:MAX_WORDS]
    is_sound = len(words) >= MAX_WORDS and all(NUMBER.fullmatch(word) for word in numbers) and MARK.fullmatch(words[3])
    if not is_sound or not all(word == UNREAD or NUMBER.fullmatch(word) for word in counts):
        return None
    errors, lost, unsent = (None if word == UNREAD else int(word) for word in counts)
    text = b"".join(_lines(word.encode("ascii", "replace")) for word in words[MAX_WORDS:])
    return KernelLog(int(numbers[0]), (int(numbers[1]), int(numbers[2])), words[3], errors, lost, unsent, text)


def _lines(record: bytes) -> bytes:
    """Format a record as a console shows it: each line after its time stamp."""
    parts = RECORD.fullmatch(record)
    if not parts:
        return b""
    seconds, micros = divmod(int(parts[1]), 1_000_000)
    text = ESCAPED.sub(lambda code: bytes.fromhex(code[1].decode()), parts[2])
    return b"".join(b"[%5d.%06d] %s\n" % (seconds, micros, line) for line in text.split(b"\n"))


def unseen_faults(log: KernelLog | None, seen: Iterable[KernelFault]) -> tuple[KernelFault, ...]:
    """Return the faults that are in the kernel's log and not on the console."""
    if log is None:
        return ()
    names = {fault.name for fault in seen}
    unseen = (fault for fault in find_kernel_faults(log.text) if fault.name not in names)
    return tuple(fault.model_copy(update={"line": None}) for fault in unseen)


def is_broken(log: KernelLog | None) -> bool:
    """Return whether a taint tells of a fault that no busy host causes."""
    return log is not None and any(not taint.stall for taint in _taints(log, "fail"))


def check_account(outcome: Outcome, protocol: int) -> Iterator[Finding]:
    """Yield a finding unless there is one account, right before the end."""
    kinds = [message.kind for message in outcome.messages]
    if "end" not in kinds:
        return  # completeness.py reports that
    if protocol < PROTOCOL and KIND not in kinds:
        return
    reason = ""
    if kinds.count(KIND) != 1 or kinds[-2:] != [KIND, "end"]:
        reason = f"expected one account of the kernel, right before init's last message, got {kinds.count(KIND)}"
    elif read_kernel_log(outcome.messages) is None:
        reason = "init's account of the kernel is invalid"
    if reason:
        yield Finding(Verdict.FAIL, reason, (piece("result", reason),))


def check_kernel(
    log: KernelLog | None,
    faults: Sequence[KernelFault],
    starvation: Starvation,
    transcript: bytes,
    fail_on: Collection[str] = (),
) -> Iterator[Finding]:
    """Yield findings on fatal taints, and on a silenced or missing console.

    Taints of messages in `fail_on` are fatal too.
    """
    if log is None:
        return
    explained = any(fault.is_fatal for fault in faults)
    escalated = (taint for taint in _taints(log, "note") if taint.message in fail_on)
    for taint in (*_taints(log, "fail"), *escalated):
        words = f"the kernel is tainted {taint.letter}: {taint.meaning}"
        evidence = (piece("kernel", f"/proc/sys/kernel/tainted is {log.taints}"),)
        stalled = taint.stall and any(stall_of(fault.name) for fault in faults)
        if taint.stall and starvation.total_s >= STARVED_S and not stalled:
            reason = f"the host had no core for the guest for {starvation.total_s:.0f} s: its kernel reported a stall"
            yield Finding(Verdict.INFRA_ERROR, reason, evidence)
            continue
        cause: Literal["kernel", "stall"] = "stall" if taint.stall else "kernel"
        yield Finding(Verdict.FAIL, words, evidence, cause=cause, follows=explained or stalled)
    if log.is_complete:
        return
    if log.is_quiet or log.was_changed:
        reason = f"the console was silenced ({_levels(log)}), and the kernel's log is incomplete: {_gap(log)}"
        advice = "Remove 'quiet', 'loglevel=' and writes to /proc/sys/kernel/printk."
        yield Finding(Verdict.FAIL, reason, (piece("kernel", reason),), advice)
    elif log.levels[1] > MARK_LEVEL and log.lost is not None and log.mark.encode("ascii") not in transcript:
        reason = f"the console does not show the kernel's messages, and the kernel's log is incomplete: {_gap(log)}"
        yield Finding(Verdict.FAIL, reason, (piece("kernel", reason),), "Remove 'console=' from the command line.")


def kernel_notes(log: KernelLog | None, masked: bytes) -> Iterator[Evidence]:
    """Yield remarks: harmless taints, a quiet console, an incomplete log."""
    if log is None:
        return
    for taint in _taints(log, "note"):
        yield piece("kernel", f"tainted {taint.letter}: {taint.meaning}")
    if log.is_quiet:
        yield piece("kernel", f"the console was quiet: {_levels(log)}")
        yield from _unshown(log, masked)
    if not log.is_complete:
        yield piece("kernel", f"its log is incomplete: {_gap(log)}")


def _unshown(log: KernelLog, masked: bytes) -> Iterator[Evidence]:
    """Yield records that init sent and the console lacks."""
    absent = [line for line in log.text.splitlines() if line not in masked]
    for line in absent[:MAX_NOTED]:
        yield piece("kernel", f"not on the console: {line.decode('utf-8', 'replace').strip()}")
    if len(absent) > MAX_NOTED:
        yield piece("kernel", f"not on the console: {len(absent) - MAX_NOTED} more lines")


def _taints(log: KernelLog, severity: str) -> list[Taint]:
    return [taint for taint in load_taints() if log.taints >> taint.bit & 1 and taint.severity == severity]


def _levels(log: KernelLog) -> str:
    return f"level {log.levels[0]} at the start, {log.levels[1]} at the end"


def _gap(log: KernelLog) -> str:
    if log.lost is None:
        return "init could not read it to its end"
    return f"{log.lost} records were overwritten, {log.unsent} were left out"

"""The kernel's own account: its taints and its log, as init read them. The console is the other witness."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from bootmatrix.console.kernel_messages import find_kernel_faults, is_stall
from bootmatrix.model import Evidence, GuestMessage, KernelFault, Outcome, Verdict
from bootmatrix.model.finding import Finding, piece

KIND = "kernel"
PROTOCOL = 2
"""The first version of the guest protocol with a `kernel` message."""
UNREAD = "-"
MAX_WORDS = 7
LOUD = 5
"""The console level from which warnings and all that is worse are shown: those below the level are."""
LOUDEST = 8
"""The highest level that can be asked for (syslog(2)); the kernel's own word for all is above it."""
NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
MARK = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A random UUID, as the kernel gives them (proc(5), /proc/sys/kernel/random)."""
RECORD = re.compile(rb"[0-9]+,[0-9]+,([0-9]+),[^;]*;(.*)", re.DOTALL)
"""A record of /dev/kmsg: priority, number, microseconds, flags, text (Documentation/ABI/testing/dev-kmsg)."""
ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
MAX_NOTED = 5
STARVED_S = 10.0
"""As for a stall on the console (transcript.py)."""


@dataclass(frozen=True)
class Taint:
    """One entry of taints.toml."""

    bit: int
    letter: str
    severity: str
    meaning: str
    stall: bool = False


@dataclass(frozen=True)
class KernelLog:
    """A `kernel` message. `levels` are the console's when init began and in the end.

    `errors` counts records at level `err` or worse, `lost` those that were gone before init read them, `unsent` those
    that it did not repeat; all are None where the log was not read to its end. `text` has the records that it
    repeated, warnings and worse, as a console would show them. `mark` stands in the line up to which the log was read.
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
        """True if no record that could tell of a fault is unknown."""
        return self.lost == 0 and self.unsent == 0

    @property
    def is_quiet(self) -> bool:
        """True if the console may not have shown warnings, or what is worse."""
        return min(self.levels) < LOUD

    @property
    def was_changed(self) -> bool:
        """True if something set the console's level. A kernel that crashes does so itself (kernel/panic.c): to 15."""
        return self.levels[0] != self.levels[1] and self.levels[1] <= LOUDEST


@lru_cache(maxsize=1)
def taints() -> tuple[Taint, ...]:
    """All known taints."""
    text = files("bootmatrix.console").joinpath("taints.toml").read_text(encoding="utf-8")
    return tuple(Taint(**entry) for entry in tomllib.loads(text)["taint"])


def read_kernel_log(messages: Iterable[GuestMessage]) -> KernelLog | None:
    """The last `kernel` message, None without a sound one."""
    found = [message for message in messages if message.kind == KIND]
    return _read(found[-1].words) if found else None


def _read(words: Sequence[str]) -> KernelLog | None:
    numbers, counts = words[:3], words[4:MAX_WORDS]
    is_sound = len(words) >= MAX_WORDS and all(NUMBER.fullmatch(one) for one in numbers) and MARK.fullmatch(words[3])
    if not is_sound or not all(one == UNREAD or NUMBER.fullmatch(one) for one in counts):
        return None
    errors, lost, unsent = (None if one == UNREAD else int(one) for one in counts)
    text = b"".join(_lines(word.encode("ascii", "replace")) for word in words[MAX_WORDS:])
    return KernelLog(int(numbers[0]), (int(numbers[1]), int(numbers[2])), words[3], errors, lost, unsent, text)


def _lines(record: bytes) -> bytes:
    """A record as a console shows it: each of its lines behind its time."""
    parts = RECORD.fullmatch(record)
    if not parts:
        return b""
    seconds, micros = divmod(int(parts[1]), 1_000_000)
    text = ESCAPED.sub(lambda code: bytes.fromhex(code[1].decode()), parts[2])
    return b"".join(b"[%5d.%06d] %s\n" % (seconds, micros, line) for line in text.split(b"\n"))


def unseen_troubles(log: KernelLog | None, seen: Iterable[KernelFault]) -> tuple[KernelFault, ...]:
    """Troubles that the kernel's log tells of and the console does not."""
    if log is None:
        return ()
    names = {one.name for one in seen}
    found = (one for one in find_kernel_faults(log.text) if one.name not in names)
    return tuple(one.model_copy(update={"line": None}) for one in found)


def missing(outcome: Outcome, protocol: int) -> Iterator[Finding]:
    """Yield a finding unless there is exactly one account of the kernel, right before the end."""
    kinds = [message.kind for message in outcome.messages]
    if "end" not in kinds:
        return  # completeness.py reports that
    if protocol < PROTOCOL and KIND not in kinds:
        return
    reason = ""
    if kinds.count(KIND) != 1 or kinds[-2:] != [KIND, "end"]:
        reason = f"expected one account of the kernel, right before init's last message, found {kinds.count(KIND)}"
    elif read_kernel_log(outcome.messages) is None:
        reason = "init's account of the kernel cannot be read"
    if reason:
        yield Finding(Verdict.FAIL, reason, (piece("result", reason),))


def complaints(log: KernelLog | None, troubles: Sequence[KernelFault], starved_s: float) -> Iterator[Finding]:
    """What the kernel's own account says against a pass, beside the faults that its log tells of."""
    if log is None:
        return
    explained = any(one.is_fatal for one in troubles)
    for taint in _taints(log, "fail"):
        words = f"the kernel is tainted {taint.letter}: {taint.meaning}"
        evidence = (piece("kernel", f"/proc/sys/kernel/tainted is {log.taints}"),)
        if taint.stall and starved_s >= STARVED_S:
            reason = f"the host had no core for the guest for {starved_s:.0f} s, so that its kernel saw a stall"
            yield Finding(Verdict.INFRA_ERROR, reason, evidence)
            continue
        stalled = taint.stall and any(is_stall(one.name) for one in troubles)
        yield Finding(Verdict.FAIL, words, evidence, follows=explained or stalled)
    if (log.is_quiet or log.was_changed) and not log.is_complete:
        reason = f"the console was silenced ({_levels(log)}), and what the kernel said is lost: {_gap(log)}"
        advice = "Leave the console as it is: take 'quiet', 'loglevel=' and writes to /proc/sys/kernel/printk out."
        yield Finding(Verdict.FAIL, reason, (piece("kernel", reason),), advice)


def notes(log: KernelLog | None, masked: bytes) -> Iterator[Evidence]:
    """What of the kernel's own account is worth knowing beside a verdict."""
    if log is None:
        return
    for taint in _taints(log, "note"):
        yield piece("kernel", f"tainted {taint.letter}: {taint.meaning}")
    if log.is_quiet:
        yield piece("kernel", f"the console was quieter than it should be: {_levels(log)}")
        yield from _unshown(log, masked)
    if not log.is_complete:
        yield piece("kernel", f"its log is not known as a whole: {_gap(log)}")


def _unshown(log: KernelLog, masked: bytes) -> Iterator[Evidence]:
    """Records that the console lacks, as far as init repeated them."""
    absent = [line for line in log.text.splitlines() if line not in masked]
    for line in absent[:MAX_NOTED]:
        yield piece("kernel", f"not on the console: {line.decode('utf-8', 'replace').strip()}")
    if len(absent) > MAX_NOTED:
        yield piece("kernel", f"not on the console: {len(absent) - MAX_NOTED} more lines")


def _taints(log: KernelLog, severity: str) -> list[Taint]:
    return [taint for taint in taints() if log.taints >> taint.bit & 1 and taint.severity == severity]


def _levels(log: KernelLog) -> str:
    return f"its level was {log.levels[0]} when init began, and {log.levels[1]} in the end"


def _gap(log: KernelLog) -> str:
    if log.lost is None:
        return "init could not read it to its end"
    return f"{log.lost} records were overwritten, {log.unsent} were too many to be repeated"

"""Raw observations of a boot, before judging."""

import re
from typing import Any, Literal

from bootmatrix.model.base import Model

Phase = Literal["boot", "onboot", "services", "checks", "shutdown"]
"""`boot` lasts from QEMU's start to init's first message, and each other phase to the message that ends it."""

DIGITS = re.compile(r"[0-9]{1,9}")
SUSPENDED_S = 1.0
"""Suspension of QEMU after which the guest's own limits, and its kernel's, may have expired."""


class GuestMessage(Model):
    """An authentic message of the guest's init: kind, words, seconds since the start.

    `sequence` numbers count from 1 without gaps. `starved_s` is `Outcome.starved_s` at that moment, None in runs of
    format 1.
    """

    kind: str
    words: tuple[str, ...]
    at_s: float
    sequence: int = 0
    starved_s: float | None = None


class QmpEvent(Model):
    """An event of QEMU's monitor, with seconds since the start."""

    name: str
    data: dict[str, Any] = {}
    at_s: float


class Diagnostic(Model):
    """State of a stopped guest; `file` is beside the cell's console.

    `screen` has the console's last lines, `registers` those of all CPUs, `tasks` the kernel's answer to sysrq, `memory`
    is an ELF core, `hang` what a second boot told. `places` has source lines of traces, in `lines` by function and
    offset. `note` is the place of the hang in one line, or the reason for a missing file.
    """

    kind: Literal["screen", "registers", "tasks", "memory", "hang", "places"]
    file: str = ""
    size_bytes: int = 0
    note: str = ""
    lines: dict[str, str] = {}


class CollectedFile(Model):
    """A fetched result file: `asked` in the spec, `path` in the guest.

    `file` is below the cell's folder; a tree is a tar. `cut` says what is missing by a limit, `fault` why `file` is
    empty. `size_bytes` are those of the contents, `files` their number.
    """

    container: str
    asked: str
    path: str
    file: str = ""
    is_tree: bool = False
    size_bytes: int = 0
    files: int = 0
    cut: str = ""
    fault: str = ""
    notes: tuple[str, ...] = ()


class Outcome(Model):
    """All observations of one boot.

    `exit_status` is QEMU's (negative: killed by that signal; None: not started). `ended_by` is `guest` (its own
    shutdown), `host` (stopped by bootmatrix: see `limit`), `user`, or `error` (see `host_error`). `messages` are
    those of the result channel with a valid digest, in order; `rejected` counts the others. `result_fault` is the
    fault of their sequence; empty if no message was lost, repeated or changed. `limit` is the phase whose time ran
    out, or `silence`, `panic`, `flood`, or `shown` (the proof is on the console, and the guest stays).
    `private_mib` is the memory used by this QEMU alone at the end; None if the host does not report it. `stderr` is
    QEMU's. Times are wall-clock seconds. `starved_s` is the time without a host core for the guest, `suspended_s`
    the time for which QEMU, bootmatrix or the host was stopped. If a stall can be due to `starved_s`, `starvation` has
    moments with its value, and `kernel_start_s` the moment at which the kernel's clock was 0. `collected` are result
    files that were too large for messages.
    """

    exit_status: int | None
    ended_by: Literal["guest", "host", "user", "error"]
    limit: str = ""
    limit_phase: Phase | None = None
    host_error: str = ""
    messages: tuple[GuestMessage, ...] = ()
    rejected: int = 0
    result_fault: str = ""
    events: tuple[QmpEvent, ...] = ()
    stderr: str = ""
    started_at: str
    wall_s: float
    boot_s: float | None = None
    starved_s: float = 0.0
    starvation: tuple[tuple[float, float], ...] = ()
    kernel_start_s: float | None = None
    suspended_s: float = 0.0
    private_mib: int | None = None
    console_bytes: int = 0
    console_dropped_bytes: int = 0
    diagnostics: tuple[Diagnostic, ...] = ()
    collected: tuple[CollectedFile, ...] = ()

    @property
    def ignored_stops(self) -> dict[str, float]:
        """Seconds that services which ignore SIGTERM cost, by name."""
        killed = (message.words for message in self.messages if message.kind == "service")
        return {
            words[0]: int(words[2]) / 1000
            for words in killed
            if len(words) == 3 and words[1] == "killed" and DIGITS.fullmatch(words[2])
        }

"""What happened, raw, before anyone judges it."""

from typing import Any, Literal

from bootmatrix.model.base import Model

Phase = Literal["boot", "onboot", "services", "checks", "shutdown"]
"""`boot` lasts from QEMU's start to init's first message, and each other phase to the message that ends it."""

SUSPENDED_S = 1.0
"""A guest's own limits, and its kernel's, may be over after QEMU was stopped for so long."""


class GuestMessage(Model):
    """One authentic message of the guest's init: its kind, its words, and when it came, in seconds after the start.

    `sequence` is its number: they count from 1 without gaps. `starved_s` is `Outcome.starved_s` at that moment, None in
    runs of format 1.
    """

    kind: str
    words: tuple[str, ...]
    at_s: float
    sequence: int = 0
    starved_s: float | None = None


class QmpEvent(Model):
    """An event of QEMU's monitor, and when it came, in seconds after the start."""

    name: str
    data: dict[str, Any] = {}
    at_s: float


class Diagnostic(Model):
    """What was kept of a guest that had to be ended, or that gave up. `file` is beside the cell's console.

    `screen` has the console's last lines, `registers` those of all CPUs, `tasks` what the kernel said to sysrq, and
    `memory` is an ELF core. Without a file, `note` says why there is none.
    """

    kind: Literal["screen", "registers", "tasks", "memory"]
    file: str = ""
    size_bytes: int = 0
    note: str = ""


class Outcome(Model):
    """Everything that was seen of one boot.

    `exit_status` is QEMU's (negative: killed by that signal; None: it never started); `ended_by` says who ended it:
    `guest` (it left by itself), `host` (we stopped it: see `limit`), `user`, or `error` (see `host_error`).
    `messages` are those of the result channel whose digest matched, in order; `rejected` counts those that did not;
    `result_fault` says what is wrong with their sequence, and is empty while nothing was lost, repeated or changed.
    `limit` is the name of the phase whose time was up, or `silence`, `panic`, `flood`, or `shown`: the guest showed
    what its proof wants, and was not to leave by itself.
    `private_mib` is memory that only its QEMU had in the end, None where the host does not say.
    `stderr` is QEMU's. Times are seconds of the wall clock; `starved_s` is how long the host had no core for the guest,
    and `suspended_s` how long QEMU or bootmatrix were stopped or frozen, or the host was suspended.
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
    suspended_s: float = 0.0
    private_mib: int | None = None
    console_bytes: int = 0
    console_dropped_bytes: int = 0
    diagnostics: tuple[Diagnostic, ...] = ()

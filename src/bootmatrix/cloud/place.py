"""The protocol of clouds, and a run: push, start, follow, stop."""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from bootmatrix.errors import InputError
from bootmatrix.judge.elsewhere import Elsewhere, judge_console, unsigned_messages
from bootmatrix.model import Bootable, Judgement, Outcome, Verdict

TAG = "bootmatrix"
"""Tag or label of everything that is made in a cloud."""
KEPT = "kept"
"""Its value on what `push` made: no sweep removes that."""
OVERLAP_BYTES = 512
"""Bytes of a console by which its next piece is joined."""
CUT_CHARACTER_BYTES = 3
"""Bytes at a piece's beginning that may be half of a character."""
MAX_PLACES = 10_000
"""Places that are tried on a console that repeats itself."""
LEAVE_S = 60
"""Seconds that a guest with a complete account has to leave."""
CUT = "the cloud dropped a part of the console before it was read"
End = Literal["", "guest", "host"]
"""End of an instance: none yet, by its own guest, or by the cloud or a person."""
Follow = Callable[[bytes], object]


@dataclass(frozen=True)
class State:
    """An instance's state; `reason` is the cloud's own word for its end."""

    end: End = ""
    reason: str = ""


def run_tag(keep: bool) -> str:
    """Return the tag's value for what a run makes, or for what is kept."""
    return KEPT if keep else secrets.token_hex(8)


def is_before(made: object, before: float) -> bool:
    """Return whether a thing was made before a time; false if its time is unreadable."""
    with suppress(ValueError):
        at = made if isinstance(made, datetime) else datetime.fromisoformat(str(made))
        return at.timestamp() <= before + 1
    return False


class Place(Protocol):
    """A cloud. Its methods raise InfraError, or HostError for missing credentials."""

    name: str

    def push(self, disk: Path, title: str) -> str:
        """Upload a disk and register it; return the image's name."""

    def start(self, image: str) -> str:
        """Start an instance that ends when its guest powers off; return its name."""

    def console(self, instance: str) -> bytes:
        """Return the latest console output that the cloud has."""

    def state(self, instance: str) -> State:
        """Return whether an instance has ended."""

    def clean(self) -> None:
        """Remove all that this run made, by its tag, also after a lost answer."""

    def sweep(self, older_s: float) -> list[str]:
        """Remove what other runs left and is older; pushed images stay."""


@dataclass(frozen=True)
class CloudPace:
    """Seconds: a run's limit, between looks, and for an ended console."""

    limit_s: float
    poll_s: float = 10
    lag_s: float = 600


class ConsoleTail:
    """A console joined from a cloud's pieces, each the end of what it has."""

    def __init__(self) -> None:
        self.transcript = b""
        self.is_cut = False

    def add(self, piece: bytes) -> bytes:
        """Join a piece; return what is new."""
        if not piece or piece in self.transcript:
            return b""
        overlap = self._overlap(piece)
        self.is_cut = self.is_cut or overlap < 0
        new = piece[max(overlap, 0) :]
        self.transcript += new
        return new

    def _overlap(self, piece: bytes) -> int:
        """Return the length of a piece's beginning that is known; -1 if there is a gap.

        All of it has to be the end of what is known: a console may repeat its lines.
        """
        if piece.startswith(self.transcript):
            return len(self.transcript)
        head = piece[CUT_CHARACTER_BYTES:][:OVERLAP_BYTES]
        at = self.transcript.find(head) if head else -1
        for _ in range(MAX_PLACES):
            if at < 0:
                break
            end = CUT_CHARACTER_BYTES + len(self.transcript) - at
            if self.transcript.endswith(piece[CUT_CHARACTER_BYTES:end]):
                return end
            at = self.transcript.find(head, at + 1)
        return -1


def check_spec(bootable: Bootable) -> None:
    """Check that a console can carry the account. Raises InputError if not."""
    if not bootable.reports:
        raise InputError("a cloud needs bootmatrix's init in the spec", 'Name "@pkg:./images/init" under init.')
    if bootable.results:
        raise InputError("bootmatrix.results: a cloud's console does not carry files", "Run this spec in QEMU.")


def run(place: Place, disk: Path, bootable: Bootable, pace: CloudPace, follow: Follow) -> tuple[Judgement, bytes]:
    """Push, start, follow, judge, remove; return judgement and console.

    Raises InputError if the spec needs more than a console, InfraError if the cloud fails.
    """
    check_spec(bootable)
    try:
        instance = place.start(place.push(disk, disk.name))
        outcome, tail = _follow(place, instance, pace, follow)
    finally:
        place.clean()
    judgement = judge_console(Elsewhere(place.name), outcome, bootable, tail.transcript)
    if tail.is_cut and judgement.verdict is Verdict.PASS:
        judgement = judgement.model_copy(update={"reason": f"{judgement.reason} ({CUT}, and faults in it are unseen)"})
    elif tail.is_cut:
        judgement = Judgement(verdict=Verdict.INFRA_ERROR, reason=f"{CUT}: {judgement.reason}", is_weak=True)
    return judgement, tail.transcript


def _follow(place: Place, instance: str, pace: CloudPace, follow: Follow) -> tuple[Outcome, ConsoleTail]:
    """Look at an instance until its account is complete, or has no more chance to be."""
    tail, start, ended, complete = ConsoleTail(), time.monotonic(), 0.0, 0.0
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    limit = ""
    while True:
        state = place.state(instance)
        follow(tail.add(place.console(instance)))
        now = time.monotonic()
        has_end = any(message.kind == "end" for message in unsigned_messages(tail.transcript))
        ended, complete = ended or now * bool(state.end), complete or now * has_end
        if state.end and (has_end or now - ended > pace.lag_s):
            break
        if complete and now - complete > LEAVE_S:  # some clouds do not see that a guest has left
            break
        if not state.end and not complete and now - start > pace.limit_s:
            limit = "time"
            break
        time.sleep(pace.poll_s)
    outcome = Outcome(
        exit_status=None,
        ended_by="guest" if state.end == "guest" else "host",
        limit=limit,
        host_error=f"{place.name} ended the instance: {state.reason}" if state.end == "host" else "",
        started_at=started_at,
        wall_s=time.monotonic() - start,
        console_bytes=len(tail.transcript),
    )
    return outcome, tail

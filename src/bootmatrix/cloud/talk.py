"""The host's end of init's terminal in a place that has no QEMU."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bootmatrix.boot.protocol import Conversation
from bootmatrix.model import GuestMessage, Outcome

SETTINGS = "bootmatrix.channel=console bootmatrix.exit=exit"
"""Init's settings, the value of SETTINGS_VARIABLE."""
SETTINGS_VARIABLE = "BOOTMATRIX"
"""The variable that src/guest/settings.h names."""
CONSOLE_BYTES = 32 << 20
"""Limit of a place's output that is kept. Messages count beyond it, too."""
Follow = Callable[[bytes], object]


@dataclass
class Talk:
    """A run's output and account: init's greeting is answered once.

    `status` is init's exit status, `limit` what ended it before, `host_error` a fault of the place.
    """

    limit_s: float
    follow: Follow = len
    conversation: Conversation = field(default_factory=lambda: Conversation(secrets.token_hex(16), noisy=True))
    messages: list[GuestMessage] = field(default_factory=list)
    transcript: bytearray = field(default_factory=bytearray)
    dropped_bytes: int = 0
    limit: str = ""
    status: int | None = None
    host_error: str = ""
    began_s: float = 0
    wall_s: float = 0
    started_at: str = ""

    def start(self) -> None:
        """Begin to count the time: init is about to run."""
        self.began_s = time.monotonic()
        self.started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    @property
    def left_s(self) -> float:
        """Seconds that are left to the run."""
        return self.began_s + self.limit_s - time.monotonic()

    def end(self, limit: str = "") -> None:
        """Record the time of the end, and the limit that caused it, if any."""
        self.wall_s, self.limit = time.monotonic() - self.began_s, self.limit or limit

    def feed(self, data: bytes) -> bytes:
        """Take output; return the reply to init. A flood of messages sets `limit`."""
        kept = data[: CONSOLE_BYTES - len(self.transcript)]
        self.transcript += kept
        self.dropped_bytes += len(data) - len(kept)
        self.follow(data)
        self.messages += self.conversation.feed(data, time.monotonic() - self.began_s)
        if self.conversation.flooded:
            self.limit = "flood"
        return self.conversation.take_reply() or b""

    def outcome(self) -> Outcome:
        """Return the outcome; a fault before the greeting is not the guest's."""
        if not self.messages and not self.host_error:
            last = self.transcript.decode("utf-8", "replace").strip().splitlines()[-1:]
            self.host_error = f"init did not start: {' '.join(last)[:300] or 'no output'}"
        return Outcome(
            exit_status=None if self.limit else self.status,
            ended_by="host" if self.limit else "guest",
            limit=self.limit,
            host_error=self.host_error,
            messages=tuple(self.messages),
            rejected=self.conversation.rejected,
            result_fault=self.conversation.fault,
            started_at=self.started_at,
            wall_s=self.wall_s,
            console_bytes=len(self.transcript) + self.dropped_bytes,
            console_dropped_bytes=self.dropped_bytes,
        )

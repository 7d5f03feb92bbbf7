"""Requests to the agent, as it parses them (src/guest/agent_request.c). Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bootmatrix.errors import InputError
from bootmatrix.guest.frames import PAYLOAD_BYTES, Frame, FrameType

MAX_REQUEST_BYTES = 128 << 10
MAX_WORDS = 16_000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root"}
"""Environment of a command, below what its image and its user set."""


@dataclass(frozen=True)
class TerminalSize:
    """Rows and columns of a terminal."""

    rows: int = 24
    columns: int = 80


@dataclass(frozen=True)
class GuestRequest:
    """A command to run: `verb` with its words.

    `root` is the path of the root in the guest, empty for the guest's own. With a `terminal` the command has one. A
    `privileged` command has all capabilities.
    """

    verb: str
    words: Sequence[str]
    root: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    uid: int = 0
    gid: int = 0
    terminal: TerminalSize | None = None
    privileged: bool = False

    def encoded(self) -> bytes:
        """Return the request's words, each with a NUL at its end.

        Raises InputError if a word contains NUL, or there is too much of them.
        """
        words = list(self._words())
        bad = next((word for word in words if "\0" in word), None)
        if bad is not None:
            raise InputError(f"{bad[:80]!r} contains a NUL character")
        data = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
        if len(data) > MAX_REQUEST_BYTES or len(words) > MAX_WORDS:
            raise InputError(
                f"arguments and environment take {len(data)} bytes in {len(words)} words, expected at most "
                f"{MAX_REQUEST_BYTES} bytes in {MAX_WORDS} words",
                "Put them into a file.",
            )
        return data

    def frames(self, channel: int) -> Iterator[Frame]:
        """Yield the frames that open a channel. Raises InputError as `encoded` does."""
        data = self.encoded()
        cuts = range(0, len(data), PAYLOAD_BYTES)
        for start in cuts:
            kind = FrameType.OPEN if start + PAYLOAD_BYTES >= len(data) else FrameType.PART
            yield Frame(kind, channel, data[start : start + PAYLOAD_BYTES])

    def _words(self) -> Iterator[str]:
        size = self.terminal or TerminalSize()
        yield from (self.verb, self.root, f"{'t' if self.terminal else ''}{'p' if self.privileged else ''}")
        yield from (str(number) for number in (self.uid, self.gid, size.rows, size.columns))
        yield from (self.cwd, str(len(self.words)), *self.words)
        yield from (f"{name}={value}" for name, value in self.env.items())

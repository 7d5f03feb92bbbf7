"""The agent's channel without a port: signed lines on the console.

Each line has a number and is repeated until the other side has acknowledged it, since the kernel may write into it.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from bootmatrix.guest.streams import Endable

LINE_BYTES = 480
WINDOW = 4
"""Lines that are not acknowledged; together they fit into the buffer of the guest's terminal."""
MAC_DIGITS = 16
LINE_WORD = b"bootmatrix-agent "
PATTERN = re.compile(rb"bootmatrix-agent ([0-9a-f]{16}) ((\d{1,10}) (\d{1,10}) ([A-Za-z0-9+/=]{0,640}))\r?\Z", re.ASCII)
MAX_LINE_BYTES = 4096
MAX_STARTS = 10
"""An agent that was killed is started again, with another key and lines numbered anew; at most so often."""
REPEAT_S = 1.5


@dataclass
class LinkSegment:
    """A numbered part of the stream; number 0 is only an acknowledgement."""

    sequence: int
    data: bytes


def key_of(nonce: str, start: int = 1) -> bytes:
    """Derive the lines' key from the boot's secret, for each start."""
    return hmac.new(nonce.encode("ascii"), b"agent %d" % start, hashlib.sha256).digest()


def encode_line(key: bytes, side: bytes, sequence: int, acknowledged: int, data: bytes) -> bytes:
    """Return a line of one side, `g` of the guest or `h` of the host."""
    text = b"%d %d %s" % (sequence, acknowledged, base64.b64encode(data))
    return b"\nbootmatrix-agent " + _mac(key, side, text) + b" " + text + b"\n"


def decode_line(key: bytes, side: bytes, line: bytes) -> tuple[int, int, bytes] | None:
    """Return sequence, acknowledgement and data; None for other or damaged lines."""
    match = PATTERN.search(line)
    if match is None or not hmac.compare_digest(_mac(key, side, match[2]), match[1]):
        return None
    try:
        data = base64.b64decode(match[5], validate=True)
    except binascii.Error:
        return None
    return int(match[3]), int(match[4]), data


def _mac(key: bytes, side: bytes, text: bytes) -> bytes:
    return hmac.new(key, side + text, hashlib.sha256).hexdigest()[:MAC_DIGITS].encode("ascii")


class ConsoleWire(Endable):
    """Bytes in lines of a console; `type` types, `run` runs meanwhile."""

    def __init__(self, nonce: str, type_line: Callable[[bytes], None], scale: float = 1) -> None:
        super().__init__()
        self._nonce, self._type = nonce, type_line
        self._start, self._key = 1, key_of(nonce)
        self._repeat_s = REPEAT_S * scale
        self._line = bytearray()
        self._received: deque[bytes] = deque()
        self._waiting: deque[LinkSegment] = deque()
        self._next = self._taken = 0

    def feed(self, data: bytes) -> None:
        """Take output of the console."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._line += end
            self._take(bytes(self._line))
            self._line.clear()
        self._line += rest
        del self._line[:-MAX_LINE_BYTES]

    async def receive(self) -> bytes:
        """Return what came; empty at the end."""
        while not self._received and not self._is_over:
            await self._changed.wait()
        return self._received.popleft() if self._received else b""

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError if the console is closed."""
        for start in range(0, len(data), LINE_BYTES):
            while len(self._waiting) >= WINDOW and not self._is_over:
                await self._changed.wait()
            if self._is_over:
                raise BrokenPipeError(32, "the console is closed")
            self._next += 1
            self._waiting.append(LinkSegment(self._next, data[start : start + LINE_BYTES]))
            self._write(self._waiting[-1])

    async def run(self) -> None:
        """Repeat lines that are not acknowledged in time."""
        while not self._is_over:
            before = self._waiting[0].sequence if self._waiting else 0
            await anyio.sleep(self._repeat_s)
            if before and self._waiting and self._waiting[0].sequence == before:
                for segment in self._waiting:
                    self._write(segment)

    def _decode(self, line: bytes) -> tuple[int, int, bytes] | None:
        """Decode a line of this agent, or of one that was started after it."""
        if LINE_WORD not in line:
            return None
        for start in range(self._start, min(self._start + 2, MAX_STARTS)):
            if decoded := decode_line(key_of(self._nonce, start), b"g", line):
                self._restart(start)
                return decoded
        return None

    def _restart(self, start: int) -> None:
        if start == self._start:
            return
        self._start, self._key = start, key_of(self._nonce, start)
        self._next = self._taken = 0
        self._waiting.clear()

    def _take(self, line: bytes) -> None:
        decoded = self._decode(line)
        if decoded is None:
            return
        sequence, acknowledged, data = decoded
        while self._waiting and self._waiting[0].sequence <= acknowledged:
            self._waiting.popleft()
        if sequence:
            if sequence == self._taken + 1:
                self._taken = sequence
                self._received.append(data)
            self._write(LinkSegment(0, b""))
        self._changed.set()

    def _write(self, segment: LinkSegment) -> None:
        self._type(encode_line(self._key, b"h", segment.sequence, self._taken, segment.data))

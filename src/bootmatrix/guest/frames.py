"""Frames of the agent's channel (docs/agent.md), untrusted. Pure."""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TypeVar

Kind = TypeVar("Kind", bound=Enum)
HEADER = struct.Struct(">IIB")
"""Length of the payload, number of the channel, type."""
PAYLOAD_BYTES = 64 << 10
HELLO = struct.Struct(">II16s")
"""Version, window in bytes, and the mark that the host's first bytes repeat."""
CREDIT = struct.Struct(">BI")
EXIT = struct.Struct(">BI")
SIGNAL = struct.Struct(">I")
SIZE = struct.Struct(">II")
"""Rows and columns of a terminal."""
VERSION = 1


class FrameType(IntEnum):
    """Types of frames; the C side has them in frames.h."""

    HELLO = 1
    PART = 2
    OPEN = 3
    DATA = 4
    END = 5
    CREDIT = 6
    SIGNAL = 7
    RESIZE = 8
    CLOSE = 9
    EXIT = 10
    SHUTDOWN = 11


class StreamNumber(IntEnum):
    """Streams of a command."""

    IN = 0
    OUT = 1
    ERR = 2


class ExitKind(IntEnum):
    """Ends of a command: its status, a signal, or a fault that kept it from running."""

    STATUS = 1
    SIGNAL = 2
    FAULT = 3


class AgentFault(Exception):
    """Bytes of the agent that break the protocol."""


@dataclass(frozen=True)
class Frame:
    """One frame."""

    type: FrameType
    channel: int
    payload: bytes = b""

    def encoded(self) -> bytes:
        """Return the frame as it is sent."""
        return HEADER.pack(len(self.payload), self.channel, self.type) + self.payload


def greeting_token(nonce: str) -> bytes:
    """Derive what precedes an agent's greeting from the boot's secret."""
    return hmac.new(nonce.encode("ascii"), b"agent", hashlib.sha256).digest()


class FrameReader:
    """Frames out of a stream of bytes.

    They begin behind the `token`, and again behind each further one: what is before it, such as half a frame of an
    agent that was killed, belongs to none.
    """

    def __init__(self, token: bytes = b"") -> None:
        self._token = token
        self._buffer = bytearray()
        self._has_begun = not token

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that these bytes complete. Raises AgentFault."""
        self._buffer += data
        if not self._is_synchronous():
            return
        position = 0
        try:
            while len(self._buffer) - position >= HEADER.size:
                length, channel, number = HEADER.unpack_from(self._buffer, position)
                if length > PAYLOAD_BYTES:
                    raise AgentFault(f"a frame of {length} bytes")
                if len(self._buffer) - position - HEADER.size < length:
                    return
                start = position + HEADER.size
                position = start + length
                yield Frame(kind_of(FrameType, number, "a frame of type"), channel, bytes(self._buffer[start:position]))
        finally:
            del self._buffer[:position]

    def _is_synchronous(self) -> bool:
        """Drop what is before the last token.

        Return whether there was one, now or before.
        """
        at = self._buffer.rfind(self._token) if self._token else -1
        if at >= 0:
            self._has_begun = True
            del self._buffer[: at + len(self._token)]
        elif not self._has_begun:
            del self._buffer[: 1 - len(self._token)]
        return self._has_begun


def kind_of(kinds: type[Kind], number: object, what: str) -> Kind:
    """Return the kind of a number. Raises AgentFault if it has none."""
    try:
        return kinds(number)
    except ValueError:
        raise AgentFault(f"{what} {number!r}") from None


def unpack(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    """Unpack a payload of exactly this layout. Raises AgentFault if not."""
    if len(payload) != layout.size:
        raise AgentFault(f"a payload of {len(payload)} bytes, expected {layout.size}")
    return layout.unpack(payload)

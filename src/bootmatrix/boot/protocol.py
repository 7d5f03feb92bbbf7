"""The guest protocol (docs/guest-protocol.md), parsed from untrusted bytes. Pure."""

import hashlib
import hmac
import re
from collections.abc import Iterator

from bootmatrix.model import GuestMessage

HELLO = (b"bootmatrix hello 1", b"bootmatrix hello 2")
"""One for each version of the protocol. The image's label, not this, decides what an init reports."""
MAC_DIGITS = 16
MAX_LINE_BYTES = 1 << 20
"""The longest message is a `tap`, whose guest limits it far below this."""
MAX_MESSAGES = 5_000
"""Limit of messages; a sound guest sends two for each container."""
MAX_RESULT_BYTES = 32 << 20
"""Limit of all messages together, apart from result files; a sound guest sends far less."""
FILE_BYTES, MAX_FILES = 768 << 10, 256
"""More for each result file, of which a guest sends half a mebibyte at most, in base64."""

MESSAGE = re.compile(rb"bootmatrix ([1-9][0-9]{0,8}) ([0-9a-f]{16}|-) ([!-~]+(?: [!-~]+)*)$")
LOOKS_LIKE_ONE = re.compile(rb"bootmatrix [0-9]+ [0-9a-f]{16} ")
UNSIGNED = b"-"
"""Replaces the MAC on a port that only init can open: the last message signs a digest of all before it."""
PRINTK = re.compile(rb"\[ *[0-9]+\.[0-9]{6}\](?:\[[^\]\n]{1,24}\])? ")
"""Start of a kernel line: seconds since its start, and perhaps the caller (`[   T1]`)."""


def sign(nonce: str, sequence: int, text: str) -> str:
    """The MAC of a message: its part after the MAC is `text`."""
    return hashlib.sha256(f"{nonce} {sequence} {text}\n".encode("ascii")).hexdigest()[:MAC_DIGITS]


class Conversation:
    """Parse the result channel into authentic messages, and produce replies.

    `noisy` is for a console, where messages are mixed with other output and the kernel may write into the middle of
    one. `files` is the number of result files that the guest may send. `fault` is the first fault of the sequence, else
    empty; `rejected` counts lines with a wrong signature. Messages after a fault are kept as evidence; they prove
    nothing.
    """

    def __init__(self, nonce: str, noisy: bool = False, files: int = 0) -> None:
        self.fault = ""
        self.rejected = 0
        self.greeted = False
        self.ended = False
        self.flooded = False
        self._nonce = nonce
        self._noisy = noisy
        self._limit_bytes = MAX_RESULT_BYTES + min(files, MAX_FILES) * FILE_BYTES
        self._answered = False
        self._last = 0
        self._count = 0
        self._received_bytes = 0
        self._digest = hashlib.sha256()
        self._line = bytearray()
        self._too_long = False
        self._torn = b""

    def feed(self, data: bytes, at_s: float) -> list[GuestMessage]:
        """Messages completed by these bytes."""
        self._received_bytes += len(data)
        if not self._noisy and self._received_bytes > self._limit_bytes:
            self._flood(f"more than {self._limit_bytes} bytes")
        if self.flooded:
            return []
        return [message for line in self._lines(data) for message in self._read(line, at_s)]

    def take_reply(self) -> bytes:
        """Return the next reply: the nonce, once, after the first greeting."""
        if not self.greeted or self._answered:
            return b""
        self._answered = True
        return f"{self._nonce}\n".encode("ascii")

    def _lines(self, data: bytes) -> Iterator[bytes]:
        *ends, rest = data.split(b"\n")
        for end in ends:
            if not (end or self._line or self._torn or self._too_long):
                continue  # empty lines are cheap to send, and say nothing
            self._append(end)
            line, too_long = bytes(self._line), self._too_long
            self._line.clear()
            self._too_long = False
            if too_long:
                self.rejected += 1
            else:
                yield line.rstrip(b"\r")
        self._append(rest)

    def _append(self, part: bytes) -> None:
        if len(self._line) + len(part) > MAX_LINE_BYTES:
            self._line.clear()
            self._too_long = True
        if not self._too_long:
            self._line += part

    def _read(self, line: bytes, at_s: float) -> Iterator[GuestMessage]:
        whole = self._mend(line) if self._noisy else line
        if whole is None:
            return
        for candidate in dict.fromkeys((whole, line)):
            match = MESSAGE.search(candidate) if self._noisy else MESSAGE.fullmatch(candidate)
            if match and self._is_authentic(match):
                if int(match[1]) > self._last:
                    yield self._accept(match, at_s)
                return  # init says everything twice on a console, so that one of the two comes through
        self._other(whole)

    def _mend(self, line: bytes) -> bytes | None:
        """Return a line without kernel text inside it; None if its rest is still to come.

        The kernel's text ends with its own line end, after which the torn line continues.
        """
        intruder = PRINTK.search(line)
        if intruder is None:
            # The line end of a terminal is two bytes, and the kernel may write between these too.
            whole, self._torn = (self._torn + line).rstrip(b"\r"), b""
            return whole
        self._torn = (self._torn + line[: intruder.start()])[-MAX_LINE_BYTES:]
        return None

    def _is_authentic(self, match: re.Match[bytes]) -> bool:
        if match[2] == UNSIGNED:
            return self.greeted and not self._noisy and not match[3].startswith(b"end ")
        expected = sign(self._nonce, int(match[1]), match[3].decode("ascii"))
        return self.greeted and hmac.compare_digest(expected.encode("ascii"), match[2])

    def _accept(self, match: re.Match[bytes], at_s: float) -> GuestMessage:
        sequence = int(match[1])
        kind, *words = match[3].decode("ascii").split(" ")
        self._check_sequence(sequence)
        self._check_end(kind, words)
        self._digest.update(match[0] + b"\n")
        self._last = sequence
        self._count += 1
        if self._count > MAX_MESSAGES:
            self._flood(f"more than {MAX_MESSAGES} messages")
        return GuestMessage(kind=kind, words=tuple(words), at_s=at_s, sequence=sequence)

    def _check_sequence(self, sequence: int) -> None:
        if self.ended:
            self._blame(f"message {sequence} came after the end")
        elif sequence != self._last + 1:
            self._blame(f"message {sequence} came after message {self._last}: {sequence - self._last - 1} were lost")

    def _check_end(self, kind: str, words: list[str]) -> None:
        if kind != "end":
            return
        self.ended = True
        if len(words) != 2 or not hmac.compare_digest(words[1], self._digest.hexdigest()):
            self._blame("the digest in the end message is not that of the messages received")

    def _other(self, line: bytes) -> None:
        if line.endswith(HELLO) if self._noisy else line in HELLO:
            self.greeted = True
        elif LOOKS_LIKE_ONE.search(line) or (line and not self._noisy):
            self.rejected += 1

    def _blame(self, fault: str) -> None:
        self.fault = self.fault or fault

    def _flood(self, fault: str) -> None:
        self._blame(f"the result channel is flooded: {fault}")
        self.flooded = True

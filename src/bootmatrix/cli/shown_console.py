"""A guest's console as people read it, without lines of the protocols.

Boards without a port for it have messages of the guest protocol and the agent's lines on their console.
"""

import re

from bootmatrix.boot.protocol import HELLO, MESSAGE
from bootmatrix.guest.console_link import PATTERN

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class ShownConsole:
    """Leaves out whole lines of protocols; one that the kernel wrote into stays."""

    def __init__(self) -> None:
        self._blank = b""

    def feed(self, data: bytes) -> bytes:
        """Return what to show of further lines; an empty last one is kept.

        >>> ShownConsole().feed(b"a\\n\\nbootmatrix-agent 0123456789abcdef 0 2 \\nbootmatrix hello 2\\nb\\n")
        b'a\\nb\\n'
        """
        shown = list[bytes]()
        for line in _LINE.findall(data):
            text = line.rstrip(b"\r\n")
            if PATTERN.match(text):
                self._blank = b""  # the agent begins a line of its own
            elif text not in HELLO and not MESSAGE.match(text):
                blank, self._blank = (self._blank, line) if not text else (self._blank + line, b"")
                shown.append(blank)
        return b"".join(shown)

    def rest(self) -> bytes:
        """Return the empty line that was kept."""
        blank, self._blank = self._blank, b""
        return blank

"""Functions and source lines of a kernel's addresses. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

SYMBOL = re.compile(rb"^([0-9a-f]{8,16}) ([A-Za-z]) ([^\s\[]{1,200})", re.MULTILINE)
CODE = b"tTwW"
LAST = ("_end", "__bss_stop")
ENDS_OF_CODE = ("_etext", "_einittext")
"""Behind them is data, up to the next section of code."""
PLACE = re.compile(r"([\w.$]{1,200})\+0x([0-9a-f]{1,8})/0x[0-9a-f]{1,8}(?! \[)")
"""A function and an offset as kernels print them; those of modules have the module's name behind it."""
COUNTER = re.compile(r"\b(?:RIP|EIP|pc|PC|NIP|epc|ERA|PSW)\b")
"""The line of a trace with the program counter. Other lines have return addresses, behind the call."""


def no_line(_address: int) -> str:
    """Return an empty source line for any address."""
    return ""


class Symbols:
    """Functions of a kernel by address.

    `line` returns the source line of an address, or nothing.
    """

    def __init__(self, rows: Iterable[tuple[int, str]], end: int = 0, line: Callable[[int], str] = no_line) -> None:
        ordered = sorted(set(rows))
        self._addresses = [address for address, _ in ordered]
        self._names = [name for _, name in ordered]
        self._ends_of_code = {address for address, name in ordered if name in ENDS_OF_CODE}
        self._end = end or (self._addresses[-1] + 1 if ordered else 0)
        self._line = line

    @classmethod
    def of_map(cls, text: bytes, line: Callable[[int], str] = no_line) -> Symbols:
        """Read a System.map."""
        rows = [(int(match[1], 16), match[2], match[3].decode("ascii", "replace")) for match in SYMBOL.finditer(text)]
        end = max((address for address, _, name in rows if name in LAST), default=0)
        return cls(((address, name) for address, kind, name in rows if kind in CODE), end, line)

    def name(self, address: int) -> str:
        """Return `function+0x12 (lib/x.c:27)`; empty outside of the kernel's code."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0 or address >= self._end or self._addresses[index] in self._ends_of_code:
            return ""
        line = self._line(address)
        return f"{self._names[index]}+{address - self._addresses[index]:#x}{f' ({line})' if line else ''}"

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        addresses: dict[str, list[int]] = {}
        for address, name in zip(self._addresses, self._names, strict=True):
            addresses.setdefault(name, []).append(address)
        return addresses

    def lines_of(self, trace: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield `function+0x12/0x30` and its source line, where a trace has one."""
        for text in trace:
            for match in PLACE.finditer(text):
                addresses = self._by_name.get(match[1], [])
                if len(addresses) != 1:
                    continue  # not this kernel's, or several functions have the name
                before = 0 if COUNTER.search(text) or match[2] == "0" else 1
                if line := self._line(addresses[0] + int(match[2], 16) - before):
                    yield match[0], line

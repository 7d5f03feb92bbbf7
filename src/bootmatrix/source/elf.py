"""Headers of programs: architecture, loader and libraries (elf(5))."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO, cast

MAGIC = b"\x7fELF"
HEADER_BYTES = 20
"""The part of a header that names class, byte order and machine."""
MAX_LIBRARIES = 1000
MAX_READ_BYTES = 32 << 20
"""Limit of what is read of headers and names. A hostile table has no end, and its names may share one long text."""


@dataclass(frozen=True)
class Program:
    """A program's header; `interpreter` is its loader, empty if static."""

    architecture: str
    interpreter: str = ""
    libraries: tuple[str, ...] = ()


def is_program(data: bytes) -> bool:
    """Return whether a file begins like a program."""
    return data[:4] == MAGIC and len(data) >= HEADER_BYTES


def describe(data: bytes) -> str:
    """Describe a program's architecture: `64-bit big-endian …`."""
    from elftools.elf.enums import ENUM_E_MACHINE  # slow import

    names = {number: name for name, number in ENUM_E_MACHINE.items() if isinstance(number, int)}
    order = "big" if data[5:6] == b"\2" else "little"
    number = int.from_bytes(data[18:20], "big" if order == "big" else "little")
    bits = {1: "32-bit", 2: "64-bit"}.get(data[4], "of unknown width")
    return f"{bits} {order}-endian {names.get(number, f'machine {number}').removeprefix('EM_')}"


class _BoundedFile:
    """A file for the library, which sets no limits itself."""

    def __init__(self, file: BinaryIO) -> None:
        self._left, self.seek, self.tell = MAX_READ_BYTES, file.seek, file.tell
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Read bytes. Raises ValueError beyond the limit."""
        data = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"more than {MAX_READ_BYTES >> 20} MiB of headers and names")
        return data


def read_program(file: BinaryIO) -> Program | None:
    """Read a program's header and dynamic section; None if damaged."""
    from elftools.elf.elffile import ELFFile  # slow import

    start = file.read(HEADER_BYTES)
    if not is_program(start):
        return None
    file.seek(0)
    try:
        elf = ELFFile(cast("BinaryIO", _BoundedFile(file)))
        interpreter = next((segment.get_interp_name() for segment in _segments(elf, "PT_INTERP")), "")
        dynamic = (tag for segment in _segments(elf, "PT_DYNAMIC") for tag in segment.iter_tags("DT_NEEDED"))
        libraries = [str(tag.needed) for tag in islice(dynamic, MAX_LIBRARIES)]
    except Exception:  # a hostile header makes it raise nearly anything
        return None
    return Program(describe(start), str(interpreter), tuple(libraries))


def loaded_bytes(file: BinaryIO) -> int | None:
    """Return the memory that a program's segments take; None for other files."""
    from elftools.elf.elffile import ELFFile  # slow import

    if not is_program(file.read(HEADER_BYTES)):
        return None
    file.seek(0)
    try:
        elf = ELFFile(cast("BinaryIO", _BoundedFile(file)))
        return sum(int(segment["p_memsz"]) for segment in _segments(elf, "PT_LOAD"))
    except Exception:  # as above
        return None


def section_of(data: bytes, name: str) -> bytes:
    """Return an ELF file's section as it is stored; empty without it, or if damaged."""
    from elftools.elf.elffile import ELFFile  # slow import

    try:
        section = ELFFile(cast("BinaryIO", _BoundedFile(BytesIO(data)))).get_section_by_name(name)
    except Exception:  # as above
        return b""
    return data[section["sh_offset"] :][: section["sh_size"]] if section else b""


def _segments(elf: Any, kind: str) -> Iterator[Any]:
    """Yield the segments of a type; the library's own types do not say what each has."""
    yield from elf.iter_segments(kind)

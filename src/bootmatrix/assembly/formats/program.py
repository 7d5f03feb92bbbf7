"""Self-contained UEFI programs: systemd-stub(7) with one section per part.

Sections are appended to a PE file by its specification; available PE libraries do not stream them.
"""

import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bootmatrix.assembly.formats.source import Source
from bootmatrix.errors import BuildError
from bootmatrix.store import COPY_BYTES

LIMIT_BYTES = (4 << 30) - 1
"""Limit of a file on FAT, and of sizes in the header of a PE program."""
SECTION = struct.Struct("<8s6I2HI")
"""Name, size and address in memory, size and place in the file, four fields for object files, characteristics."""
WORD = struct.Struct("<I")
IS_DATA = 0x40000040
"""IMAGE_SCN_CNT_INITIALIZED_DATA and IMAGE_SCN_MEM_READ."""
PE_AT, MZ = 0x3C, b"MZ"
OPTIONAL_AT = 24
"""Offset of the optional header from the PE signature. The next ones are offsets in it."""
SECTION_ALIGNMENT, FILE_ALIGNMENT, IMAGE_SIZE, HEADERS_SIZE = 32, 36, 56, 60


def write_program(source: Source, stub: Path, path: Path, room_bytes: int = 0) -> None:
    """Combine stub, kernel, initrd and command line, with memory reserved.

    Raises BuildError if the kernel is not a UEFI program.
    """
    place, size = _image_size(source)
    parts = {".cmdline": source.cmdline_file(), ".linux": source.kernel_program(), ".initrd": source.initrd()}
    sizes = {name: file.stat().st_size for name, file in parts.items()}
    if sum(sizes.values()) >= LIMIT_BYTES:
        source.fits(source.initrd(), LIMIT_BYTES - sizes[".linux"] - (1 << 20), "the initrd of a program for UEFI")
    header = _Header(bytearray(stub.read_bytes()))
    with path.open("wb") as out:
        sections = dict(header.sections(sizes))
        out.write(header.data)
        for name, at in sections.items():
            out.seek(at)
            with parts[name].open("rb") as file:
                shutil.copyfileobj(file, out, COPY_BYTES)
        out.truncate(header.end)
        out.seek(sections[".linux"] + place)
        out.write(WORD.pack(min(size + room_bytes, LIMIT_BYTES)))


def _image_size(source: Source) -> tuple[int, int]:
    """Return the offset of the kernel's memory size in its header, and its value.

    Raises BuildError if the kernel is not a UEFI program.
    """
    with source.kernel_program().open("rb") as file:
        if file.read(len(MZ)) == MZ:
            start = _word_at(file, PE_AT)
            place = start + OPTIONAL_AT + IMAGE_SIZE
            size = _word_at(file, place)
            if size:
                return place, size
    raise BuildError(
        f"the kernel {source.assembly.kernel.name} is not a UEFI program: it lacks CONFIG_EFI_STUB",
        "Build the format kernel+initrd, or choose another kernel.",
    )


def _word_at(file: BinaryIO, place: int) -> int:
    """Return the word at an offset; 0 beyond the end of the file."""
    file.seek(place)
    data = file.read(WORD.size)
    return WORD.unpack(data)[0] if len(data) == WORD.size else 0


@dataclass
class _Header:
    """A PE file whose header gets more sections. `end` is the file's end so far."""

    data: bytearray
    end: int = 0

    def sections(self, sizes: dict[str, int]) -> Iterator[tuple[str, int]]:
        """Add sections of these sizes; return their offsets in the file."""
        start = self._word(PE_AT)
        count, optional_size = (struct.unpack_from("<H", self.data, start + at)[0] for at in (6, 20))
        optional, table = start + OPTIONAL_AT, start + OPTIONAL_AT + optional_size
        memory, place = self._word(optional + SECTION_ALIGNMENT), self._word(optional + FILE_ALIGNMENT)
        if table + (count + len(sizes)) * SECTION.size > self._word(optional + HEADERS_SIZE):
            raise BuildError("the stub for UEFI has no room for further sections")
        last = SECTION.unpack_from(self.data, table + (count - 1) * SECTION.size)
        address, self.end = _up(last[2] + last[1], memory), _up(len(self.data), place)
        for number, (name, size) in enumerate(sizes.items(), start=count):
            padded = _up(size, place)
            entry = (name.encode(), size, address, padded, self.end, 0, 0, 0, 0, IS_DATA)
            SECTION.pack_into(self.data, table + number * SECTION.size, *entry)
            yield name, self.end
            address, self.end = _up(address + size, memory), self.end + padded
        struct.pack_into("<H", self.data, start + 6, count + len(sizes))
        struct.pack_into("<I", self.data, optional + IMAGE_SIZE, address)

    def _word(self, at: int) -> int:
        value: int = WORD.unpack_from(self.data, at)[0]
        return value


def _up(value: int, step: int) -> int:
    return -(-value // step) * step

"""Symbols of a kernel: System.map, and vmlinux with its debugging information."""

import mmap
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from bootmatrix.console.symbols import Symbols
from bootmatrix.fsio import open_plain

MAP, VMLINUX = "System.map", "vmlinux"
DEBUG = Path("/usr/lib/debug")
"""Folder of the vmlinux of each release, from packages with debugging information (-dbg, -debuginfo)."""
MAX_MAP_BYTES = 64 << 20
MAX_VMLINUX_BYTES = 2 << 30
"""Of a file with debugging information, several hundred MiB otherwise; a larger one is not read."""
ABOVE = 4
"""Folders above a kernel's file in which its tree may begin: arch/*/boot/compressed."""


def find_symbols(sources: Iterable[Path], release: str, banner: bytes) -> Symbols | None:
    """Find a kernel's symbols in its build tree or an installed -dbg package.

    `sources` are trees, or files in them. `banner` is the first line that the kernel printed, from `Linux version` on:
    a vmlinux without it is another kernel's.
    """
    for symbol_map, vmlinux in symbol_files(sources, release):
        with suppress(OSError):
            lines = SourceLines(vmlinux) if _contains(vmlinux, banner) else None
            if lines is None and (vmlinux.exists() or DEBUG in vmlinux.parents):
                continue
            if symbol_map.is_file():
                with open_plain(symbol_map, MAX_MAP_BYTES) as file:
                    return Symbols.of_map(file.read(), *([lines] if lines else []))
            if lines:
                return Symbols(lines.functions(), line=lines)
    return None


def symbol_files(sources: Iterable[Path], release: str) -> Iterator[tuple[Path, Path]]:
    """Yield pairs of a System.map and a vmlinux, of which one may be missing."""
    for source in sources:
        folders = [source] if source.is_dir() else [*source.parents][:ABOVE]
        pairs = ((folder / MAP, folder / VMLINUX) for folder in folders)
        yield from (pair for pair in pairs if any(file.is_file() for file in pair))
    if release and "/" not in release:
        yield DEBUG / f"boot/{MAP}-{release}", DEBUG / f"boot/{VMLINUX}-{release}"
        yield DEBUG / f"lib/modules/{release}/{MAP}", DEBUG / f"lib/modules/{release}/{VMLINUX}"


def _contains(path: Path, banner: bytes) -> bool:
    if not banner or not path.is_file() or not 0 < path.stat().st_size <= MAX_VMLINUX_BYTES:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(banner) >= 0


class SourceLines:
    """The source lines of a vmlinux with DWARF.

    Called with an address, it returns `lib/x.c:27`, or nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._units: dict[int, list[tuple[int, str]]] = {}

    def __call__(self, address: int) -> str:
        """Return the line of an address; empty if unknown or damaged."""
        try:
            unit = self._ranges.cu_offset_at_addr(address) if self._ranges else None
            if unit is None:
                return ""
            if unit not in self._units:
                self._units[unit] = sorted(self._lines(unit))
            rows = self._units[unit]
            index = bisect_right(rows, (address, "\U0010ffff")) - 1
            return rows[index][1] if index >= 0 else ""
        except Exception:  # hostile information makes it raise nearly anything
            return ""

    def functions(self) -> list[tuple[int, str]]:
        """Read the functions of the table of symbols."""
        try:
            table = self._elf.get_section_by_name(".symtab")
            symbols = table.iter_symbols() if table else ()
            return [(symbol["st_value"], symbol.name) for symbol in symbols if symbol["st_info"]["type"] == "STT_FUNC"]
        except Exception:  # as above
            return []

    @cached_property
    def _elf(self) -> Any:
        from elftools.elf.elffile import ELFFile  # slow import

        return ELFFile(self._path.open("rb"))

    @cached_property
    def _dwarf(self) -> Any:
        return self._elf.get_dwarf_info() if self._elf.has_dwarf_info() else None

    @cached_property
    def _ranges(self) -> Any:
        return self._dwarf.get_aranges() if self._dwarf else None

    def _lines(self, unit: int) -> Iterator[tuple[int, str]]:
        """Yield a unit's addresses at which a line begins."""
        cu = self._dwarf.get_CU_at(unit)
        folder = cu.get_top_DIE().attributes.get("DW_AT_comp_dir")
        built = Path(str(folder.value, "utf-8", "replace")) if folder else Path()
        roots = (built, (self._path.parent / "source").resolve(), *built.parents)
        program = self._dwarf.line_program_for_CU(cu)
        for entry in program.get_entries():
            if state := entry.state:
                line = "" if state.end_sequence else f"{_file(program, state.file, roots)}:{state.line}"
                yield state.address, line


def _file(program: Any, number: int, roots: Iterable[Path]) -> str:
    """Return the path of a file of a line program, from the root of the sources on.

    `roots` are the folder of the build, the sources of a build elsewhere, and folders above, in which both may be.
    """
    header = program.header
    first = 0 if header.version >= 5 else 1  # where DWARF begins to count files, and its folders
    entry = header.file_entry[number - first]
    path = Path(str(entry.name, "utf-8", "replace"))
    if entry.dir_index >= first:
        path = Path(str(header.include_directory[entry.dir_index - first], "utf-8", "replace")) / path
    root = next((root for root in roots if path.is_absolute() and path.is_relative_to(root)), None)
    return str(path.relative_to(root) if root else path)

"""Modules of a kernel: their names and needs, and a file of all of them."""

import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath

import zstandard

from bootmatrix.errors import BuildError
from bootmatrix.model.base import Model
from bootmatrix.source.elf import section_of
from bootmatrix.store import Writer

MODULE_LIMIT_BYTES = 64 << 20
MODINFO_LIMIT_BYTES = 4 << 20
NAMES_LIMIT_BYTES, NAME_BYTES = 64 << 20, 60
"""Limit of all names that a kernel's modules refer to, which are held in memory, and what each takes beside its text.
Likewise of modules.dep, which names all that each needs."""
XZ_MEMORY_BYTES = 128 << 20
"""xz -9 needs 65 MiB; headers that request gibibytes are refused."""
PACKED = (".gz", ".xz", ".zst")
PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Module(Model):
    """A kernel module: path in the guest, slice of the blob, dependencies.

    The path is below /usr: /lib may be a link, which the kernel would replace by a folder. `wants` are modules or
    aliases that it uses if they are there, such as ext4 does `crc32c`.
    """

    path: str
    offset: int
    size: int
    needs: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def is_module(name: str) -> bool:
    """Return whether a file name is a module's."""
    return name.endswith((".ko", *(f".ko{suffix}" for suffix in PACKED)))


def module_name(path: str) -> str:
    """Return a module's name as in the kernel: no folder or suffix, `_` for `-`."""
    return PurePosixPath(path).name.split(".")[0].replace("-", "_")


@dataclass
class ModulePack:
    """A kernel's modules by name; a file has their contents one after the other."""

    file: Writer
    modules: dict[str, Module] = field(default_factory=dict)
    _names_bytes: int = 0

    def add(self, path: str, data: bytes) -> None:
        """Add a module.

        Raises BuildError if it is damaged or too large, or modules refer to more names than any kernel's.
        """
        module, frame = pack_module(path, data, self.file.tell())
        self._names_bytes += sum(NAME_BYTES + len(name) for name in chain(module.needs, module.wants, module.aliases))
        if self._names_bytes > NAMES_LIMIT_BYTES:
            raise BuildError("its modules name more other modules than any kernel's")
        self.file.write(frame)
        self.modules[module_name(path)] = module


def pack_module(path: str, data: bytes, offset: int) -> tuple[Module, bytes]:
    """Return a module for this offset of the blob, and its frame.

    Raises BuildError if the module is damaged, or too large.
    """
    plain = _uncompressed(path, data)
    frame = zstandard.ZstdCompressor(level=1).compress(plain)
    where = "usr/" + re.sub(r"\.(gz|xz|zst)$", "", path.removeprefix("usr/"))
    information = section_of(plain, ".modinfo")
    if len(information) > MODINFO_LIMIT_BYTES:
        raise BuildError(f"the module {path} has {len(information)} bytes of .modinfo, more than any")
    return Module(path=where, offset=offset, size=len(frame), **_relations(information)), frame


def _uncompressed(path: str, data: bytes) -> bytes:
    """Return a module's ELF file."""
    try:
        plain, complete = _plain(path, data)
    except (lzma.LZMAError, zstandard.ZstdError, zlib.error) as error:
        raise BuildError(f"the module {path} is damaged: {error}") from error
    if not complete:
        raise BuildError(f"the module {path} is cut off, or has more than {MODULE_LIMIT_BYTES >> 20} MiB")
    return plain


def _plain(path: str, data: bytes) -> tuple[bytes, bool]:
    """Return an unpacked module, and whether it is complete."""
    if path.endswith(".gz"):
        gzip = zlib.decompressobj(31)  # 31: with gzip's header (zlib.h)
        return gzip.decompress(data, MODULE_LIMIT_BYTES), gzip.eof
    if path.endswith(".xz"):
        stream = lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES)
        return stream.decompress(data, MODULE_LIMIT_BYTES), stream.eof
    if path.endswith(".zst"):
        complete = zstandard.frame_content_size(data) <= MODULE_LIMIT_BYTES
        return zstandard.ZstdDecompressor().decompress(data, MODULE_LIMIT_BYTES) if complete else b"", complete
    return data, True


def _relations(information: bytes) -> dict[str, tuple[str, ...]]:
    """Read needs, wishes and aliases in .modinfo: NUL-terminated strings.

    Aliases of devices, which are patterns, are left out.
    """
    entries = re.findall(rb"(?:^|(?<=\0))(depends|softdep|alias)=([^\0]*)(?=\0)", information)
    lines = [(key.decode(), value.decode(errors="replace").replace("-", "_")) for key, value in entries]
    return {
        "needs": tuple({name: 0 for key, text in lines if key == "depends" for name in text.split(",") if name}),
        "wants": tuple({name: 0 for key, text in lines if key == "softdep" for name in _before(text.split())}),
        "aliases": tuple(sorted({text for key, text in lines if key == "alias" and PLAIN.fullmatch(text)})),
    }


def _before(words: Iterable[str]) -> Iterator[str]:
    """Yield the names behind `pre:` of a soft dependency (modprobe.d(5))."""
    is_before = False
    for word in words:
        if word.endswith(":"):
            is_before = word == "pre:"
        elif is_before:
            yield word

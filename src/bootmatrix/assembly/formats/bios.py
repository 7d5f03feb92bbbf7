"""CDs and disks for a BIOS: ISOLINUX, on a CD that is also a disk (isohybrid)."""

import shutil
from pathlib import Path

from bootmatrix.assembly.formats import Format
from bootmatrix.assembly.formats.media import MIB, pad, write_iso
from bootmatrix.assembly.formats.source import Source
from bootmatrix.assembly.formats.tools import versions
from bootmatrix.model import Bios

CONFIG = """DEFAULT linux
LABEL linux
  KERNEL /boot/kernel
  INITRD /boot/initrd.img
  APPEND {cmdline}
"""
ISO_LIMIT_BYTES = (4 << 30) - 1
"""Limit of a file on ISO 9660 in one extent; ISOLINUX supports no others."""
LOAD = ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4"]
"""ISOLINUX takes the first four sectors, and a table of where the rest is (-boot-info-table)."""


def iso(source: Source) -> Path:
    """Write a CD for a BIOS; it also starts from a disk."""
    bios = source.assembly.profile.bios
    assert bios
    return source.kept("iso-bios", lambda path: _write(source, bios, path), bios, *versions("xorriso"))


def disk(source: Source) -> Path:
    """Write the CD as a disk, padded to whole MiB."""

    def make(path: Path) -> None:
        shutil.copyfile(iso(source), path)
        pad(path, MIB)

    return source.kept("raw-bios", make, iso(source).name)


def _write(source: Source, bios: Bios, path: Path) -> None:
    content = path.with_name("content")
    source.fits(source.initrd(), ISO_LIMIT_BYTES, "an initrd on a CD")
    for folder in ("boot", "isolinux"):
        (content / folder).mkdir(parents=True)
    for name, file in {
        "boot/kernel": source.kernel_program(),
        "boot/initrd.img": source.initrd(),
        "isolinux/isolinux.bin": source.loader(bios.loader),
        "isolinux/ldlinux.c32": source.loader(bios.module),
    }.items():
        shutil.copyfile(file, content / name)
    (content / "isolinux/isolinux.cfg").write_text(CONFIG.format(cmdline=source.cmdline), encoding="utf-8")
    options: list[str | Path] = [*LOAD, "-boot-info-table", "-isohybrid-mbr", source.loader(bios.sector)]
    write_iso(content, path, options, source.id)


CD = Format("a CD for a BIOS", {".iso": iso}, "bios", "cd")
DISK = Format("a disk for a BIOS", {"-bios.img": disk}, "bios", "disk")

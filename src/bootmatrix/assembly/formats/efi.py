"""Disks and CDs for UEFI, with one program of kernel, initrd and command line."""

from pathlib import Path

from bootmatrix.assembly.formats import Format
from bootmatrix.assembly.formats.media import MIB, copy_sparse, stamp, write_iso
from bootmatrix.assembly.formats.program import LIMIT_BYTES, write_program
from bootmatrix.assembly.formats.source import Source
from bootmatrix.assembly.formats.tools import run, versions
from bootmatrix.model import Efi

FAT_SLACK_BYTES = 2 * MIB
FAT32_BYTES = 528 * MIB
"""From here on FAT32, with clusters of 8 sectors; below FAT16, which cannot be larger. UEFI reads both."""
PARTITION_AT_BYTES = MIB
END_BYTES = MIB
"""Room for the partition table's second copy at the end."""
SECTOR_BYTES = 512
FAT_TOOLS = ("mkfs.vfat", "mcopy")
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
"""Type of the partition on which UEFI looks for programs (UEFI 2.10, table 5.7)."""


def disk(source: Source) -> Path:
    """Write a disk with one partition that has the UEFI program."""
    return source.kept("raw-efi", lambda path: _write_disk(source, path), _of(source), *versions(*FAT_TOOLS, "sfdisk"))


def iso(source: Source) -> Path:
    """Write a CD with one boot image that has the UEFI program."""

    def make(path: Path) -> None:
        content = path.with_name("content")
        content.mkdir()
        _write_fat(source, content / "efi.img")
        write_iso(content, path, ["-e", "efi.img", "-no-emul-boot"], source.id)

    return source.kept("iso-efi", make, _of(source), *versions(*FAT_TOOLS, "xorriso"))


def _of(source: Source) -> Efi:
    efi = source.assembly.profile.efi
    assert efi
    return efi


def _write_disk(source: Source, path: Path) -> None:
    fat = path.with_name("fat")
    _write_fat(source, fat)
    size = fat.stat().st_size
    with path.open("wb") as file:
        file.truncate(PARTITION_AT_BYTES + size + END_BYTES)
        file.seek(PARTITION_AT_BYTES)
        copy_sparse(fat, file)
    partition = f"start={PARTITION_AT_BYTES // SECTOR_BYTES}, size={size // SECTOR_BYTES}, type={ESP}"
    table = f'label: gpt\nlabel-id: {source.uuid("disk")}\n{partition}, uuid={source.uuid("partition")}, name="EFI"\n'
    options = ["--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never"]
    run("sfdisk", [*options, path], lambda pipe: pipe.write(table.encode()))


def _write_fat(source: Source, path: Path) -> None:
    """Write a FAT file system with the program at UEFI's default path."""
    efi = _of(source)
    folder = path.with_name("efi")
    folder.mkdir()
    program = folder / efi.program
    write_program(source, source.loader(efi.stub), program, efi.room_kib << 10)
    size = source.fits(program, LIMIT_BYTES, "a program for UEFI")
    stamp(folder)
    total = -(-(size + size // 256 + FAT_SLACK_BYTES) // MIB) * MIB
    with path.open("wb") as file:
        file.truncate(total)
    kind = ["-F", "32", "-s", "8"] if total >= FAT32_BYTES else ["-F", "16"]
    run("mkfs.vfat", [*kind, "--invariant", "-n", "EFI", "-i", source.id[:8], path])
    run("mmd", ["-i", path, "::/EFI", "::/EFI/BOOT"])
    run("mcopy", ["-m", "-i", path, program, f"::/EFI/BOOT/{efi.program}"])
    program.unlink()
    folder.rmdir()


CD = Format("a CD for UEFI", {"-efi.iso": iso}, "efi", "cd")
CD_INITRD = Format("the same", {"-efi-initrd.iso": iso}, "efi", "cd")
DISK = Format("a disk for UEFI", {"-efi.img": disk}, "efi", "disk")

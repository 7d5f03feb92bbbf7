"""Tools of the field that boot the same kernel and the same root, where they are found through PATH."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zstandard

from benchmarks.guests import BenchmarkError, Ready, Sample, boot_by, our_words, package_kernel
from bootmatrix.cell.run import RunContext

SETTINGS = Path(__file__).with_name("common.toml")
PEER_LIMIT_S = 120.0
HEADER_BYTES = 110
"""Of an entry of a newc archive: six for its magic, then 13 numbers of eight hexadecimal digits, then its name."""
END = b"TRAILER!!!"
NUMBERS_A_PART = 1_000_000
"""More than a part of an initrd has files: their numbers must not meet when the parts become one archive."""
SHELL = (b"usr/bin/sh", b"busybox")
"""What a root needs beside what ours has, so that scripts of others run in it."""


@dataclass(frozen=True)
class Peers:
    """Commands by the peers' names; and those that are left out, with the reason. `fails` is why one may not end."""

    commands: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, str]
    fails: Mapping[str, str]


def settings() -> dict[str, Any]:
    """What common.toml says."""
    return tomllib.loads(SETTINGS.read_text(encoding="utf-8"))


def known_archs() -> set[str]:
    """Architectures for which there are settings that others have in common."""
    return settings().keys() - {"common", "peers"}


@contextmanager
def peers_of(ready: Ready, context: RunContext) -> Iterator[Peers]:
    """The peers' ways to boot a cell, for as long as the context lasts."""
    with TemporaryDirectory(prefix="bootmatrix-peers-") as folder:
        root = Path(folder, "root.cpio")
        root.write_bytes(in_one(Path(ready.bootable.initrd.path).read_bytes() if ready.bootable.initrd else b""))
        words = " ".join(our_words(ready))
        names = {
            "kernel": package_kernel(ready, context),
            "root": str(root),
            "shell": words.replace("bootmatrix.mode=manual", "bootmatrix.mode=shell"),
        }
        yield _peers(ready.cell.arch, names)


def _peers(arch: str, names: Mapping[str, str]) -> Peers:
    commands, left_out, fails = {}, {}, {}
    for name, peer in settings()["peers"].items():
        missing = next((program for program in peer["programs"] if not _which(program)), "")
        if missing:
            left_out[name] = f"{missing} is not installed"
        elif arch not in peer["devices"]:
            left_out[f"{name} on {arch}"] = "it has no such machine"
        else:
            device = peer["devices"][arch]
            commands[name] = tuple(word.format(device=device, **names) for word in peer["command"])
            fails[name] = peer.get("fails", "")
    return Peers(commands, left_out, fails)


def boot_by_peer(command: tuple[str, ...], ready: Ready) -> Sample:
    """A guest by a peer's command, which must end with status 0 too.

    Raises:
        BenchmarkError: it did not come to its proper end.
    """
    try:
        with TemporaryDirectory(prefix="bootmatrix-peer-") as folder:
            return boot_by(command, ready.cell.id, PEER_LIMIT_S, status=0, folder=Path(folder))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"{ready.cell.id} by {command[0]}: {error}") from error


def _which(program: str) -> bool:
    return any(os.access(Path(folder, program), os.X_OK) for folder in os.get_exec_path())


def in_one(initrd: bytes) -> bytes:
    """An initrd of ours, which the kernel unpacks part by part, as one archive that others unpack, with a shell."""
    entries = [entry for number, part in enumerate(_parts(initrd)) for entry in _entries(part, number * NUMBERS_A_PART)]
    return b"".join((*entries, _entry(*SHELL, mode=0o120777), _entry(END, b"", mode=0)))


def _parts(initrd: bytes) -> Iterator[bytes]:
    """Frames of zstd, with zeros between them."""
    while initrd:
        frame = zstandard.ZstdDecompressor().decompressobj()
        yield frame.decompress(initrd)
        initrd = frame.unused_data.lstrip(b"\0")


def _entries(part: bytes, first: int) -> Iterator[bytes]:
    """An archive's entries but for its end, their files' numbers raised."""
    at = 0
    while True:
        inode, size, name_bytes = (int(part[at + place : at + place + 8], 16) for place in (6, 54, 94))
        if part[at + HEADER_BYTES :].startswith(END):
            return
        end = _aligned(_aligned(at + HEADER_BYTES + name_bytes) + size)
        yield part[at : at + 6] + b"%08x" % (inode + first) + part[at + 14 : end]
        at = end


def _entry(name: bytes, target: bytes, mode: int) -> bytes:
    numbers = (0xFFFFFF, mode, 0, 0, 1, 0, len(target), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % number for number in numbers) + name
    header = header.ljust(_aligned(len(header) + 1), b"\0")
    return header + target.ljust(_aligned(len(target)), b"\0")


def _aligned(place: int) -> int:
    return place + -place % 4

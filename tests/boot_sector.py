"""Guests of one sector: a real QEMU whose guest prints a line, waits, prints another one, and powers off.

They cost next to nothing, for tests of everything around a guest.
"""

from __future__ import annotations

import struct
from pathlib import Path

PORT = 0x3F8
"""The first serial port of a PC."""
SLEEP = (0x604, 0x2000)
"""PM1a_CNT of QEMU's PCs after their BIOS, and SLP_EN: power off."""
TICKS_PER_S = 18.2
"""Interrupts of a PC's timer as its BIOS leaves it."""
PROOF = "all is well"
MACHINE = "x86_64/q35-bios"


def sector(seconds: float) -> bytes:
    """Return a boot sector, in 16-bit code that starts at 0x7C00."""
    ticks = round(seconds * TICKS_PER_S) + 1
    code = (
        b"\x31\xc0\x8e\xd8\xfb"  # xor ax, ax; mov ds, ax; sti
        + _print("begins\r\n")
        + b"\xb9"  # mov cx, ticks
        + struct.pack("<H", ticks)
        + b"\xf4\xe2\xfd"  # hlt; loop to it
        + _print(f"{PROOF}\r\n")
        + b"\xba"  # mov dx, port; mov ax, value; out dx, ax
        + struct.pack("<HBHB", SLEEP[0], 0xB8, SLEEP[1], 0xEF)
        + b"\xf4\xeb\xfd"  # hlt; jump to it
    )
    return code.ljust(510, b"\0") + b"\x55\xaa"


def _print(text: str) -> bytes:
    start = b"\xba" + struct.pack("<H", PORT)  # mov dx, port
    return start + b"".join(b"\xb0" + bytes([byte]) + b"\xee" for byte in text.encode())  # mov al, byte; out dx, al


def write_guest(folder: Path, name: str, seconds: float, size_bytes: int = 1 << 20) -> Path:
    """Write `NAME.guest.yml` and its disk; return the former."""
    (folder / f"{name}.img").write_bytes(sector(seconds).ljust(size_bytes, b"\0"))
    guest = folder / f"{name}.guest.yml"
    guest.write_text(f'disk: {name}.img\nconsole: "{PROOF}"\n')
    return guest

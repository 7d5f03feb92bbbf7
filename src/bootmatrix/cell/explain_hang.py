"""A second boot of a kernel that hangs, with words on its command line by which it tells where."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bootmatrix.boot.diagnosis import FOLDER, keep
from bootmatrix.boot.start import Start, start_cold
from bootmatrix.console.hang import Symbols, describe_hang
from bootmatrix.errors import BootmatrixError
from bootmatrix.fsio import open_plain, read_whole
from bootmatrix.model import AnyKernel, Bootable, CustomKernel, Outcome, Verdict
from bootmatrix.runs.run_store import CONSOLE_FILE

WORDS = "initcall_debug ignore_loglevel nokaslr"
"""Documentation/admin-guide/kernel-parameters.txt. Without nokaslr, System.map has other addresses."""
SYMBOLS_FILE = "System.map"
MAX_SYMBOLS_BYTES = 64 << 20
KEPT_BYTES = 64 << 10
"""Of the second boot's console."""


def is_unexplained(outcome: Outcome, verdict: Verdict) -> bool:
    """Return whether a guest hung before its init reported anything."""
    return verdict in {Verdict.HANG, Verdict.TIMEOUT} and outcome.ended_by == "host" and not outcome.messages


async def explained(outcome: Outcome, start: Start, bootable: Bootable, symbols: Symbols | None) -> Outcome:
    """Boot a guest that hangs again, and add what it tells to the diagnostics of its outcome."""
    words = bootable.model_copy(update={"cmdline": f"{bootable.cmdline} {WORDS}".strip()})
    with tempfile.TemporaryDirectory(prefix="explain-", dir=start.folder) as name:
        again = replace(start, folder=Path(name), dump=False)
        try:
            await start_cold(again, words)
        except (BootmatrixError, OSError):
            return outcome
        console = read_whole(again.folder / CONSOLE_FILE)
        registers = ""
        with suppress(OSError):
            registers = (again.folder / FOLDER / "registers.txt").read_text(encoding="utf-8", errors="replace")
    told = describe_hang(console, registers, symbols)
    text = f"{told}\n\nThe end of the console, with {WORDS}:\n\n".encode() + console[-KEPT_BYTES:]
    kept = keep(start.folder / FOLDER / "hang.txt", "hang", text)
    return outcome.model_copy(update={"diagnostics": (*outcome.diagnostics, kept.model_copy(update={"note": told}))})


def symbols_of(name: str, kernels: Mapping[str, AnyKernel]) -> Symbols | None:
    """Return the symbols of a kernel that comes from a folder with a System.map, such as a build tree."""
    kernel = kernels.get(name)
    for part in kernel.parts if isinstance(kernel, CustomKernel) else ():
        folder = Path(kernel.folder, part.path) if part.path and isinstance(kernel, CustomKernel) else None
        with suppress(OSError):
            if folder and folder.is_dir():
                with open_plain(folder / SYMBOLS_FILE, MAX_SYMBOLS_BYTES) as file:
                    return Symbols(file.read())
    return None

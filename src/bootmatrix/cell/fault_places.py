"""Places of faults: lines of traces, and a second boot that tells of a hang."""

import re
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from bootmatrix.boot.diagnosis import FOLDER, keep
from bootmatrix.boot.start import Start, start_cold
from bootmatrix.console.hang import describe_hang
from bootmatrix.console.symbols import Symbols
from bootmatrix.errors import BootmatrixError
from bootmatrix.fsio import read_whole
from bootmatrix.model import AnyKernel, Bootable, CustomKernel, Judgement, KernelFault, Outcome, Verdict
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.source.kernel_symbols import find_symbols

WORDS = "initcall_debug ignore_loglevel nokaslr"
"""Documentation/admin-guide/kernel-parameters.txt. Without nokaslr, System.map has other addresses."""
BANNER = re.compile(rb"Linux version [^\r\n]+")
MAX_LINES = 100
KEPT_BYTES = 64 << 10
"""Of the second boot's console."""


@dataclass(frozen=True)
class FaultPlaces:
    """The search for the places of a guest's faults in its kernel.

    `release` is the output of `uname -r`, empty if unknown. `on_second_boot` is called before a kernel that hangs is
    booted again; without it, none is.
    """

    kernel: AnyKernel | None = None
    release: str = ""
    on_second_boot: Callable[[], None] | None = None

    async def added_to(self, outcome: Outcome, judgement: Judgement, start: Start, bootable: Bootable) -> Outcome:
        """Add the places to the diagnostics of an outcome."""
        on_second_boot = self.on_second_boot if is_unexplained(outcome, judgement.verdict) else None
        if on_second_boot is None and not any(fault.trace for fault in judgement.kernel_faults):
            return outcome
        symbols = self.symbols(read_whole(start.folder / CONSOLE_FILE))
        if on_second_boot is None:
            return located(outcome, judgement.kernel_faults, start.folder, symbols)
        on_second_boot()
        return await explained(outcome, start, bootable, symbols)

    def symbols(self, console: bytes) -> Symbols | None:
        """Find a kernel's symbols: in its build tree, or a package for debugging."""
        custom = self.kernel if isinstance(self.kernel, CustomKernel) else None
        banner = BANNER.search(console)
        sources = (Path(custom.folder, part.path) for part in custom.parts if part.path) if custom else ()
        return find_symbols(sources, self.release, banner[0] if banner else b"")


def is_unexplained(outcome: Outcome, verdict: Verdict) -> bool:
    """Return whether a guest hung without a word of init or of the kernel."""
    answers = any(diagnostic.kind == "tasks" and diagnostic.file for diagnostic in outcome.diagnostics)
    is_told = bool(outcome.messages) and answers
    return verdict in {Verdict.HANG, Verdict.TIMEOUT} and outcome.ended_by == "host" and not is_told


async def explained(outcome: Outcome, start: Start, bootable: Bootable, symbols: Symbols | None) -> Outcome:
    """Boot a hanging guest again, and add the findings to its diagnostics."""
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
    place = describe_hang(console, registers, symbols)
    text = f"{place}\n\nThe end of the console, with {WORDS}:\n\n".encode() + console[-KEPT_BYTES:]
    kept = keep(start.folder / FOLDER / "hang.txt", "hang", text)
    return outcome.model_copy(update={"diagnostics": (*outcome.diagnostics, kept.model_copy(update={"note": place}))})


def located(outcome: Outcome, faults: Iterable[KernelFault], folder: Path, symbols: Symbols | None) -> Outcome:
    """Add the source lines of faults' traces to an outcome's diagnostics."""
    places = (place for fault in faults for place in symbols.lines_of(fault.trace)) if symbols else ()
    lines = dict(islice(places, MAX_LINES))
    if not lines:
        return outcome
    text = "".join(f"{place}:\n{line}\n\n" for place, line in lines.items())
    kept = keep(folder / FOLDER / "places.txt", "places", text.encode())
    return outcome.model_copy(update={"diagnostics": (*outcome.diagnostics, kept.model_copy(update={"lines": lines}))})

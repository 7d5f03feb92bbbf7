"""Printable page of a sign-off: HTML, and PDF by an installed browser."""

import os
import shlex
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.history.values import ChangeKind
from bootmatrix.model import Record, Verdict
from bootmatrix.report.headline import long_date
from bootmatrix.report.html import render_page
from bootmatrix.report.order import SYMBOLS, cell_time, kernels_of, remark
from bootmatrix.report.product import is_version, tested_images, version_changes
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.report.units import duration
from bootmatrix.signoff.content import Digest, SignOff, weaker_evidence
from bootmatrix.signoff.manifest import MANIFEST_FILE
from bootmatrix.store import temporary_folder

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
BROWSER_LIMIT_S = 90
MAX_DIGESTS = 60
"""Digests on two printed sheets; the attestation has all."""
MAX_PRODUCTS = 20
"""Products on the first sheet; the attestation has all."""


@dataclass(frozen=True)
class Tile:
    """A cell of the grid, in words."""

    verdict: str
    words: str
    time: str
    marks: str


@dataclass(frozen=True)
class SignoffRow:
    """A spec on a target, a tile or None per kernel."""

    spec: str
    target: str
    tiles: tuple[Tile | None, ...]


def render_signoff(signed: SignOff, options: str = "") -> bytes:
    """Return the document in UTF-8; `options` are of the command to verify it."""
    comparison = signed.comparison
    kernels = kernels_of(record.cell for record in signed.records)
    shown = {digest for product in signed.products[:MAX_PRODUCTS] for _, digest in product.digests}
    digests = [entry for entry in (*signed.subjects, *signed.others) if entry.sha256 not in shown]
    return render_page(
        "signoff.html.j2",
        ("signoff.css",),
        signed=signed,
        options=options,
        run=signed.run,
        sentence=sentence(signed),
        kernels=kernels,
        rows=_rows(signed, kernels),
        releases=dict(_releases(signed.records)),
        host=sanitize(", ".join(f"{name} {value}" for name, value in signed.run.host.items())),
        duration=duration(signed.run.wall_s),
        arguments=[
            (record.cell.id, one_line(shlex.join(record.cell.qemu_args)))
            for record in signed.records
            if record.cell.qemu_args
        ],
        weaker=weaker_evidence(signed.records),
        regressions=comparison.regressions if comparison else (),
        fixed=[change for change in comparison.changes if change.kind is ChangeKind.FIXED] if comparison else (),
        inputs=_inputs(signed),
        versions=version_changes(comparison, signed.records),
        products=signed.products[:MAX_PRODUCTS],
        more_products=max(len(signed.products) - MAX_PRODUCTS, 0),
        digests=[Digest(digest.kind, one_line(digest.name), digest.sha256) for digest in digests[:MAX_DIGESTS]],
        more_digests=max(len(digests) - MAX_DIGESTS, 0),
        manifest_file=MANIFEST_FILE,
        line=one_line,
        date=long_date,
    )


def sentence(signed: SignOff) -> str:
    """Summarise a sign-off: `38 of 40 cells passed. 2 … accepted: …`"""
    counts = Counter(record.verdict for record in signed.records)
    total, passed = len(signed.records), counts[Verdict.PASS]
    words = _passed_words(passed, total, signed)
    accepted = sum(not deviation.expected for deviation in signed.deviations)
    if accepted:
        words += f" {accepted} {'exception was' if accepted == 1 else 'exceptions were'} accepted: see below."
    if signed.skips:
        number = len(signed.skips)
        words += f" {number} more {'was' if number == 1 else 'were'} skipped: see below."
    if signed.comparison and signed.comparison.baseline:
        number = len(signed.comparison.regressions)
        regressions = f"{number or 'No'} {'regression' if number < 2 else 'regressions'}"
        words += f" {regressions} since {one_line(signed.comparison.baseline)}."
    else:
        words += " No earlier run to compare with." if signed.comparison else " Not compared with an earlier run."
    return words


def _passed_words(passed: int, total: int, signed: SignOff) -> str:
    """Count the passes, among the baseline's cells if some lack."""
    comparison = signed.comparison
    if comparison and signed.gone:
        known = set(comparison.baseline_cells)
        good = sum(record.verdict is Verdict.PASS and record.cell.id in known for record in signed.records)
        more = passed - good
        new = f" {more} new cell{'' if more == 1 else 's'} passed." if more else ""
        return f"Passed {good} of the {len(known)} cells of the baseline; {len(signed.gone)} not tested.{new}"
    if passed == total:
        return "The only cell passed." if total == 1 else f"All {total} cells passed."
    return f"{passed} of {total} cells passed."


def _rows(signed: SignOff, kernels: tuple[str, ...]) -> list[SignoffRow]:
    places: dict[tuple[str, str], dict[str, Tile]] = {}
    for record in signed.records:
        cell = record.cell
        places.setdefault((cell.spec_name, cell.target), {})[cell.kernel] = _tile(record, cell.id in signed.forked)
    return [SignoffRow(spec, target, tuple(map(tiles.get, kernels))) for (spec, target), tiles in places.items()]


def _tile(record: Record, forked: bool) -> Tile:
    weak = "weaker evidence" if record.judgement.is_weak else ""
    marks = ", ".join(word for word in (remark(record), "forked" if forked else "", weak) if word)
    words = f"{SYMBOLS[record.verdict]} {record.verdict}"
    return Tile(record.verdict.value, words, duration(cell_time(record)), marks)


def _releases(records: Iterable[Record]) -> Iterable[tuple[str, str]]:
    """Return the kernel release by target and kernel name."""
    for record in records:
        if record.kernel:
            yield f"{record.cell.target} {record.cell.kernel}", one_line(record.kernel.release)


def _inputs(signed: SignOff) -> list[str]:
    """List other inputs that changed since the baseline, once."""
    changes = signed.comparison.changes if signed.comparison else ()
    images = tested_images(signed.records)
    entries = (entry for change in changes for entry in change.inputs if not is_version(entry, images))
    return list(dict.fromkeys(one_line(str(entry)) for entry in entries))


def browser() -> str | None:
    """Find an installed browser that can print."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def print_pdf(page: Path, target: Path) -> str:
    """Print a page to PDF; return the failure. No browser remains."""
    program = browser()
    if program is None:
        return "no browser to make a PDF with (chromium)"
    with temporary_folder() as profile:
        command = [
            *(program, "--headless", "--disable-gpu", "--no-pdf-header-footer", "--no-first-run"),
            # The page contains no script and its policy forbids all; root cannot use the browser's sandbox.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            *("--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}"),
            *(f"--print-to-pdf={target.absolute()}", page.absolute().as_uri()),
        ]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            _, errors = child.communicate(timeout=BROWSER_LIMIT_S)
        except subprocess.TimeoutExpired:
            errors = b"timeout"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if target.is_file() and target.read_bytes().startswith(b"%PDF-"):
        return ""
    target.unlink(missing_ok=True)
    return f"{program} made no PDF: {one_line(errors.decode('utf-8', 'replace'))[-200:]}"

"""Results that containers printed or left in files, with what stands in the way of a pass, and what is worth a note."""

from __future__ import annotations

from typing import NamedTuple

from bootmatrix.model import SubResult
from bootmatrix.model.finding import Finding


class Printed(NamedTuple):
    """The results of one container's TAP or of one file. `notes` are sentences that change no verdict."""

    results: tuple[SubResult, ...] = ()
    complaints: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

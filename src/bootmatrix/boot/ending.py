"""The cause of a boot's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bootmatrix.model import Phase

EndedBy = Literal["guest", "host", "error"]


@dataclass(frozen=True)
class Ending:
    """The cause of a boot's end."""

    ended_by: EndedBy
    limit: str = ""
    phase: Phase | None = None
    host_error: str = ""
    is_panic: bool = False

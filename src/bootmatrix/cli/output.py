"""Output of commands: sanitized, also for the CI system that reads it."""

from __future__ import annotations

import sys
from typing import TextIO


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print sanitized lines; without lines, print nothing."""
    from bootmatrix.redact import redacted
    from bootmatrix.report.sanitize import disarmed, sanitize

    for line in lines:
        print(disarmed(sanitize(redacted(str(line)))), file=file or sys.stdout)

"""What commands print: only text that shows itself, also to the CI system that reads it."""

from __future__ import annotations

import sys
from typing import TextIO


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print lines, which may quote a file's name, a spec or a guest. Without a line, print nothing."""
    from bootmatrix.redact import redacted
    from bootmatrix.report.sanitize import disarmed, sanitize

    for line in lines:
        print(disarmed(sanitize(redacted(str(line)))), file=file or sys.stdout)

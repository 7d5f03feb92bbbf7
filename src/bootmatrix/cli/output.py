"""Output of commands: sanitized, also for the CI system that reads it."""

import json
import sys
from pathlib import Path
from typing import TextIO

from bootmatrix.redact import redacted
from bootmatrix.report.sanitize import disarmed, disarmed_json, sanitize

STDOUT = Path("-")
"""Name of an output that means the standard output."""


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print sanitized lines; without lines, print nothing."""
    for line in lines:
        print(disarmed(sanitize(redacted(str(line)))), file=file or sys.stdout)


def complain(text: object) -> None:
    """Print a sanitized message on stderr."""
    say(text, file=sys.stderr)


def write_console(data: bytes) -> None:
    """Write a guest's console output at once, sanitized."""
    sys.stdout.write(disarmed(sanitize(data.decode("utf-8", "replace"))))
    sys.stdout.flush()


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(disarmed_json(json.dumps(value, indent=1)))

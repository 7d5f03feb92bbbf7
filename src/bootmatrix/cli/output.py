"""Output of commands: sanitized, also for the CI system that reads it."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from bootmatrix.redact import redacted
from bootmatrix.report.sanitize import disarmed, disarmed_json, sanitize

STDOUT = Path("-")
"""Name of an output that means the standard output."""
MAX_LINE_BYTES = 1 << 16
"""Of a console that is printed as it comes; a longer line is broken."""


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


@contextmanager
def console_lines() -> Iterator[Callable[[bytes], None]]:
    """Yield a printer of a guest's console, which takes any parts of it.

    It prints lines: a CI system's command, or a sequence of the terminal, may come in two parts.
    """
    rest = b""

    def feed(data: bytes) -> None:
        nonlocal rest
        text = rest + data
        end = text.rfind(b"\n") + 1
        whole, rest = text[:end], text[end:]
        if len(rest) > MAX_LINE_BYTES:
            whole, rest = whole + rest + b"\n", b""
        write_console(whole)

    try:
        yield feed
    finally:
        write_console(rest)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(disarmed_json(json.dumps(value, indent=1)))

"""GitHub's workflow commands: annotations on the lines of specs."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bootmatrix.report.cell_view import CellView
from bootmatrix.report.context import ReportContext
from bootmatrix.report.sanitize import one_line

MAX_ANNOTATIONS = 50
"""More than GitHub shows of a step and of a job."""
MAX_SPEC_BYTES = 1 << 20


def render(context: ReportContext) -> bytes:
    """Return the commands, a line each; a notice if all is as expected."""
    view = context.view
    lines = [_annotation(cell) for cell in view.attention]
    lines += [_command("error", f"{short.name}: {short.reason}") for short in view.shortfalls]
    if not lines:
        lines = [_command("error" if not view.good else "notice", view.headline)]
    if len(lines) > MAX_ANNOTATIONS:
        lines[MAX_ANNOTATIONS - 1 :] = [_command("error", f"and {len(lines) - MAX_ANNOTATIONS + 1} more")]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _annotation(cell: CellView) -> str:
    place = {"file": cell.record.cell.spec, "line": str(failed_line(cell)), "title": f"{cell.verdict}: {cell.id}"}
    is_surprise = cell.verdict == "pass"
    return _command("error", f"passed, expected a failure: {cell.expect}" if is_surprise else cell.reason, place)


def failed_line(cell: CellView) -> int:
    """Return the line of a cell's spec with its first failed container, or 1."""
    return _line(Path(cell.record.cell.spec), tuple(_names(cell)))


def _names(cell: CellView) -> Iterator[str]:
    """Return the containers whose results failed, as the spec names them."""
    for part in cell.subresults:
        if part.verdict not in {"pass", "skip"}:
            kind, _, name = part.name.partition(" ")
            yield name if kind in {"onboot", "service", "check", "onshutdown"} else part.name.partition(":")[0]


def _line(spec: Path, names: tuple[str, ...]) -> int:
    """Return a spec's line with the first of these containers, or 1."""
    with suppress(OSError, ValueError):
        if spec.is_file() and spec.stat().st_size <= MAX_SPEC_BYTES:
            for number, line in enumerate(spec.read_text(encoding="utf-8").splitlines(), 1):
                match = re.match(r"\s*(?:-\s*(?:\{\s*)?)?name:\s*[\"']?([^\"',}#]+)", line)
                if match and match[1].strip() in names:
                    return number
    return 1


def _command(kind: str, text: str, place: dict[str, str] | None = None) -> str:
    values = ",".join(f"{name}={_property(value)}" for name, value in (place or {}).items())
    return f"::{kind}{f' {values}' if values else ''}::{_data(text)}"


def _data(text: str) -> str:
    return one_line(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

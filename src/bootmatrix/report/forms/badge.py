"""A README's badge (SVG); grey when the run is old or unfinished."""

from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

from bootmatrix.packaged import packaged
from bootmatrix.report.context import ReportContext
from bootmatrix.report.sanitize import one_line

MAX_AGE = timedelta(days=7)
"""Age from which a run is out of date."""
MAX_TITLE = 40
CHARACTER_PX, PAD_PX = 6.6, 10
GREEN, RED, GREY = "#2e7d32", "#c62828", "#6b7280"


def render(context: ReportContext) -> bytes:
    """Return the picture in UTF-8."""
    label = one_line(context.run.title, MAX_TITLE) or "bootmatrix"
    text, colour = _state(context, datetime.now(UTC))
    left, right = (round(len(words) * CHARACTER_PX) + PAD_PX for words in (label, text))
    places = {"middle_left": left / 2, "middle_right": left + right / 2}
    words = {"label": escape(label, {'"': "&quot;"}), "text": escape(text, {'"': "&quot;"}), "colour": colour}
    sizes = {"width": left + right, "left": left, "right": right}
    return packaged("report/forms/badge.svg", **sizes, **places, **words).encode("utf-8", "replace")


def _state(context: ReportContext, now: datetime) -> tuple[str, str]:
    run = context.run
    tried = [record for record in run.records if record.verdict != "skip"]
    good = sum(record.expected for record in tried)
    total = len(tried) + len(run.missing)
    text = f"{good} of {total} as expected" + (", a part" if run.part_words else "")
    began = datetime.fromisoformat(run.started_at)
    if now - began > MAX_AGE:
        return f"{text}, {began.day} {began:%b %Y}", GREY
    if run.is_good:
        return text, GREEN
    return (f"{text}, interrupted", GREY) if run.interrupted else (text, RED)

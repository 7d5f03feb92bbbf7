"""Report of a kernel bisection: a page beside the run's own and a terminal table."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bootmatrix.fsio import write_atomic
from bootmatrix.model import Bisection, Run, Step
from bootmatrix.report import REPORT_FILE
from bootmatrix.report.headline import date_words
from bootmatrix.report.html import render_page
from bootmatrix.report.order import STYLES, SYMBOLS
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import duration

PAGE_FILE = "bisect.html"
UNJUDGED = {
    "kernel": "the kernels in between have no verdict",
    "commit": "the commits in between cannot be built or judged",
}
COLUMNS = {"kernel": ("kernel", "version"), "commit": ("commit", "subject")}


def conclusion(state: Bisection) -> str:
    """Return the result of the search as a sentence."""
    problem = state.problem()
    if problem:
        return f"No answer: {problem}"
    suspects = state.suspects()
    before, after = state.change()
    first = f"The first {state.unit} with another verdict is"
    if len(suspects) == 1:
        subject = f" ({after.version})" if state.unit == "commit" else ""
        twin = f" (its build made the same kernel as that of {after.twin})" if after.twin else ""
        return f"{first} {suspects[0].release}{subject}: {before.verdict} before, {after.verdict} from there on{twin}"
    pending = [step for step in suspects[:-1] if step.verdict is None]
    why = "the search was interrupted" if pending else UNJUDGED[state.unit]
    return f"{first} one of {', '.join(step.release for step in suspects)}: {why}"


def write_bisection(state: Bisection, run: Run, folder: Path) -> Path:
    """Write the page into the run's folder atomically and return its path.

    Raises OSError if the page cannot be written.
    """
    suspects = {step.release for step in state.suspects()}
    booted = sum(step.verdict is not None for step in state.steps)
    facts = (
        ("Spec", state.spec),
        ("Machine", state.target),
        ("Good", state.good),
        ("Bad", state.bad),
        (f"{state.unit.capitalize()}s tested", f"{booted} of {len(state.steps)}" if state.unit == "kernel" else booted),
        ("Started", date_words(run.started_at)),
        ("Time", duration(run.wall_s)),
    )
    values: dict[str, Any] = {
        "state": state,
        "run": run,
        "suspects": suspects,
        "facts": facts,
        "columns": COLUMNS[state.unit],
    }
    words: dict[str, Any] = {"headline": one_line(conclusion(state)), "reason": _reason, "report": REPORT_FILE}
    page = render_page("bisect.html.j2", ("cell.css", "report.css"), **values, **words)
    write_atomic(folder / PAGE_FILE, page)
    return folder / PAGE_FILE


def _reason(step: Step) -> str:
    return one_line(f"the same kernel as {step.twin}: {step.reason}" if step.twin else step.reason)


def bisection_text(state: Bisection) -> RenderableType:
    """Render the result for the terminal."""
    suspects = {step.release for step in state.suspects()}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in ("", *COLUMNS[state.unit], "verdict", "reason"):
        table.add_column(heading)
    for step in state.steps:
        mark = Text("→" if step.release in suspects else "")
        verdict = (
            Text(f"{SYMBOLS[step.verdict]} {step.verdict}", STYLES[step.verdict])
            if step.verdict
            else Text("not booted", "bright_black")
        )
        table.add_row(mark, Text(step.release), Text(step.version), verdict, Text(_reason(step)))
    return Group(table, Text(one_line(conclusion(state)), "bold"))

"""Self-contained HTML pages from templates, all of one style."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bootmatrix.report.cell_parts import DIAGNOSTICS
from bootmatrix.report.console_view import numbered
from bootmatrix.report.history_text import run_state
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.report.units import duration, moment, size

if TYPE_CHECKING:
    from bootmatrix.report.cell_view import CellView
    from bootmatrix.report.view import ReportView

ROOT = "../../../../../"
"""Path from a cell's page (`cells/SPEC/ARCH/MACHINE/KERNEL/`) to the run's folder."""


def render_html(view: ReportView) -> bytes:
    """Render the report."""
    return render_page("report.html.j2", ("cell.css", "report.css"), ("cell.js", "report.js"), view=view)


def render_cell(cell: CellView) -> bytes:
    """Render the page of one cell, with its whole console."""
    return render_page("cell.html.j2", ("cell.css",), ("cell.js",), cell=cell, root=ROOT)


def render_page(
    template: str, styles: tuple[str, ...], scripts: tuple[str, ...] = (), connect: bool = False, **values: object
) -> bytes:
    """Render a page; all but our own style and script is escaped.

    Args:
        template: a file of `templates/`.
        styles: files of `templates/`.
        scripts: files of `templates/`.
        connect: allow the script to request data from the page's server.
        values: the template's values.
    """
    style, script, policy = _own(styles, scripts)
    policy += "; connect-src 'self'" if connect else ""
    text = _environment().get_template(template).render(style=style, script=script, policy=policy, **values)
    return text.encode("utf-8")


def content_policy(style: str, script: str) -> str:
    """Return a page's Content Security Policy: ours alone, by digest.

    Content Security Policy Level 3, section 2.3.1.
    """
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def load_templates() -> None:
    """Compile the templates of a run's pages, the slow part of the first rendering."""
    for name in ("page.html.j2", "parts.html.j2", "cell.html.j2", "report.html.j2", "index.html.j2"):
        _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bootmatrix.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {"numbered": numbered, "one_line": one_line, "run_state": run_state}
    environment.filters |= {"duration": duration, "moment": moment, "size": size}
    environment.globals["DIAGNOSTICS"] = DIAGNOSTICS
    return environment


def _printable(value: object) -> object:
    """Sanitize what a template inserts, whoever has written it."""
    return sanitize(value) if type(value) is str else value


@cache
def _own(styles: tuple[str, ...], scripts: tuple[str, ...]) -> tuple[Markup, Markup, str]:
    """Return our style and script, and the policy that allows only these."""
    style, script = "".join(map(_text, styles)), "".join(map(_text, scripts))
    return Markup(style), Markup(script), content_policy(style, script)  # noqa: S704


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(name: str) -> str:
    return (files("bootmatrix.report") / "templates" / name).read_text(encoding="utf-8")

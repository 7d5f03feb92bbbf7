"""The report as one HTML file, which needs nothing beside it and asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bootmatrix.model import Verdict
from bootmatrix.report.view import ReportView


def render_html(view: ReportView) -> bytes:
    """The document, in UTF-8. Everything of the view is escaped; only our own style and script pass as they are."""
    style, script = _own("report.css"), _own("report.js")
    environment = Environment(
        loader=PackageLoader("bootmatrix.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("report.html.j2").render(
        view=view,
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=content_policy(style, script),
        verdicts=[verdict.value for verdict in Verdict],
    )
    return text.encode("utf-8")


def content_policy(style: str, script: str) -> str:
    """What a browser may do with the report: use our style and our script, told by their digests, and nothing else.

    Content Security Policy Level 3, section 2.3.1.
    """
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _own(name: str) -> str:
    return (files("bootmatrix.report") / "templates" / name).read_text(encoding="utf-8")

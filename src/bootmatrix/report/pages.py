"""Pages other than a run's report, out of templates: a sign-off, the index of runs, a run that is under way."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bootmatrix.report.html import content_policy


def render_page(template: str, style: str, script: str = "", connect: bool = False, **values: object) -> bytes:
    """A document, in UTF-8. All values are escaped; only our own style and script, two files, pass as they are.

    Args:
        template: a file of `templates/`.
        style: the same.
        script: the same, or empty for none.
        connect: whether the script may ask the server that the page came from.
        values: what the template shows.
    """
    own_style, own_script = _own(style), _own(script) if script else ""
    policy = content_policy(own_style, own_script) + ("; connect-src 'self'" if connect else "")
    environment = Environment(
        loader=PackageLoader("bootmatrix.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(
        style=Markup(own_style),  # noqa: S704
        script=Markup(own_script),  # noqa: S704
        policy=policy,
        **values,
    )
    return text.encode("utf-8")


def _own(name: str) -> str:
    return (files("bootmatrix.report") / "templates" / name).read_text(encoding="utf-8")

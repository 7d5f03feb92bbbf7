"""Report forms: plug-ins of the group `bootmatrix.report_forms`, one module each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bootmatrix import plugins

if TYPE_CHECKING:
    from bootmatrix.report.context import ReportContext

GROUP = "report_forms"


class ReportForm(Protocol):
    """A report form's module."""

    def render(self, context: ReportContext) -> bytes:
        """Render a run, its consoles and its history as a file."""


def form_names() -> tuple[str, ...]:
    """Return the names of all forms."""
    return plugins.names(GROUP)


def render(name: str, context: ReportContext) -> bytes:
    """Render a run in a form. Raises InputError if the form is unknown."""
    form: ReportForm = plugins.load(GROUP, name)
    return form.render(context)

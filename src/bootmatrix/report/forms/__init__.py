"""Forms that a report can take: plug-ins of the group `bootmatrix.report_forms`, one module each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bootmatrix import plugins

if TYPE_CHECKING:
    from bootmatrix.report.context import ReportContext

GROUP = "report_forms"


class ReportForm(Protocol):
    """A module of a form."""

    def render(self, given: ReportContext) -> bytes:
        """Render a run, with its consoles and its past, as a file of this form."""


def form_names() -> tuple[str, ...]:
    """Names of all forms."""
    return plugins.names(GROUP)


def render(name: str, given: ReportContext) -> bytes:
    """Render a run in a form.

    Raises:
        InputError: there is no form of this name.
    """
    form: ReportForm = plugins.load(GROUP, name)
    return form.render(given)

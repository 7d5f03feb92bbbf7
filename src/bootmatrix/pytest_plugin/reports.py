"""Reports of tests in guests: whose fault it was, the cell, the console."""

from typing import Any

import pytest

from bootmatrix.errors import AgentError, BuildError, InfraError
from bootmatrix.pytest_plugin.cells import TestCell
from bootmatrix.pytest_plugin.guest import PytestGuest
from bootmatrix.report.sanitize import disarmed, sanitize
from bootmatrix.workspace.guest import CommandError

LAST_LINES = 60


def complete(report: pytest.TestReport, call: pytest.CallInfo[Any], cell: TestCell, guest: PytestGuest | None) -> None:
    """Complete the report of a test.

    Reporters show a failed `call` as a failure, other phases as errors: a fault of ours during a test is shown as an
    error, and a guest that ends while its fixture is made as a failure.
    """
    error = call.excinfo.value if call.excinfo else None
    is_guests = isinstance(error, AgentError) and not error.is_ours
    if isinstance(error, InfraError | AgentError | BuildError) and not (is_guests or isinstance(error, CommandError)):
        _make_error(report)
    if not report.failed or error is None:
        return
    if is_guests:
        report.when = "call"
    _make_harmless(report)
    console = guest.console if guest else b""
    if console:
        text = "\n".join(console.decode("utf-8", "replace").splitlines()[-LAST_LINES:])
        report.sections.append((f"Console of {cell.id}", _harmless(text)))


def _make_harmless(report: pytest.TestReport) -> None:
    """Sanitize the text of an error, which may quote the guest."""
    shown: Any = report.longrepr
    alone = [(shown.reprtraceback, shown.reprcrash, None)] if hasattr(shown, "reprtraceback") else []  # --tb=native
    for traceback, crash, _ in getattr(shown, "chain", alone):
        if crash:
            crash.message = _harmless(crash.message)
        for entry in traceback.reprentries:
            entry.lines = [_harmless(line) for line in entry.lines]


def _harmless(text: str) -> str:
    return disarmed(sanitize(text))


def _make_error(report: pytest.TestReport) -> None:
    """Make an error of a report: no test was expected to fail by a fault of ours."""
    report.outcome = "failed"
    vars(report).pop("wasxfail", None)
    if report.when == "call":
        report.when = "setup"

"""`--notify URL`: tell a result to chat, mail and other services."""

import argparse
import os
from pathlib import Path

from bootmatrix.cli.output import complain
from bootmatrix.forge.notify import VARIABLE, Message, Notifier, job_page, open_notifier, run_message
from bootmatrix.history.values import Past
from bootmatrix.model import Run
from bootmatrix.report import REPORT_FILE
from bootmatrix.report.context import ReportContext
from bootmatrix.report.writer import console_reader


def notifier(args: argparse.Namespace) -> Notifier:
    """Check the addresses of --notify, the environment or the project.

    Called before a run: an address that cannot be used is found then, not after hours. A variable that is empty tells
    nobody.

    Raises InputError if an address is invalid, HostError if apprise is not installed.
    """
    project = vars(args).get("notify_variables", ())
    names = (VARIABLE,) if VARIABLE in os.environ else project
    return open_notifier(args.notify or [word for name in names for word in os.environ.get(name, "").split()])


def tell_run(chosen: Notifier, run: Run, folder: Path, past: Past, link: str = "") -> None:
    """Tell the result of a run; a fault is printed, and changes nothing."""
    if chosen.services:
        context = ReportContext(run, console_reader(folder), past)
        tell(chosen, run_message(context, link or job_page(os.environ) or str((folder / REPORT_FILE).resolve())))


def tell(chosen: Notifier, message: Message) -> None:
    """Tell a message; a fault is printed, and changes nothing."""
    for fault in chosen.tell(message):
        complain(f"bootmatrix: not notified: {fault}")

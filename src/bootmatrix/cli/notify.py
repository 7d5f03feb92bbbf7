"""`--notify URL`: tell a result to chat, mail and other services."""

import argparse
import os
from pathlib import Path

from bootmatrix.cli.output import complain
from bootmatrix.forge.notify import Message, Notifier, job_page, open_notifier, run_message
from bootmatrix.report.context import ReportContext


def notifier(args: argparse.Namespace) -> Notifier | None:
    """Check the addresses of --notify, the environment or the project.

    Called before a run: an address that cannot be used is found then, not after hours.

    Raises InputError if an address is invalid, HostError if apprise is not installed.
    """
    addresses = args.notify or tuple(os.environ.get("BOOTMATRIX_NOTIFY", "").split()) or _of_project(args)
    if not addresses:
        return None
    return open_notifier(addresses)


def _of_project(args: argparse.Namespace) -> tuple[str, ...]:
    names = getattr(args, "notify_variables", ())
    return tuple(word for name in names for word in os.environ.get(name, "").split())


def tell_run(chosen: Notifier | None, context: ReportContext, report: Path, link: str = "") -> None:
    """Tell the result of a run; a fault is printed, and changes nothing."""
    if chosen:
        tell(chosen, run_message(context, link or job_page(os.environ) or str(report.resolve())))


def tell(chosen: Notifier | None, message: Message) -> None:
    """Tell a message; a fault is printed, and changes nothing."""
    for fault in chosen.tell(message) if chosen else ():
        complain(f"bootmatrix: not notified: {fault}")

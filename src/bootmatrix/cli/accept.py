"""`bootmatrix accept`: accept failures for some time, list, remove."""

import argparse
import os
import pwd
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import print_json, say
from bootmatrix.cli.parsers.upkeep import ACCEPT_DAYS
from bootmatrix.errors import InputError
from bootmatrix.history.acceptance import AcceptedFailure, fields_of, read_accepted, today, write_accepted
from bootmatrix.history.index import ask
from bootmatrix.history.reference import reports_folder


def run(args: argparse.Namespace) -> int:
    """Accept a failure, remove an acceptance, or list them."""
    reports = reports_folder(args.reports)
    accepted = read_accepted(reports)
    if args.cell is None:
        _list(args, accepted)
    elif args.remove:
        left = tuple(entry for entry in accepted if entry.cell != args.cell)
        if left == accepted:
            raise InputError(f"no acceptance of {args.cell!r}", "'bootmatrix accept' lists them.")
        write_accepted(reports, left)
        say(f"{args.cell}: not accepted any more")
    else:
        entry = _entry(args, reports)
        others = (each for each in accepted if (each.cell, each.title) != (entry.cell, entry.title))
        write_accepted(reports, (*others, entry))
        say(_line(entry))
    return EXPECTED


def _list(args: argparse.Namespace, accepted: tuple[AcceptedFailure, ...]) -> None:
    if args.reason or args.remove:
        raise InputError("name a cell", "bootmatrix accept CELL --reason WHY")
    if args.json:
        print_json([fields_of(entry) for entry in accepted])
        return
    for entry in accepted:
        ended = "" if entry.until >= today().isoformat() else " (ended)"
        say(f"{_line(entry)}{ended}")
    if not accepted:
        say("no failure is accepted")


def _line(entry: AcceptedFailure) -> str:
    """Format an acceptance with its day as `--until` takes it."""
    runs = f" of {entry.title}" if entry.title else ""
    return f"{entry.cell}{runs}: accepted by {entry.by} until {entry.until}: {entry.reason}"


def _entry(args: argparse.Namespace, reports: Path) -> AcceptedFailure:
    """Make the acceptance.

    Raises InputError if its reason is missing, its cell unknown, or its day invalid.
    """
    if not args.reason.strip():
        raise InputError("an acceptance needs a reason", f"bootmatrix accept {args.cell} --reason WHY --by WHO")
    by = args.by.strip() or _user()
    if not by:
        raise InputError("an acceptance needs a person", f"bootmatrix accept {args.cell} --reason WHY --by WHO")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    entry = AcceptedFailure(args.cell, args.reason.strip(), by, at, _day(args.until).isoformat(), args.title)
    if not any(map(entry.covers, ask(reports, lambda rows: rows.cells()))):
        raise InputError(f"no run has a cell {args.cell!r}", "A cell is spec/arch[/machine]/kernel, as in the reports.")
    return entry


def _day(text: str) -> date:
    if not text:
        return today() + timedelta(days=ACCEPT_DAYS)
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--until {text!r}: expected a day, such as 2026-12-31") from error
    if day < today():
        raise InputError(f"--until {text}: that day is over")
    return day


def _user() -> str:
    with suppress(KeyError):
        entry = pwd.getpwuid(os.getuid())
        return entry.pw_gecos.split(",")[0].strip() or entry.pw_name
    return ""

"""`bootmatrix judge`: repeat the verdicts of a saved run."""

import argparse

from bootmatrix.cell.rejudge import rejudge
from bootmatrix.cli.exits import EXPECTED, NOT_EXPECTED
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError
from bootmatrix.history.reference import find_run, reports_folder
from bootmatrix.report.sanitize import one_line
from bootmatrix.runs.run_store import load_run


def run(args: argparse.Namespace) -> int:
    """Print each verdict; return status 1 if one differs from the record."""
    folder = find_run(reports_folder(args.reports), args.run_name).folder
    changed = judged = 0
    for record, again in rejudge(load_run(folder), folder):
        same = again.verdict is record.verdict
        changed += not same
        judged += 1
        recorded = "" if same else f"  (recorded: {record.verdict})"
        say(f"{record.cell.id}  {again.verdict}{recorded}  {one_line(again.reason)}")
    if not judged:
        raise InputError(f"{folder}: no cell of this run was booted, so there is nothing to judge")
    return NOT_EXPECTED if changed else EXPECTED

"""`bootmatrix compare`: compare a run with a baseline."""

import argparse
from dataclasses import asdict

from bootmatrix.cli.exits import EXPECTED, regression_status
from bootmatrix.cli.output import print_json, say
from bootmatrix.history.lookup import compared
from bootmatrix.history.reference import reports_folder
from bootmatrix.report.history_text import comparison_lines


def run(args: argparse.Namespace) -> int:
    """Print the comparison and return the exit status."""
    baseline = args.baseline or args.baseline_name or ("last-good" if args.fail_on else "latest")
    comparison = compared(reports_folder(args.reports), args.run_name, baseline)
    if args.json:
        print_json(asdict(comparison))
    else:
        say(*comparison_lines(comparison, args.all))
    return regression_status(comparison, allow_empty=args.allow_empty) if args.fail_on else EXPECTED

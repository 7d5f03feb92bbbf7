"""`bootmatrix compare`: how a run stands beside another one."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, regression_status
from bootmatrix.cli.output import say


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "compare",
        help="what changed between two runs: new failures, fixes, durations, inputs",
        description="Compare the cells of a run with the same cells of a baseline: the same spec, machine, kernel name "
        "and way of booting. Regressions come first. Other inputs (kernel, image, profile, QEMU, spec) are named.",
    )
    parser.add_argument("run_name", metavar="RUN", help=options.RUN_HELP)
    parser.add_argument("baseline_name", nargs="?", metavar="BASELINE", help="the same (default: latest, before RUN)")
    options.add_baseline(parser)
    options.add_allow_empty(parser)
    options.add_reports(parser)
    parser.add_argument("--all", action="store_true", help="also cells in which nothing changed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the comparison."""
    from bootmatrix.history.lookup import compared
    from bootmatrix.report.history_text import comparison_lines

    baseline = args.baseline or args.baseline_name or "latest"
    comparison = compared(options.reports_of(args), args.run_name, baseline)
    if args.json:
        options.print_json(asdict(comparison))
    else:
        say(*comparison_lines(comparison, args.all))
    return regression_status(comparison, allow_empty=args.allow_empty) if args.fail_on else EXPECTED

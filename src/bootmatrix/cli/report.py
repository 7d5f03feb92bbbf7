"""`bootmatrix report`: write the report of a saved run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, regression_status


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("report", help="write the report of a saved run again, even of an interrupted one")
    parser.add_argument("run_name", metavar="RUN", help=f"{options.RUN_HELP}, or any run's folder")
    options.add_single_file(parser)
    options.add_baseline(parser)
    options.add_reports(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it from the records, and print its path."""
    from bootmatrix.cli.past import baseline_of, past_of_run
    from bootmatrix.history.reference import find_run
    from bootmatrix.report import REPORT_FILE, write_reports
    from bootmatrix.report.index_page import write_index
    from bootmatrix.runs import load_run

    place = find_run(options.reports_of(args), args.run_name)
    saved = load_run(place.folder)
    given = args.baseline or ("latest" if args.fail_on else saved.baseline)
    baseline = baseline_of(place, given) if given else None
    past = past_of_run(place, saved, baseline, compared=bool(given))
    shown_run = saved.model_copy(update={"baseline": baseline.name if baseline else ""})
    write_reports(shown_run, place.folder, past, args.single_file)
    if place.reports.resolve() == options.reports_of(args).resolve():
        write_index(place.reports)
    shown = Path(args.run_name) if Path(args.run_name).is_dir() else place.folder
    print(shown / REPORT_FILE)
    return regression_status(past.comparison) if args.fail_on and past.comparison else EXPECTED

"""`bootmatrix merge`: join runs into one."""

import argparse
from pathlib import Path

from bootmatrix.cli.notify import notifier, tell_run
from bootmatrix.cli.output import complain, say
from bootmatrix.cli.run_end import end_run, update_index
from bootmatrix.cli.tables import print_table
from bootmatrix.history.reference import find_runs, reports_folder
from bootmatrix.model.base import many_made
from bootmatrix.report import REPORT_FILE
from bootmatrix.report.text import summary
from bootmatrix.runs.run_store import check_latest, point_latest
from bootmatrix.workspace.finished import RunOptions
from bootmatrix.workspace.merge import merge_runs, merged_folder, report_merged


def run(args: argparse.Namespace) -> int:
    """Merge runs, report, and return the exit status of the whole."""
    with many_made():
        return _merge(args)


def _merge(args: argparse.Namespace) -> int:
    reports: Path = reports_folder(args.reports)
    services = notifier(args)
    folders = find_runs(reports, args.run_names)
    target = args.output or merged_folder(folders, reports)
    is_among_runs = target.parent.resolve() == reports.resolve()
    if is_among_runs:
        check_latest(reports)
    merged = merge_runs(folders, target)
    for note in merged.notes:
        complain(f"note: {note}")
    chosen = RunOptions(single_file=args.single_file, baseline=args.baseline or "", regressions=bool(args.fail_on))
    if is_among_runs:
        point_latest(reports, merged.folder.name)
    done = report_merged(merged, chosen)
    if is_among_runs:
        update_index(reports)
    print_table(summary(done.run))
    say(done.folder / REPORT_FILE)
    tell_run(services, done.run, done.folder, done.past)
    return end_run(done.run, done.past.comparison, regressions_only=bool(args.fail_on))

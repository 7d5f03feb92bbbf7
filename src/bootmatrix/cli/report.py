"""`bootmatrix report`: write a run's report again, or print a form of it."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from bootmatrix.cell.borne_out import check_verdicts
from bootmatrix.cli.exits import EXPECTED, regression_status
from bootmatrix.cli.output import STDOUT, complain, say
from bootmatrix.cli.run_end import update_index
from bootmatrix.errors import InputError, RunFault
from bootmatrix.fsio import write_atomic, write_named
from bootmatrix.history.index import ask
from bootmatrix.history.lookup import past_against
from bootmatrix.history.reference import RunLocation, find_run, reports_folder
from bootmatrix.history.values import Past
from bootmatrix.model import Run
from bootmatrix.report import REPORT_FILE
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms import render
from bootmatrix.report.sanitize import disarmed_form
from bootmatrix.report.writer import console_reader, write_reports
from bootmatrix.runs.run_store import check_links, load_run
from bootmatrix.signoff.manifest import signoffs_of
from bootmatrix.signoff.sent_report import with_notice
from bootmatrix.signoff.verify import changed_since


def run(args: argparse.Namespace) -> int:
    """Write the report and print its path, or print the report."""
    place = find_run(reports_folder(args.reports), args.run_name)
    if args.output and not args.format:
        raise InputError("--output needs --format", "Without it the report is written into the run's folder.")
    try:
        saved = load_run(place.folder)
    except RunFault:
        _write_state(args, place)
        raise
    baseline_name = args.baseline or ("last-good" if args.fail_on else saved.baseline)
    past = replace(past_against(place, saved, baseline_name), regressions_only=bool(args.fail_on))
    saved = saved.model_copy(update={"baseline": past.comparison.baseline if past.comparison else ""})
    doubt = _doubt(saved, place)
    if doubt:
        complain(f"warning: {doubt}")
    if args.format:
        data = render(args.format, ReportContext(saved, console_reader(place.folder), past))
        data = _with_warning(data, place, doubt) if args.format == "html" else data
        _output(args.format, data, args.output)
    else:
        _write(args, saved, place, past, doubt)
    if not (args.fail_on and past.comparison):
        return EXPECTED
    return regression_status(past.comparison, allow_empty=saved.is_good)


def _doubt(run: Run, place: RunLocation) -> str:
    """Describe a verdict that its evidence does not give; empty if all hold."""
    try:
        check_verdicts(run, place.folder)
    except InputError as error:
        return error.message
    return ""


def _with_warning(page: bytes, place: RunLocation, doubt: str) -> bytes:
    """Warn in the page of a doubtful run, and if it differs from its sign-off."""
    page = with_notice(page, f"Warning: {doubt}.") if doubt else page
    changed = changed_since(place.folder)
    if not changed:
        return page
    words = f"{place.name} differs from what was signed off as {', '.join(changed)}"
    complain(f"warning: {words}")
    return with_notice(page, f"Warning: {words}.")


def _output(form: str, data: bytes, file: Path | None) -> None:
    if file and file != STDOUT:
        write_named(file, data)
        return
    # It may be the log of a CI job, in which a guest's words must not be commands.
    data = disarmed_form(form, data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _write_state(args: argparse.Namespace, place: RunLocation) -> None:
    """Write at least the state of an unreadable run, for alerts and the index."""
    if args.format == "openmetrics":
        from bootmatrix.report.forms.openmetrics import render_unusable

        line = ask(place.reports, lambda rows: rows.run(place.name))
        if line:
            _output(args.format, render_unusable(line.title, line.started_at, str(line.state)), args.output)
    if place.reports.resolve() == reports_folder(args.reports).resolve():
        update_index(place.reports)


def _write(args: argparse.Namespace, saved: Run, place: RunLocation, past: Past, doubt: str) -> None:
    check_links(place.folder)
    signed = signoffs_of(place.folder)
    if signed:
        raise InputError(
            f"{place.folder} is signed off for {', '.join(signed)}: a new report would invalidate that",
            "Print it with --format html, or remove the sign-off first.",
        )
    write_reports(saved, place.folder, past, args.single_file)
    if doubt:
        page = place.folder / REPORT_FILE
        write_atomic(page, with_notice(page.read_bytes(), f"Warning: {doubt}."))
    if place.reports.resolve() == reports_folder(args.reports).resolve():
        update_index(place.reports)
    folder = Path(args.run_name) if Path(args.run_name).is_dir() else place.folder
    say(folder / REPORT_FILE)

"""`bootmatrix announce`: tell a run's result on GitHub or GitLab."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator

from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.notify import notifier, tell_run
from bootmatrix.cli.output import complain, say
from bootmatrix.errors import NetworkError
from bootmatrix.forge import github, gitlab
from bootmatrix.forge.api import ForgeApi
from bootmatrix.forge.notify import job_page
from bootmatrix.history.lookup import baseline_of, past_of_run, read_baseline
from bootmatrix.history.reference import find_run, reports_folder
from bootmatrix.report import REPORT_FILE
from bootmatrix.report.cell_pages import console_reader
from bootmatrix.report.context import ReportContext
from bootmatrix.runs.run_store import load_run

Teller = Callable[[ForgeApi], str]


def run(args: argparse.Namespace) -> int:
    """Tell the result; a fault of the network is printed, and fails nothing."""
    place = find_run(reports_folder(args.reports), args.run_name)
    saved = load_run(place.folder)
    name = args.baseline or saved.baseline
    baseline = read_baseline(baseline_of(place, name)) if name else None
    past = past_of_run(place, saved, baseline, compared=bool(name))
    context = ReportContext(saved, console_reader(place.folder), past)
    tell_run(notifier(args), context, place.folder / REPORT_FILE, args.link)
    for api, tellers in _chosen(args, context):
        with api:
            for teller in tellers:
                _tell(api, teller)
    return EXPECTED


def _tell(api: ForgeApi, teller: Teller) -> None:
    try:
        say(teller(api))
    except NetworkError as error:
        complain(f"bootmatrix: not announced: {error.message}")


def _chosen(args: argparse.Namespace, context: ReportContext) -> Iterator[tuple[ForgeApi, list[Teller]]]:
    on_github = [
        function
        for is_chosen, function in (
            (args.github_status, github.tell_status),
            (args.github_comment, github.tell_comment),
            (args.github_issues, github.tell_issues),
        )
        if is_chosen
    ]
    if on_github:
        place = github.place_of(os.environ, args.link or job_page(os.environ))
        yield place.open(), [lambda api, tell=tell: tell(api, place, context) for tell in on_github]  # type: ignore[misc]
    on_gitlab = [
        function
        for is_chosen, function in (
            (args.gitlab_status, gitlab.tell_status),
            (args.gitlab_comment, gitlab.tell_comment),
            (args.gitlab_issues, gitlab.tell_issues),
        )
        if is_chosen
    ]
    if on_gitlab:
        spot = gitlab.place_of(os.environ, args.link or job_page(os.environ))
        yield spot.open(), [lambda api, tell=tell: tell(api, spot, context) for tell in on_gitlab]  # type: ignore[misc]

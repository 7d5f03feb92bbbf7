"""`bootmatrix announce`: tell a run's result on GitHub or GitLab."""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.notify import notifier, tell_run
from bootmatrix.cli.options import commit_under_test
from bootmatrix.cli.output import complain, say
from bootmatrix.errors import InputError, NetworkError
from bootmatrix.forge import github, gitlab
from bootmatrix.forge.api import ForgeApi, in_time
from bootmatrix.forge.notify import VARIABLE, job_page
from bootmatrix.history.lookup import past_against
from bootmatrix.history.reference import find_run, reports_folder
from bootmatrix.report.context import ReportContext
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.writer import console_reader
from bootmatrix.runs.run_store import load_run

Teller = Callable[[ForgeApi], str]


def run(args: argparse.Namespace) -> int:
    """Tell the result; a fault of the network is printed, and fails nothing."""
    place = find_run(reports_folder(args.reports), args.run_name)
    saved = load_run(place.folder)
    past = past_against(place, saved, args.baseline or saved.baseline)
    context = ReportContext(saved, console_reader(place.folder), past)
    services, chosen = notifier(args), list(_chosen(args, context))
    if not (chosen or args.notify or VARIABLE in os.environ or vars(args).get("notify_variables")):
        raise InputError("nobody is to be told", "Give --github-status, --gitlab-comment, --notify or others.")
    tell_run(services, saved, place.folder, past, args.link)
    for api, teller in chosen:
        with api:
            _tell(api, teller)
    return EXPECTED


def _check_commit(context: ReportContext) -> None:
    """Raise InputError if the run, perhaps from a cache, is of another commit."""
    commit, order = commit_under_test(), context.run.order
    if order and order.commit and order.commit != commit:
        raise InputError(
            f"{context.run.name} tested the commit {one_line(order.commit)}, and this job is of {one_line(commit)}",
            "Announce the run that this job made.",
        )


def _tell(api: ForgeApi, teller: Teller) -> None:
    try:
        say(in_time(api, teller))
    except NetworkError as error:
        complain(f"bootmatrix: not announced: {error.message}")


def _chosen(args: argparse.Namespace, context: ReportContext) -> Iterator[tuple[ForgeApi, Teller]]:
    for name, forge in (("github", github), ("gitlab", gitlab)):
        kinds = [kind for kind in ("status", "comment", "issues") if vars(args)[f"{name}_{kind}"]]
        if kinds:
            _check_commit(context)
            place = forge.place_of(os.environ, args.link)
            place = replace(place, link=place.link or job_page(os.environ))
        for kind in kinds:
            yield forge.open_api(place), partial(getattr(forge, f"tell_{kind}"), place=place, context=context)

"""`bootmatrix runs`: list the runs that are kept, and give them tags."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import say

SHOWN = 30


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "runs",
        help="list the runs that are kept; tag them",
        description="List the runs that are kept, newest first. A tag names a run for --baseline tag:NAME, and keeps "
        "'bootmatrix prune' from removing it.",
    )
    options.add_reports(parser)
    parser.add_argument("--title", default="", help="only runs of this matrix or these specs")
    parser.add_argument("-n", type=int, default=SHOWN, metavar="N", help=f"how many (default: {SHOWN}; 0: all)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(title="tags", metavar="tag|untag")
    tag = actions.add_parser("tag", help="give a run a tag")
    tag.add_argument("run_name", metavar="RUN", help=options.RUN_HELP)
    tag.add_argument("tag", metavar="NAME", help="such as v1.8")
    options.add_reports(tag, below=True)
    tag.set_defaults(run=run_tag)
    untag = actions.add_parser("untag", help="take a tag away")
    untag.add_argument("tag", metavar="NAME")
    options.add_reports(untag, below=True)
    untag.set_defaults(run=run_untag)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from bootmatrix.history.index import ask
    from bootmatrix.history.reference import tags_of
    from bootmatrix.report.history_text import runs_lines

    reports: Path = options.reports_of(args)
    lines = ask(reports, lambda rows: rows.runs(args.title, args.n or -1))
    tags = tags_of(reports)
    lines = [replace(line, tags=tuple(tag for tag, name in tags.items() if name == line.name)) for line in lines]
    if args.json:
        options.print_json([asdict(line) for line in lines])
    elif lines:
        say(*runs_lines(lines))
    else:
        say(f"{reports} holds no run")
    return EXPECTED


def run_tag(args: argparse.Namespace) -> int:
    """Tag a run."""
    from bootmatrix.history.reference import add_tag, find_run

    place = find_run(options.reports_of(args), args.run_name)
    add_tag(place, args.tag)
    say(f"tag:{args.tag} is {place.name}")
    return EXPECTED


def run_untag(args: argparse.Namespace) -> int:
    """Take a tag away."""
    from bootmatrix.history.reference import remove_tag

    remove_tag(options.reports_of(args), args.tag)
    return EXPECTED

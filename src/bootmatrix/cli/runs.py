"""`bootmatrix runs`: list, tag and untag runs."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import print_json, say
from bootmatrix.history.index import ask
from bootmatrix.history.reference import add_tag, find_run, now, remove_tag, reports_folder, tags_of, with_life
from bootmatrix.report.history_text import runs_lines


def run(args: argparse.Namespace) -> int:
    """Print the list of runs."""
    reports: Path = reports_folder(args.reports)
    moment = now()
    lines = ask(reports, lambda rows: rows.runs(args.title, args.n or -1, until=moment))
    lines += [line for line in ask(reports, lambda rows: rows.runs(args.title)) if line.is_future(moment)]
    tags = tags_of(reports)
    lines = [
        replace(with_life(line, reports), tags=tuple(tag for tag, name in tags.items() if name == line.name))
        for line in lines
    ]
    if args.json:
        print_json([asdict(line) for line in lines])
    elif lines:
        say(*runs_lines(lines))
    else:
        say(f"{reports} contains no run")
    return EXPECTED


def run_tag(args: argparse.Namespace) -> int:
    """Tag a run."""
    place = find_run(reports_folder(args.reports), args.run_name)
    add_tag(place, args.tag)
    say(f"tag:{args.tag} is {place.name}")
    return EXPECTED


def run_untag(args: argparse.Namespace) -> int:
    """Remove a tag."""
    remove_tag(reports_folder(args.reports), args.tag)
    return EXPECTED

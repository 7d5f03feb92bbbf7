"""Options of commands on runs that are saved."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands

RUNS_SHOWN = 30
PRUNE_KEEP = 30
SIGNOFF_DESCRIPTION = (
    "Sign a run off for a release: a printable page (HTML, and PDF if chromium is installed), an in-toto attestation "
    "of the same content, and the digests of all files of the run, in RUN/signoff/NAME/. An unexpected verdict or an "
    "interruption must be accepted by a person, for a reason. 'bootmatrix signoff verify RUN' verifies it: exit status "
    "1 if anything has changed."
)
SERVE_PORT = 8471


def add_report(commands: Commands) -> None:
    """Add the options of `report`."""
    parser = arguments.add_command(
        commands,
        "report",
        "write the report of a saved run again, or print it in another form",
        description="Write the report of a saved run again, even of an interrupted one. With --format, print it in "
        "that form instead.",
    )
    arguments.add(parser, "run_name", help=f"{arguments.RUN_HELP}, or any run's folder")
    arguments.add(parser, "--single-file")
    parser.add_argument(
        "--format",
        metavar="FORM",
        help="print this form: md, junit, tap, csv, openmetrics, json, github (annotations), kcidb (KernelCI), tiers, "
        "badge, or html (one file)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="with --format: write it to this file, atomically; '-' is stdout",
    )
    arguments.add(parser, *arguments.BASELINE, "--reports")


def add_judge(commands: Commands) -> None:
    """Add the options of `judge`."""
    parser = arguments.add_command(commands, "judge", "repeat the verdicts of a saved run from the recorded data")
    arguments.add(parser, "run_name", help=f"{arguments.RUN_HELP}, or any run's folder")
    arguments.add(parser, "--reports")


def add_runs(commands: Commands) -> None:
    """Add the options of `runs`."""
    parser = arguments.add_command(
        commands,
        "runs",
        "list runs; tag and untag them",
        description="List runs, newest first. A tag names a run for --baseline tag:NAME, and protects it from "
        "'bootmatrix prune'.",
    )
    arguments.add(parser, "--reports")
    parser.add_argument("--title", default="", help="only runs of this matrix or these specs")
    parser.add_argument(
        "-n", type=int, default=RUNS_SHOWN, metavar="N", help=f"number of runs (default: {RUNS_SHOWN}; 0: all)"
    )
    arguments.add(parser, "--json")
    actions = parser.add_subparsers(title="tags", metavar="tag|untag")
    tag = arguments.add_command(actions, "tag", "tag a run", run="runs:run_tag")
    arguments.add(tag, "run_name")
    tag.add_argument("tag", metavar="NAME", help="such as v1.8")
    arguments.add(tag, "--reports", default=argparse.SUPPRESS)
    untag = arguments.add_command(actions, "untag", "remove a tag", run="runs:run_untag")
    untag.add_argument("tag", metavar="NAME")
    arguments.add(untag, "--reports", default=argparse.SUPPRESS)


def add_history(commands: Commands) -> None:
    """Add the options of `history`."""
    parser = arguments.add_command(
        commands,
        "history",
        "print a cell's verdicts over time: failing since, flips, usual duration",
        description="Print a cell's last verdicts, since when it fails, how often its verdict flips (and how often "
        "with identical inputs), and its usual duration.",
    )
    parser.add_argument("cell", metavar="CELL", help="as in the reports; 'influxdb/*/6.1' matches several")
    arguments.add(parser, "--reports", "--json")


def add_compare(commands: Commands) -> None:
    """Add the options of `compare`."""
    parser = arguments.add_command(
        commands,
        "compare",
        "compare two runs: new failures, fixes, durations, inputs",
        description="Compare the cells of a run with those of a baseline that have the same spec, machine, kernel name "
        "and boot mode. Regressions come first. Changed inputs (kernel, image, profile, QEMU, spec) are listed.",
    )
    arguments.add(parser, "run_name")
    parser.add_argument(
        "baseline_name",
        nargs="?",
        metavar="BASELINE",
        help="baseline, named in the same way (default: the latest run before RUN)",
    )
    arguments.add(parser, *arguments.BASELINE, "--allow-empty", "--reports")
    parser.add_argument("--all", action="store_true", help="include unchanged cells")
    arguments.add(parser, "--json")


def add_prune(commands: Commands) -> None:
    """Add the options of `prune`."""
    parser = arguments.add_command(
        commands,
        "prune",
        "remove old runs",
        description="Remove old runs, without confirmation, and print their names. Kept are the newest runs of each "
        "title and always: the latest run, tagged and signed-off runs, their baselines, and runs that may be running.",
    )
    arguments.add(parser, "--reports")
    parser.add_argument(
        "--keep", type=int, default=PRUNE_KEEP, metavar="N", help=f"runs per title (default: {PRUNE_KEEP})"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    parser.add_argument(
        "--unreadable",
        action="store_true",
        help="also remove runs that are damaged, not readable, or of another version's format",
    )


def add_signoff(commands: Commands) -> None:
    """Add the options of `signoff`."""
    parser = arguments.add_command(
        commands,
        "signoff",
        "sign a run off for a release, with a printable page and an attestation; verify it",
        description=SIGNOFF_DESCRIPTION,
        usage="bootmatrix signoff RUN --release NAME [--baseline RUN] [--accept CELL --reason WHY --by WHO]… "
        "[--sign-key KEY | --sign-identity]\n"
        "       bootmatrix signoff verify RUN|REPORT.html [--release NAME] [--key PUBLIC-KEY]\n"
        "       bootmatrix signoff verify RUN|REPORT.html [--release NAME] [--identity NAME --issuer URL]\n"
        "       bootmatrix signoff push RUN --release NAME --image IMAGE [--key … | --identity … --issuer …]",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="[verify|push] RUN|REPORT.html",
        help=f"{arguments.RUN_HELP}; verify: also a report that was sent",
    )
    parser.add_argument("--release", default="", metavar="NAME", help="the release, such as influxdb-1.6.7")
    parser.add_argument("--baseline", metavar="RUN", help="compare with this run, named in the same way")
    for name, words in (
        ("accept", "accept a cell (or a pattern of cells, 'interrupted', or 'not-tested')"),
        ("reason", "the reason, once for each --accept"),
        ("by", "the person, once for each --accept, or once for all"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], metavar=name.upper(), help=words)
    parser.add_argument(
        "--sign-key", type=Path, metavar="KEY", help="private key to sign with (PEM; ed25519, ECDSA, RSA)"
    )
    parser.add_argument(
        "--sign-identity", action="store_true", help="sign by the identity of the CI job, or of SIGSTORE_ID_TOKEN"
    )
    parser.add_argument("--no-pdf", action="store_true", help="write no PDF")
    parser.add_argument("--key", type=Path, metavar="PUBLIC-KEY", help="verify: the public key (PEM)")
    parser.add_argument("--image", metavar="IMAGE", help="push: the tested image, to which the sign-off is attached")
    parser.add_argument("--identity", metavar="NAME", help="verify: the identity, an address or a workflow's URL")
    parser.add_argument("--issuer", metavar="URL", help="verify: the issuer of its token")
    parser.add_argument(
        "--sigstore-trust",
        type=Path,
        metavar="FILE",
        help="trust configuration of another sigstore than the public one",
    )
    arguments.add(parser, "--reports")


def add_serve(commands: Commands) -> None:
    """Add the options of `serve`."""
    parser = arguments.add_command(
        commands,
        "serve",
        "serve all reports to a browser on this machine, and follow a run live",
        description="Serve the reports on 127.0.0.1, for this machine only, until Ctrl-C. /latest/live follows the "
        "newest run.",
    )
    parser.add_argument(
        "--port", type=int, default=SERVE_PORT, metavar="N", help=f"default: {SERVE_PORT}; 0 picks a free one"
    )
    parser.add_argument(
        "--base-url", default="", metavar="URL", help="address behind a proxy: https://ci.example.org/bootmatrix/"
    )
    arguments.add(parser, "--reports")

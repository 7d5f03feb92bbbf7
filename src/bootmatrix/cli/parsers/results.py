"""Options of commands on runs that are saved."""

import argparse
from argparse import ArgumentParser
from pathlib import Path

from bootmatrix.cli.arguments import BASELINE, NUMBER, RUN_HELP, add_command, add_shared, command, option, whole

RUNS_SHOWN = 30
PRUNE_KEEP = 30
SIGNOFF_DESCRIPTION = (
    "Sign a run off for a release: a printable page (HTML, and PDF if chromium is installed), an in-toto attestation "
    "of the same content, and the digests of all files of the run, in RUN/signoff/NAME/. An unexpected verdict or an "
    "interruption must be accepted by a person, for a reason. 'bootmatrix signoff verify RUN' verifies it: exit status "
    "1 if anything has changed."
)
SERVE_PORT = 8471


@command(
    "report",
    "write the report of a saved run again, or print it in another form",
    description="Write the report of a saved run again, even of an interrupted one. With --format, print it in "
    "that form instead.",
)
def _report(parser: ArgumentParser) -> None:
    add_shared(parser, "run_name", help=f"{RUN_HELP}, or any run's folder")
    add_shared(parser, "--single-file")
    option(
        parser,
        "--format FORM",
        "print this form: md, junit, tap, csv, openmetrics, json, github (annotations), kcidb (KernelCI), tiers, "
        "badge, or html (one file)",
    )
    option(parser, "-o --output FILE", "with --format: write it to this file, atomically; '-' is stdout", type=Path)
    add_shared(parser, *BASELINE, "--reports")


@command("judge", "repeat the verdicts of a saved run from the recorded data")
def _judge(parser: ArgumentParser) -> None:
    add_shared(parser, "run_name", help=f"{RUN_HELP}, or any run's folder")
    add_shared(parser, "--reports")


@command(
    "runs",
    "list runs; tag and untag them",
    description="List runs, newest first. A tag names a run for --baseline tag:NAME, and protects it from "
    "'bootmatrix prune'.",
)
def _runs(parser: ArgumentParser) -> None:
    add_shared(parser, "--reports")
    option(parser, "--title TITLE", "only runs of this matrix or these specs", default="")
    option(parser, "-n N", f"number of runs (default: {RUNS_SHOWN}; 0: all)", type=NUMBER, default=RUNS_SHOWN)
    add_shared(parser, "--json")
    actions = parser.add_subparsers(title="tags", metavar="tag|untag")
    tag = add_command(actions, "tag", "tag a run", run="runs:run_tag")
    add_shared(tag, "run_name")
    option(tag, "tag NAME", "such as v1.8")
    add_shared(tag, "--reports", default=argparse.SUPPRESS)
    untag = add_command(actions, "untag", "remove a tag", run="runs:run_untag")
    option(untag, "tag NAME")
    add_shared(untag, "--reports", default=argparse.SUPPRESS)


@command(
    "history",
    "print a cell's verdicts over time: failing since, flips, usual duration",
    description="Print a cell's last verdicts, since when it fails, how often its verdict flips (and how often "
    "with identical inputs), and its usual duration.",
)
def _history(parser: ArgumentParser) -> None:
    option(parser, "cell CELL", "as in the reports; 'influxdb/*/6.1' matches several")
    add_shared(parser, "--reports", "--json")


@command(
    "compare",
    "compare two runs: new failures, fixes, durations, inputs",
    description="Compare the cells of a run with those of a baseline that have the same spec, machine, kernel name "
    "and boot mode. Regressions come first. Changed inputs (kernel, image, profile, QEMU, spec) are listed.",
)
def _compare(parser: ArgumentParser) -> None:
    add_shared(parser, "run_name")
    option(
        parser,
        "baseline_name BASELINE",
        "baseline, named in the same way (default: the latest run before RUN)",
        nargs="?",
    )
    add_shared(parser, *BASELINE, "--allow-empty", "--reports")
    option(parser, "--all", "include unchanged cells")
    add_shared(parser, "--json")


@command(
    "prune",
    "remove old runs",
    description="Remove old runs, without confirmation, and print their names. Kept are the newest runs of each "
    "title and always: the latest run, tagged and signed-off runs, their baselines, and runs that may be running.",
)
def _prune(parser: ArgumentParser) -> None:
    add_shared(parser, "--reports")
    option(parser, "--keep N", f"runs per title (default: {PRUNE_KEEP})", type=NUMBER, default=PRUNE_KEEP)
    option(parser, "--dry-run", "only print what would be removed")
    option(parser, "--unreadable", "also remove runs that are damaged, not readable, or of another version's format")


@command(
    "signoff",
    "sign a run off for a release, with a printable page and an attestation; verify it",
    description=SIGNOFF_DESCRIPTION,
    usage="bootmatrix signoff RUN --release NAME [--baseline RUN] [--accept CELL --reason WHY --by WHO]… "
    "[--sign-key KEY | --sign-identity]\n"
    "       bootmatrix signoff verify RUN|REPORT.html [--release NAME] [--key PUBLIC-KEY]\n"
    "       bootmatrix signoff verify RUN|REPORT.html [--release NAME] [--identity NAME --issuer URL]\n"
    "       bootmatrix signoff push RUN --release NAME --image IMAGE [--key … | --identity … --issuer …]",
)
def _signoff(parser: ArgumentParser) -> None:
    option(parser, "words [verify|push] RUN|REPORT.html", f"{RUN_HELP}; verify: also a report that was sent", nargs="+")
    option(parser, "--release NAME", "the release, such as influxdb-1.6.7", default="")
    option(parser, "--baseline RUN", "compare with this run, named in the same way")
    for name, words in (
        ("accept", "accept a cell (or a pattern of cells, 'interrupted', 'not-tested', or 'mixed-products')"),
        ("reason", "the reason, once for each --accept"),
        ("by", "the person, once for each --accept, or once for all"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], metavar=name.upper(), help=words)
    option(parser, "--sign-key KEY", "private key to sign with (PEM; ed25519, ECDSA, RSA)", type=Path)
    option(parser, "--sign-identity", "sign by the identity of the CI job, or of SIGSTORE_ID_TOKEN")
    option(parser, "--no-pdf", "write no PDF")
    option(parser, "--key PUBLIC-KEY", "verify: the public key (PEM)", type=Path)
    option(parser, "--image IMAGE", "push: the tested image, to which the sign-off is attached")
    option(parser, "--identity NAME", "verify: the identity, an address or a workflow's URL")
    option(parser, "--issuer URL", "verify: the issuer of its token")
    option(parser, "--sigstore-trust FILE", "trust configuration of another sigstore than the public one", type=Path)
    add_shared(parser, "--reports")


@command(
    "serve",
    "serve all reports to a browser on this machine, and follow a run live",
    description="Serve the reports on 127.0.0.1, for this machine only, until Ctrl-C. /latest/live follows the "
    "newest run.",
)
def _serve(parser: ArgumentParser) -> None:
    option(parser, "--port N", f"default: {SERVE_PORT}; 0 picks a free one", type=whole(0, 65535), default=SERVE_PORT)
    option(parser, "--base-url URL", "address behind a proxy: https://ci.example.org/bootmatrix/", default="")
    add_shared(parser, "--reports")

"""Options of the commands for CI systems."""

from argparse import ArgumentParser
from pathlib import Path

from bootmatrix.cli.arguments import BASELINE, RUN_HELP, add_shared, command, option

MERGE_DESCRIPTION = """\
Join runs into one with one report: the shards of a matrix, runs of several hosts, or a run and the repetition of its
failed cells. Of several results of a cell a verdict on the guest outranks an error, then the newest counts; the same
inputs that passed and failed are 'flaky'. Duplicates and gaps are printed; a cell without a result gives exit status 3.
"""


@command("merge", "join runs into one, such as shards", description=MERGE_DESCRIPTION)
def _merge(parser: ArgumentParser) -> None:
    option(parser, "run_names RUN", f"{RUN_HELP}, or a folder that contains runs", nargs="+")
    option(parser, "-o --output FOLDER", "the new run's folder (default: one under reports/)", type=Path)
    add_shared(parser, "--single-file", *BASELINE, "--notify", "--reports")


ANNOUNCE_DESCRIPTION = """\
Publish the result of a run on GitHub (by its jobs' variables and GITHUB_TOKEN) or GitLab (GITLAB_TOKEN). A comment is
updated, not repeated. A fault of the network is printed, and the exit status stays 0.
"""


@command(
    "announce", "publish a run's result on GitHub or GitLab: status, comment, issues", description=ANNOUNCE_DESCRIPTION
)
def _announce(parser: ArgumentParser) -> None:
    add_shared(parser, "run_name")
    for name, help_words in (
        ("github-status", "a check run with annotations, or a commit status if the token does not permit it"),
        ("github-comment", "one comment on the pull request"),
        ("github-issues", "on the main branch: an issue for each cell that fails, closed when it passes"),
        ("gitlab-status", "the commit's status"),
        ("gitlab-comment", "one note on the merge request"),
        ("gitlab-issues", "on the main branch: an issue for each cell that fails, closed when it passes"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=help_words)
    add_shared(parser, "--notify")
    option(parser, "--link URL", "where the report is (default: the job's page)", default="")
    add_shared(parser, "--baseline", "--reports")

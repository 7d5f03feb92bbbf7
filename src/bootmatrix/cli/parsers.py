"""The options of all commands. Nothing is imported here that a command needs to run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix.cli import arguments

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Any]

BUILD_DEFAULT_FORMAT = "kernel+initrd"
ARCH_CHECK_SPEC = "hello"
KERNELS_ADD_HELP = """\
SOURCE is a kernel's own file (bzImage, Image, zImage, vmlinux), a build tree, a .deb, .rpm or .apk, tuxmake's folder,
an OCI image (folder or tar), or the URL of such a file. With a transport, such as docker://linuxkit/kernel:6.12, it
is a container image (docs/images.md). Several together are one kernel, such as one package with the
kernel and another one with its modules. What it is shows by its content.
"""
BISECT_DESCRIPTION = """\
Boots the archive's kernels between two, where they halve what is left, until the first one is known on which the spec
has another verdict than on the good one. A kernel that cannot be judged, as it cannot be had or the host is at fault,
is passed over. Exit status: 0 if it is found, 1 if the two ends do not differ, 3 if one of them cannot be judged.
"""
RUNS_SHOWN = 30
PRUNE_KEEP = 30
SIGNOFF_DESCRIPTION = (
    "Sign a run off: a page to print (HTML, and PDF where there is a chromium), an in-toto attestation of the same "
    "content, and the digests of all files of the run, in RUN/signoff/NAME/. A verdict that is not as expected, or an "
    "interruption, has to be accepted by someone, for a reason. 'bootmatrix signoff verify RUN' checks it: exit status "
    "1 if anything was changed since."
)
SERVE_PORT = 8471
SCHEMA_KINDS = ("run", "spec", "guest", "matrix", "profile", "image", "registries")
"""`run`, and the kinds of load/schema.py, which takes the model with it; a test compares them."""


def add_matrix(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser("matrix", help="boot every spec × architecture × kernel, and write a report")
    arguments.add_selection(parser, required=False)
    arguments.add_sources(parser)
    arguments.add_qemu_args(parser)
    arguments.add_allow_empty(parser)
    parser.add_argument("--resume", metavar="RUN", help="run what is missing of a run that was interrupted or killed")
    parser.add_argument(
        "--flaky",
        type=arguments.times,
        metavar="N",
        help="boot what failed up to N times more; what then passes is 'flaky', never a pass",
    )
    add_running(parser)
    parser.set_defaults(command="matrix")


def add_running(parser: argparse.ArgumentParser) -> None:
    """Options of running a plan."""
    parser.add_argument("--jobs", type=int, metavar="N", help="host cores to use (default: all)")
    parser.add_argument(
        "--boot",
        choices=("cold", "fork"),
        help="fork: boot one guest for each machine, kernel and init, and run cells as copies of it (default: cold)",
    )
    parser.add_argument(
        "--verify-fork",
        type=int,
        metavar="N",
        help="with --boot fork: boot N of the cells cold as well, and compare verdicts and results",
    )
    parser.add_argument("--executor", default="local", metavar="NAME", help="what runs the cells (default: this host)")
    arguments.add_single_file(parser)
    arguments.add_baseline(parser)
    arguments.add_reports(parser)
    parser.add_argument(
        "--dump",
        action="store_true",
        help="keep the memory of guests that hang, panic or take too long, for gdb",
    )


def add_plan(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser("plan", help="print the cells of a matrix, and what is skipped and why")
    arguments.add_selection(parser)
    arguments.add_allow_empty(parser)
    parser.set_defaults(command="plan")


def add_run(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "run",
        help="boot one spec with the console on the terminal",
        description="Boot one spec with the console on the terminal, and say what the verdict is. With --shell the "
        "guest does not shut down at its end but gives a shell; leave it with 'poweroff -f', or QEMU with Ctrl-A X.",
    )
    parser.add_argument(
        "files",
        nargs=1,
        metavar="SPEC|FILE|PREFIX",
        help="a spec, a file that 'bootmatrix build' wrote, or the prefix of a kernel and an initrd (PREFIX-kernel, …)",
    )
    arguments.add_single(parser)
    arguments.add_sources(parser)
    arguments.add_qemu_args(parser)
    parser.add_argument(
        "--expect", metavar="TEXT", help="for a guest that is not ours: what its console shows on a pass"
    )
    parser.add_argument("--forbid", action="append", default=[], metavar="TEXT", help="what it must not show")
    parser.add_argument("--stays", action="store_true", help="it does not leave by itself: end it once it showed TEXT")
    parser.add_argument("--shell", action="store_true", help="a shell on the console at the end, and no verdict")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep its console there, the files that it sends, and what is known of it if it hangs or panics",
    )
    parser.add_argument(
        "--dump", action="store_true", help="with --keep: if it hangs or panics, its memory too, for gdb"
    )
    parser.set_defaults(command="run")


def add_build(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "build",
        help="write one cell as kernel and initrd, disk, ISO, cloud image…",
        description="Write one spec for one architecture and kernel, in any of LinuxKit's formats: docs/formats.md. "
        "'bootmatrix run' boots what it wrote.",
    )
    parser.add_argument("files", nargs=1, metavar="SPEC", help="a spec (path or name)")
    arguments.add_single(parser)
    arguments.add_sources(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="PREFIX",
        help="default: SPEC-ARCH-KERNEL in the current folder; '-' writes a format's only file to stdout",
    )
    parser.add_argument(
        "-f",
        "--format",
        type=arguments.names,
        default=(BUILD_DEFAULT_FORMAT,),
        metavar="F,…",
        help=f"formats, or 'list' (default: {BUILD_DEFAULT_FORMAT})",
    )
    parser.add_argument("--sbom", action="store_true", help="write what is in it too, as SPDX: PREFIX.spdx.json")
    parser.set_defaults(command="build")


def add_validate(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser("validate", help="check specs, matrices, profiles and image recipes without building")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.set_defaults(command="validate")


def add_arch(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "arch",
        help="list architectures and machines; check a profile by booting it",
        description="Without more, list architectures, their machines and kernel names.",
    )
    parser.set_defaults(command="arch")
    actions = parser.add_subparsers(metavar="ACTION")
    check = actions.add_parser(
        "check", help=f"validate a profile, and boot '{ARCH_CHECK_SPEC}' on each of its machines"
    )
    check.add_argument("file", type=Path, metavar="FILE", help="a profile, arch/<name>.yml")
    check.add_argument("--machine", type=arguments.names, default=(), metavar="M,…", help="only these machines")
    check.add_argument("--kernel", type=arguments.names, default=(), metavar="K,…", help="kernels (default: one)")
    arguments.add_sources(check)
    add_running(check)
    check.set_defaults(command="arch:run_check", files=[ARCH_CHECK_SPEC])
    new = actions.add_parser("new", help="write the beginning of a profile, of a board that is like another")
    new.add_argument("file", type=Path, metavar="FILE", help="arch/<name>.yml, which is not there yet")
    new.add_argument("--like", required=True, metavar="A[/MACHINE]", help="the machine to begin with")
    new.set_defaults(command="arch:run_new")
    table = actions.add_parser("table", help="what runs showed of each machine and kernel, as a table in Markdown")
    table.add_argument("runs", nargs="*", metavar="RUN", help="runs; of a cell, the boot that was begun last counts")
    table.add_argument(
        "--kept",
        type=Path,
        metavar="FILE",
        help="a file that keeps what earlier runs showed: it is brought up to date, and the table made from it",
    )
    table.add_argument("--spec", type=arguments.names, default=(), metavar="S,…", help="only these specs")
    arguments.add_reports(table)
    table.set_defaults(command="arch:run_table")


def add_kernels(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser("kernels", help="list which kernel names resolve to what; add kernels of your own")
    parser.add_argument("--arch", type=arguments.names, default=(), metavar="A,…", help="only these architectures")
    arguments.add_sources(parser)
    parser.set_defaults(command="kernels")
    actions = parser.add_subparsers(title="kernels of your own, in kernels.yml", metavar="ACTION")
    _add_kernels_add(actions)
    remove = actions.add_parser("remove", help="take a kernel out of kernels.yml")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--arch", dest="one_arch", metavar="A", help="only that of this architecture")
    remove.set_defaults(command="kernels:run_remove")


def _add_kernels_add(actions: Commands) -> None:
    add = actions.add_parser("add", help="add a kernel, pinned by its digest", description=KERNELS_ADD_HELP)
    add.add_argument("name", metavar="NAME", help="what --kernel will call it")
    add.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder or URL")
    add.add_argument("--arch", dest="one_arch", metavar="A", help="its architecture (default: as its first bytes say)")
    add.add_argument("--modules", type=Path, metavar="FOLDER", help="what `make modules_install` filled")
    add.add_argument("--config", type=Path, metavar="FILE", help="its configuration, put at /boot in the guest")
    add.add_argument("--sha256", action="append", default=[], metavar="HEX", help="of each SOURCE; a URL must have it")
    add.add_argument("--follow", action="store_true", help="do not pin it: take it as it is at each run")
    arguments.add_sources(add)
    add.set_defaults(command="kernels:run_add")


def add_fetch(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser("fetch", help="download and build what a matrix needs, without booting")
    arguments.add_selection(parser)
    arguments.add_allow_empty(parser)
    arguments.add_sources(parser)
    parser.set_defaults(command="fetch", refresh=True)


def add_lock(commands: Commands) -> None:
    """The command's arguments."""
    words = "write the exact kernels, packages and registry images of a matrix to a file for --locked"
    parser = commands.add_parser("lock", help=words)
    arguments.add_selection(parser)
    arguments.add_allow_empty(parser)
    arguments.add_sources(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: MATRIX with .lock for .yml")
    parser.set_defaults(command="lock", refresh=True)


def add_report(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "report",
        help="write the report of a saved run again, even of an interrupted one, or print it in another form",
        description="Write the report of a saved run again, even of an interrupted one. With --format print it in that "
        "form, and write nothing.",
    )
    parser.add_argument("run_name", metavar="RUN", help=f"{arguments.RUN_HELP}, or any run's folder")
    arguments.add_single_file(parser)
    parser.add_argument(
        "--format",
        metavar="FORM",
        help="print this form: md, junit, tap, csv, openmetrics, json, or html, a single file that stands alone",
    )
    arguments.add_baseline(parser)
    arguments.add_reports(parser)
    parser.set_defaults(command="report")


def add_judge(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser("judge", help="judge the cells of a saved run again, from what was recorded")
    parser.add_argument("run_name", metavar="RUN", help=f"{arguments.RUN_HELP}, or any run's folder")
    arguments.add_reports(parser)
    parser.set_defaults(command="judge")


def add_bisect(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "bisect", help="find the first kernel of the archive that breaks a spec", description=BISECT_DESCRIPTION
    )
    parser.add_argument("spec", metavar="SPEC", help="a spec (path or name)")
    parser.add_argument("--arch", required=True, metavar="A[/MACHINE]", help="one architecture")
    parser.add_argument("--good", required=True, metavar="VERSION", help="a version, or its beginning: 6.12.43")
    parser.add_argument("--bad", required=True, metavar="VERSION", help="another one, newer or older")
    parser.add_argument("--kernel", default="", metavar="K", help="whose flavour to take (default: by the version)")
    arguments.add_sources(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="host cores to use (default: all)")
    parser.add_argument("--reports", type=Path, metavar="FOLDER", help="where runs are kept (default: reports)")
    parser.set_defaults(command="bisect")


def add_runs(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "runs",
        help="list the runs that are kept; tag them",
        description="List the runs that are kept, newest first. A tag names a run for --baseline tag:NAME, and keeps "
        "'bootmatrix prune' from removing it.",
    )
    arguments.add_reports(parser)
    parser.add_argument("--title", default="", help="only runs of this matrix or these specs")
    parser.add_argument(
        "-n", type=int, default=RUNS_SHOWN, metavar="N", help=f"how many (default: {RUNS_SHOWN}; 0: all)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command="runs")
    actions = parser.add_subparsers(title="tags", metavar="tag|untag")
    tag = actions.add_parser("tag", help="give a run a tag")
    tag.add_argument("run_name", metavar="RUN", help=arguments.RUN_HELP)
    tag.add_argument("tag", metavar="NAME", help="such as v1.8")
    arguments.add_reports(tag, below=True)
    tag.set_defaults(command="runs:run_tag")
    untag = actions.add_parser("untag", help="take a tag away")
    untag.add_argument("tag", metavar="NAME")
    arguments.add_reports(untag, below=True)
    untag.set_defaults(command="runs:run_untag")


def add_history(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "history",
        help="a cell's verdicts over time: since when it fails, how often it flips, its usual duration",
        description="A cell's last verdicts, since when it fails, how often its verdict flips (and how often with "
        "exactly the same inputs), and how long it usually takes.",
    )
    parser.add_argument("cell", metavar="CELL", help="as reports show it; 'influxdb/*/6.1' means several")
    arguments.add_reports(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command="history")


def add_compare(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "compare",
        help="what changed between two runs: new failures, fixes, durations, inputs",
        description="Compare the cells of a run with the same cells of a baseline: the same spec, machine, kernel name "
        "and way of booting. Regressions come first. Other inputs (kernel, image, profile, QEMU, spec) are named.",
    )
    parser.add_argument("run_name", metavar="RUN", help=arguments.RUN_HELP)
    parser.add_argument("baseline_name", nargs="?", metavar="BASELINE", help="the same (default: latest, before RUN)")
    arguments.add_baseline(parser)
    arguments.add_allow_empty(parser)
    arguments.add_reports(parser)
    parser.add_argument("--all", action="store_true", help="also cells in which nothing changed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command="compare")


def add_prune(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "prune",
        help="remove old runs",
        description="Remove old runs. Kept are, of each title, the newest ones, and always: the latest, those that are "
        "tagged or signed off, what they were compared with, and one that may be under way. It asks nothing, and says "
        "what it removed.",
    )
    arguments.add_reports(parser)
    parser.add_argument(
        "--keep", type=int, default=PRUNE_KEEP, metavar="N", help=f"of each title (default: {PRUNE_KEEP})"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    parser.set_defaults(command="prune")


def add_signoff(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "signoff",
        help="sign a run off for a release: a page to print and an attestation; verify it",
        description=SIGNOFF_DESCRIPTION,
        usage="bootmatrix signoff RUN --release NAME [--baseline RUN] [--accept CELL --reason WHY --by WHO]… "
        "[--sign-key KEY]\n       bootmatrix signoff verify RUN [--release NAME] [--key PUBLIC-KEY]",
    )
    parser.add_argument("words", nargs="+", metavar="[verify] RUN", help=arguments.RUN_HELP)
    parser.add_argument("--release", default="", metavar="NAME", help="what is released, such as influxdb-1.6.7")
    parser.add_argument("--baseline", metavar="RUN", help="compare with this run: the same")
    for name, what in (
        ("accept", "a cell (or a pattern of cells, or 'interrupted')"),
        ("reason", "why, once for each --accept"),
        ("by", "who says so, once for each --accept, or once for all"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], metavar=name.upper(), help=what)
    parser.add_argument(
        "--sign-key", type=Path, metavar="KEY", help="private key to sign with (PEM; ed25519, ECDSA, RSA)"
    )
    parser.add_argument("--no-pdf", action="store_true", help="make no PDF")
    parser.add_argument("--key", type=Path, metavar="PUBLIC-KEY", help="verify: the public key (PEM)")
    arguments.add_reports(parser)
    parser.set_defaults(command="signoff")


def add_serve(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "serve",
        help="show all reports in a browser, and follow a run live",
        description="Serve the reports on 127.0.0.1, for this machine only, until Ctrl-C. /latest/live follows the "
        "newest run as its cells are done.",
    )
    parser.add_argument(
        "--port", type=int, default=SERVE_PORT, metavar="N", help=f"default: {SERVE_PORT}; 0 takes a free one"
    )
    arguments.add_reports(parser)
    parser.set_defaults(command="serve")


def add_schema(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON schema of run.json, or of the files that you write",
        description="Print the JSON schema of run.json, for programs that read it, or of a spec, a matrix, a profile "
        "or an image recipe, for editors.",
    )
    parser.add_argument("kind", choices=SCHEMA_KINDS, help="run.json, or a kind of file")
    parser.set_defaults(command="schema")


def add_doctor(commands: Commands) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "doctor",
        help="say what the host lacks, and how to install it",
        description="Say what the host has and lacks, with the command that installs it. Exit status 3 if something "
        "that is needed is lacking. KVM is not needed; where there is /dev/kvm, a guest is booted to see if it works.",
    )
    arguments.add_sources(parser)
    parser.set_defaults(command="doctor")


ADDERS = {
    "matrix": add_matrix,
    "plan": add_plan,
    "run": add_run,
    "build": add_build,
    "validate": add_validate,
    "arch": add_arch,
    "kernels": add_kernels,
    "fetch": add_fetch,
    "lock": add_lock,
    "report": add_report,
    "judge": add_judge,
    "bisect": add_bisect,
    "runs": add_runs,
    "history": add_history,
    "compare": add_compare,
    "prune": add_prune,
    "signoff": add_signoff,
    "serve": add_serve,
    "schema": add_schema,
    "doctor": add_doctor,
}
"""What adds a command's options, by its name, in the order of the help."""

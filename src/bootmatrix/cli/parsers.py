"""Options of all commands. Imports nothing that only the commands need."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix.cli import arguments, ci_parsers, cloud_parsers, guest_parsers
from bootmatrix.cli.hosts_parsers import add_hosts
from bootmatrix.cli.parsers_try import add_completion, add_new, add_try
from bootmatrix.cli.upkeep_parsers import add_accept, add_cache

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Any]

BUILD_DEFAULT_FORMAT = "kernel+initrd"
ARCH_CHECK_SPEC = "hello"
KERNELS_ADD_HELP = """\
SOURCE is a kernel file (bzImage, Image, zImage, vmlinux), a build tree, a .deb, .rpm or .apk, tuxmake's folder, an OCI
image (folder or tar), or the URL of such a file. With a transport, such as docker://linuxkit/kernel:6.12, it is a
container image (docs/images.md). Several sources form one kernel, such as a package with the kernel and another with
its modules. The kind is detected from the content.
"""
BISECT_DESCRIPTION = """\
Boots the archive's kernels between two versions, halving the range until it has the first kernel on which the spec has
another verdict than on the good one. Kernels without a verdict (not available, or a fault of the host) are skipped.
Exit status: 0 if the kernel is found, 1 if both ends have the same verdict, 3 if an end has no verdict.
"""
RUNS_SHOWN = 30
PRUNE_KEEP = 30
SIGNOFF_DESCRIPTION = (
    "Sign a run off for a release: a printable page (HTML, and PDF if chromium is installed), an in-toto attestation "
    "of the same content, and the digests of all files of the run, in RUN/signoff/NAME/. An unexpected verdict or an "
    "interruption must be accepted by a person, for a reason. 'bootmatrix signoff verify RUN' verifies it: exit status "
    "1 if anything has changed."
)
SERVE_PORT = 8471
SCHEMA_KINDS = ("run", "spec", "guest", "matrix", "profile", "catalogue", "image", "registries", "cluster")
"""`run`, and the kinds of load.schema, repeated because importing it is slow; a test compares them."""


def add_matrix(commands: Commands) -> None:
    """Add the options of `matrix`."""
    parser = commands.add_parser("matrix", help="boot every spec × architecture × kernel, and write a report")
    arguments.add_selection(parser, required=False)
    arguments.add_facts(parser)
    arguments.add_size(parser)
    arguments.add_subset(parser)
    arguments.add_sources(parser)
    arguments.add_qemu_args(parser)
    arguments.add_allow_empty(parser)
    parser.add_argument(
        "--resume", metavar="RUN", help=f"finish a run that was interrupted or killed: {arguments.RUN_HELP}"
    )
    arguments.add_flaky(parser)
    arguments.add_fail_on_warning(parser)
    arguments.add_running(parser)
    parser.set_defaults(command="matrix")


def add_plan(commands: Commands) -> None:
    """Add the options of `plan`."""
    parser = commands.add_parser("plan", help="print the cells of a matrix, and the skipped ones with the reason")
    arguments.add_selection(parser)
    arguments.add_facts(parser)
    arguments.add_size(parser)
    arguments.add_subset(parser)
    arguments.add_reports(parser)
    arguments.add_allow_empty(parser)
    parser.set_defaults(command="plan")


def add_run(commands: Commands) -> None:
    """Add the options of `run`."""
    parser = commands.add_parser(
        "run",
        help="boot one spec with the console on the terminal",
        description="Boot one spec with the console on the terminal, and print the verdict. With --shell the guest "
        "does not shut down but starts a shell; leave it with 'poweroff -f', or QEMU with Ctrl-A X.",
    )
    parser.add_argument(
        "files",
        nargs=1,
        metavar="SPEC|FILE|PREFIX",
        help="a spec, an output of 'bootmatrix build', or the prefix of a kernel and an initrd (PREFIX-kernel, …)",
    )
    arguments.add_single(parser)
    arguments.add_size(parser)
    arguments.add_sources(parser)
    arguments.add_qemu_args(parser)
    arguments.add_roots(parser)
    arguments.add_fail_on_warning(parser)
    parser.add_argument(
        "--expect", metavar="TEXT", help="for a guest with another init: the console text that proves a pass"
    )
    parser.add_argument(
        "--forbid", action="append", default=[], metavar="TEXT", help="console text that fails the guest"
    )
    parser.add_argument("--stays", action="store_true", help="the guest does not shut down: stop it after TEXT")
    parser.add_argument(
        "--gdb",
        nargs="?",
        type=int,
        const=1234,
        metavar="PORT",
        help="let the guest wait for gdb on this port of the loopback (default: 1234); no verdict",
    )
    arguments.add_git_bisect(parser)
    cloud_parsers.add_on(parser)
    parser.add_argument("--shell", action="store_true", help="start a shell on the console at the end; no verdict")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="save the console, the guest's files, and diagnostics of a hang or panic",
    )
    parser.add_argument(
        "--dump", action="store_true", help="with --keep: save the memory of a guest that hangs or panics, for gdb"
    )
    parser.set_defaults(command="run")


def add_build(commands: Commands) -> None:
    """Add the options of `build`."""
    parser = commands.add_parser(
        "build",
        help="write one cell as kernel and initrd, disk, ISO, cloud image…",
        description="Write one spec for one architecture and kernel, in any of LinuxKit's formats: docs/formats.md. "
        "'bootmatrix run' boots the result.",
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
    parser.add_argument("--sbom", action="store_true", help="also write an SPDX SBOM: PREFIX.spdx.json")
    parser.set_defaults(command="build")


def add_validate(commands: Commands) -> None:
    """Add the options of `validate`."""
    parser = commands.add_parser("validate", help="check specs, matrices, profiles and image recipes without building")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.set_defaults(command="validate")


def add_arch(commands: Commands) -> None:
    """Add the options of `arch`."""
    parser = commands.add_parser(
        "arch",
        help="list architectures and machines; check a profile by booting it",
        description="Without an action, list architectures, their machines and kernel names.",
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
    arguments.add_running(check)
    check.set_defaults(command="arch:run_check", files=[ARCH_CHECK_SPEC])
    new = actions.add_parser("new", help="create a profile from a similar board's")
    new.add_argument("file", type=Path, metavar="FILE", help="arch/<name>.yml, a new file")
    new.add_argument("--like", required=True, metavar="A[/MACHINE]", help="the machine to copy")
    new.set_defaults(command="arch:run_new")
    table = actions.add_parser("table", help="print the results of runs by machine and kernel, as Markdown")
    table.add_argument("runs", nargs="*", metavar="RUN", help="runs; a cell's latest result counts")
    table.add_argument(
        "--kept",
        type=Path,
        metavar="FILE",
        help="a file with the results of earlier runs, which is updated and included",
    )
    table.add_argument("--spec", type=arguments.names, default=(), metavar="S,…", help="only these specs")
    arguments.add_reports(table)
    table.set_defaults(command="arch:run_table")


def add_kernels(commands: Commands) -> None:
    """Add the options of `kernels`."""
    parser = commands.add_parser("kernels", help="list the kernel names and what they resolve to; add custom kernels")
    parser.add_argument("--arch", type=arguments.names, default=(), metavar="A,…", help="only these architectures")
    arguments.add_sources(parser)
    parser.add_argument("--distro", default="", metavar="NAME", help="only those of kernels/NAME.yml, or all of these")
    parser.add_argument("--facts", action="store_true", help="page size, HZ, preemption, address width, configuration")
    parser.set_defaults(command="kernels")
    actions = parser.add_subparsers(title="custom kernels and catalogues", metavar="ACTION")
    _add_kernels_add(actions)
    check = actions.add_parser("check", help="try the kernels of distributions against their servers, as a table")
    check.add_argument("names", nargs="*", metavar="DISTRIBUTION", help="the name of a catalogue")
    check.add_argument("--all", action="store_true", help="all catalogues")
    check.add_argument("--arch", type=arguments.names, default=(), metavar="A,…", help="only these architectures")
    arguments.add_sources(check)
    check.set_defaults(command="catalogues:run_check")
    fragment = actions.add_parser(
        "fragment",
        help="print the options of the kernel's configuration that guests need, for merge_config.sh",
        description="Print options for a kernel's configuration: scripts/kconfig/merge_config.sh .config FRAGMENT.",
    )
    fragment.add_argument("machine", metavar="ARCH[/MACHINE]", help="the architecture, or one of its machines")
    fragment.add_argument(
        "--for",
        dest="purposes",
        type=arguments.names,
        default=("containers",),
        metavar="P,…",
        help="containers (default), agent, kunit",
    )
    fragment.set_defaults(command="kernels:run_fragment")
    remove = actions.add_parser("remove", help="remove a kernel from kernels.yml")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--arch", dest="one_arch", metavar="A", help="only for this architecture")
    remove.set_defaults(command="kernels:run_remove")


def _add_kernels_add(actions: Commands) -> None:
    add = actions.add_parser("add", help="add a kernel, pinned by its digest", description=KERNELS_ADD_HELP)
    add.add_argument("name", metavar="NAME", help="name for --kernel")
    add.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder or URL")
    add.add_argument("--arch", dest="one_arch", metavar="A", help="its architecture (default: detected)")
    add.add_argument("--modules", type=Path, metavar="FOLDER", help="output folder of `make modules_install`")
    add.add_argument("--config", type=Path, metavar="FILE", help="its configuration, for /boot in the guest")
    add.add_argument("--sha256", action="append", default=[], metavar="HEX", help="for each SOURCE; required for a URL")
    add.add_argument("--follow", action="store_true", help="do not pin it: read it again for each run")
    arguments.add_sources(add)
    add.set_defaults(command="kernels:run_add")


def add_fetch(commands: Commands) -> None:
    """Add the options of `fetch`."""
    parser = commands.add_parser("fetch", help="download and build everything for a matrix, without booting")
    arguments.add_selection(parser)
    arguments.add_allow_empty(parser)
    arguments.add_sources(parser)
    parser.set_defaults(command="fetch", refresh=True)


def add_lock(commands: Commands) -> None:
    """Add the options of `lock`."""
    words = "write the exact kernels, packages and registry images of a matrix to a lock file, for --locked"
    parser = commands.add_parser("lock", help=words)
    arguments.add_selection(parser)
    arguments.add_allow_empty(parser)
    arguments.add_sources(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: MATRIX with .lock for .yml")
    parser.set_defaults(command="lock", refresh=True)


def add_report(commands: Commands) -> None:
    """Add the options of `report`."""
    parser = commands.add_parser(
        "report",
        help="write the report of a saved run again, or print it in another form",
        description="Write the report of a saved run again, even of an interrupted one. With --format, print it in "
        "that form instead.",
    )
    parser.add_argument("run_name", metavar="RUN", help=f"{arguments.RUN_HELP}, or any run's folder")
    arguments.add_single_file(parser)
    parser.add_argument(
        "--format",
        metavar="FORM",
        help="print this form: md, junit, tap, csv, openmetrics, json, github (annotations), or html (one file)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="with --format: write it to a file, whole or not at all"
    )
    arguments.add_baseline(parser)
    arguments.add_reports(parser)
    parser.set_defaults(command="report")


def add_judge(commands: Commands) -> None:
    """Add the options of `judge`."""
    parser = commands.add_parser("judge", help="repeat the verdicts of a saved run from the recorded data")
    parser.add_argument("run_name", metavar="RUN", help=f"{arguments.RUN_HELP}, or any run's folder")
    arguments.add_reports(parser)
    parser.set_defaults(command="judge")


def add_bisect(commands: Commands) -> None:
    """Add the options of `bisect`."""
    parser = commands.add_parser(
        "bisect", help="find the first kernel of the archive that breaks a spec", description=BISECT_DESCRIPTION
    )
    parser.add_argument("spec", metavar="SPEC", help="a spec (path or name)")
    parser.add_argument("--arch", required=True, metavar="A[/MACHINE]", help="one architecture")
    parser.add_argument("--good", required=True, metavar="VERSION", help="a version or its prefix: 6.12.43")
    parser.add_argument("--bad", required=True, metavar="VERSION", help="a newer or older version")
    parser.add_argument("--kernel", default="", metavar="K", help="kernel name with the flavour (default: by version)")
    parser.add_argument("--distro", default="", metavar="NAME", help="through the releases of a distribution")
    arguments.add_sources(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="host cores to use (default: all)")
    parser.add_argument("--reports", type=Path, metavar="FOLDER", help="folder of runs (default: reports)")
    parser.set_defaults(command="bisect")


def add_runs(commands: Commands) -> None:
    """Add the options of `runs`."""
    parser = commands.add_parser(
        "runs",
        help="list runs; tag and untag them",
        description="List runs, newest first. A tag names a run for --baseline tag:NAME, and protects it from "
        "'bootmatrix prune'.",
    )
    arguments.add_reports(parser)
    parser.add_argument("--title", default="", help="only runs of this matrix or these specs")
    parser.add_argument(
        "-n", type=int, default=RUNS_SHOWN, metavar="N", help=f"number of runs (default: {RUNS_SHOWN}; 0: all)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command="runs")
    actions = parser.add_subparsers(title="tags", metavar="tag|untag")
    tag = actions.add_parser("tag", help="tag a run")
    tag.add_argument("run_name", metavar="RUN", help=arguments.RUN_HELP)
    tag.add_argument("tag", metavar="NAME", help="such as v1.8")
    arguments.add_reports(tag, subcommand=True)
    tag.set_defaults(command="runs:run_tag")
    untag = actions.add_parser("untag", help="remove a tag")
    untag.add_argument("tag", metavar="NAME")
    arguments.add_reports(untag, subcommand=True)
    untag.set_defaults(command="runs:run_untag")


def add_history(commands: Commands) -> None:
    """Add the options of `history`."""
    parser = commands.add_parser(
        "history",
        help="print a cell's verdicts over time: failing since, flips, usual duration",
        description="Print a cell's last verdicts, since when it fails, how often its verdict flips (and how often "
        "with identical inputs), and its usual duration.",
    )
    parser.add_argument("cell", metavar="CELL", help="as in the reports; 'influxdb/*/6.1' matches several")
    arguments.add_reports(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command="history")


def add_compare(commands: Commands) -> None:
    """Add the options of `compare`."""
    parser = commands.add_parser(
        "compare",
        help="compare two runs: new failures, fixes, durations, inputs",
        description="Compare the cells of a run with those of a baseline that have the same spec, machine, kernel name "
        "and boot mode. Regressions come first. Changed inputs (kernel, image, profile, QEMU, spec) are listed.",
    )
    parser.add_argument("run_name", metavar="RUN", help=arguments.RUN_HELP)
    parser.add_argument("baseline_name", nargs="?", metavar="BASELINE", help="the same (default: latest before RUN)")
    arguments.add_baseline(parser)
    arguments.add_allow_empty(parser)
    arguments.add_reports(parser)
    parser.add_argument("--all", action="store_true", help="include unchanged cells")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command="compare")


def add_prune(commands: Commands) -> None:
    """Add the options of `prune`."""
    parser = commands.add_parser(
        "prune",
        help="remove old runs",
        description="Remove old runs, without confirmation, and print their names. Kept are the newest runs of each "
        "title and always: the latest run, tagged and signed-off runs, their baselines, and runs that may be running.",
    )
    arguments.add_reports(parser)
    parser.add_argument(
        "--keep", type=int, default=PRUNE_KEEP, metavar="N", help=f"runs per title (default: {PRUNE_KEEP})"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    parser.add_argument(
        "--unreadable",
        action="store_true",
        help="also remove runs that are damaged, not readable, or of another version's format",
    )
    parser.set_defaults(command="prune")


def add_signoff(commands: Commands) -> None:
    """Add the options of `signoff`."""
    parser = commands.add_parser(
        "signoff",
        help="sign a run off for a release, with a printable page and an attestation; verify it",
        description=SIGNOFF_DESCRIPTION,
        usage="bootmatrix signoff RUN --release NAME [--baseline RUN] [--accept CELL --reason WHY --by WHO]… "
        "[--sign-key KEY]\n       bootmatrix signoff verify RUN [--release NAME] [--key PUBLIC-KEY]",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="[verify] RUN|REPORT.html",
        help=f"{arguments.RUN_HELP}; verify: also a report that was sent",
    )
    parser.add_argument("--release", default="", metavar="NAME", help="the release, such as influxdb-1.6.7")
    parser.add_argument("--baseline", metavar="RUN", help="compare with this run: the same")
    for name, words in (
        ("accept", "accept a cell (or a pattern of cells, 'interrupted', or 'not-tested')"),
        ("reason", "the reason, once for each --accept"),
        ("by", "the person, once for each --accept, or once for all"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], metavar=name.upper(), help=words)
    parser.add_argument(
        "--sign-key", type=Path, metavar="KEY", help="private key to sign with (PEM; ed25519, ECDSA, RSA)"
    )
    parser.add_argument("--no-pdf", action="store_true", help="write no PDF")
    parser.add_argument("--key", type=Path, metavar="PUBLIC-KEY", help="verify: the public key (PEM)")
    arguments.add_reports(parser)
    parser.set_defaults(command="signoff")


def add_serve(commands: Commands) -> None:
    """Add the options of `serve`."""
    parser = commands.add_parser(
        "serve",
        help="serve all reports to a browser on this machine, and follow a run live",
        description="Serve the reports on 127.0.0.1, for this machine only, until Ctrl-C. /latest/live follows the "
        "newest run.",
    )
    parser.add_argument(
        "--port", type=int, default=SERVE_PORT, metavar="N", help=f"default: {SERVE_PORT}; 0 picks a free one"
    )
    parser.add_argument(
        "--base-url", default="", metavar="URL", help="address behind a proxy: https://ci.example.org/bootmatrix/"
    )
    arguments.add_reports(parser)
    parser.set_defaults(command="serve")


def add_schema(commands: Commands) -> None:
    """Add the options of `schema`."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON schema of run.json, or of users' files",
        description="Print the JSON schema of run.json, for programs that read it, or of a spec, a matrix, a profile "
        "or an image recipe, for editors.",
    )
    parser.add_argument("kind", choices=SCHEMA_KINDS, help="run.json, or a kind of file")
    parser.set_defaults(command="schema")


def add_doctor(commands: Commands) -> None:
    """Add the options of `doctor`."""
    parser = commands.add_parser(
        "doctor",
        help="check the host, and print how to install what is missing",
        description="Check the host, and print how to install what is missing. Exit status 3 if something needed is "
        "missing. KVM is optional; if /dev/kvm exists, a guest is booted to test it.",
    )
    arguments.add_sources(parser)
    parser.set_defaults(command="doctor")


ADDERS = {
    "try": add_try,
    "new": add_new,
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
    "merge": ci_parsers.add_merge,
    "announce": ci_parsers.add_announce,
    "accept": add_accept,
    "prune": add_prune,
    "cache": add_cache,
    "signoff": add_signoff,
    "serve": add_serve,
    "schema": add_schema,
    "doctor": add_doctor,
    "push": cloud_parsers.add_push,
    "cloud": cloud_parsers.add_cloud,
    "cost": cloud_parsers.add_cost,
    "hosts": add_hosts,
    "exec": guest_parsers.add_exec,
    "shell": guest_parsers.add_shell,
    "cp": guest_parsers.add_cp,
    "forward": guest_parsers.add_forward,
    "guests": guest_parsers.add_guests,
    "completion": add_completion,
}
"""Functions that add a command's options, by command, in the order of the help."""

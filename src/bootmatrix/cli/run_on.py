"""`bootmatrix run --on`: run one spec in a container engine or a cloud."""

import argparse
from functools import partial
from pathlib import Path

from bootmatrix.assembly.export import BUILT
from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import BAD_INPUT, EXPECTED, NOT_EXPECTED, OUR_FAULT
from bootmatrix.cli.output import console_lines, say
from bootmatrix.cloud import place as clouds
from bootmatrix.cloud.docker import DockerPlace
from bootmatrix.cloud.root import ForeignPrograms, build_root
from bootmatrix.cloud.talk import Talk
from bootmatrix.errors import InfraError, InputError
from bootmatrix.judge.elsewhere import judge_signed
from bootmatrix.load.cluster import load_cloud_machine
from bootmatrix.load.profile import find_machine
from bootmatrix.model import Bootable, Built, Judgement, Timeouts, Verdict
from bootmatrix.model.cluster import CloudMachine, CloudRun
from bootmatrix.model.durations import duration_s
from bootmatrix.report.sanitize import one_line
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.store import Store, healed, temporary_folder
from bootmatrix.workspace.selection import Selection

BOOT_S = 240
"""Seconds that a cloud takes to give a machine and to show its console, beside the limits of the spec."""
QEMU_ONLY = (
    *("shell", "gdb", "expect", "forbid", "stays", "dump", "git_bisect", "build", "match", "qemu_args"),
    *("memory", "cpus", "disk", "append", "network", "fail_on_warning"),
)
"""Options that need a guest in QEMU."""


def run_on(args: argparse.Namespace) -> int:
    """Build and run a spec elsewhere; return the exit status as `run` does.

    Raises InputError if options do not go together.
    """
    refused = [name for name in QEMU_ONLY if _is_set(args, name)]
    if refused:
        raise InputError(f"--on {args.on} cannot be combined with --{refused[0].replace('_', '-')}")
    with temporary_folder() as folder:
        if args.keep:
            options.results_folder(args.keep)
        on = _on_docker if args.on == "docker" else _in_cloud
        judgement = on(args, folder, args.keep or folder)
    say(f"\n{judgement.verdict}: {one_line(judgement.reason)}")
    if judgement.advice:
        say(judgement.advice)
    if judgement.verdict in {Verdict.PASS, Verdict.USER_PASS}:
        return EXPECTED
    if judgement.verdict is Verdict.SKIP:
        return BAD_INPUT
    return NOT_EXPECTED if judgement.verdict.is_tested else OUR_FAULT


def _is_set(args: argparse.Namespace, name: str) -> bool:
    value = getattr(args, name, None)
    return bool(value) or (name == "gdb" and value is not None)


def _on_docker(args: argparse.Namespace, _folder: Path, results: Path) -> Judgement:
    place = DockerPlace()
    chosen = Selection(tier=("docker",), needs_qemu=False, must_test=False)
    planned = options.workspace(args).plan_single(args.files[0], args.arch, args.kernel, chosen)
    (cell,) = planned.cells
    with download_progress() as downloads, options.workspace(args).open_context(planned, downloads) as context:
        build = partial(build_root, context.specs[cell.spec], context.profiles[cell.arch], context.builder)
        root, bootable = healed(build)
    try:
        with console_lines() as feed:
            talk = Talk(limit_s(args, bootable), feed)
            place.run(root, talk)
    except ForeignPrograms as error:
        raise InfraError(str(error)) from error
    (results / CONSOLE_FILE).write_bytes(talk.transcript)
    bootable = bootable.model_copy(update={"kernel_release": place.kernel})
    return judge_signed(place.name, talk.outcome(), bootable, bytes(talk.transcript))


def _in_cloud(args: argparse.Namespace, folder: Path, results: Path) -> Judgement:
    place, machine = open_place(args.on, args)
    prefix = folder / "run"
    bootable = build(args, machine.format, prefix)
    clouds.check_spec(bootable)
    disk = prefix.with_name(prefix.name + machine.suffix)
    pace = clouds.CloudPace(limit_s(args, bootable) + BOOT_S, args.poll, args.console_lag)
    with console_lines() as feed:
        judgement, console = clouds.run(place, disk, bootable, pace, feed)
    (results / CONSOLE_FILE).write_bytes(console)
    return judgement


def open_place(name: str, args: argparse.Namespace, keep: bool = False) -> tuple[clouds.Place, CloudMachine]:
    """Open a cloud for an architecture.

    Raises InputError if the cloud has no machine for it, HostError if its library or credentials are missing.
    """
    profile, _ = find_machine(options.profiles(), args.arch)
    machine = load_cloud_machine(name, profile)
    return _open(name, args, machine, keep), machine


def open_to_sweep(name: str, args: argparse.Namespace) -> clouds.Place:
    """Open a cloud without a machine, to remove things there.

    Raises HostError if its library or credentials are missing.
    """
    return _open(name, args, None, False)


def _open(name: str, args: argparse.Namespace, machine: CloudMachine | None, keep: bool) -> clouds.Place:
    choice = CloudRun(
        region=args.region or "",
        project=args.project or "",
        bucket=args.bucket or "",
        instance_type=args.instance_type or "",
        spot=args.spot,
    )
    if name == "aws":
        from bootmatrix.cloud.aws import AwsPlace

        return AwsPlace(machine, choice, Store(options.workspace(args).cache_folder).own_folder("uploads"), keep)
    from bootmatrix.cloud.gcp import GcpPlace

    return GcpPlace(machine, choice, keep)


def build(args: argparse.Namespace, form: str, prefix: Path) -> Bootable:
    """Build a spec in a format; return its bootable."""
    with download_progress() as downloads:
        options.workspace(args).build(
            args.files[0], arch=args.arch, kernel=args.kernel, formats=(form,), prefix=prefix, observer=downloads
        )
    return Built.model_validate_json(prefix.with_name(prefix.name + BUILT).read_bytes()).bootable


def limit_s(args: argparse.Namespace, bootable: Bootable) -> float:
    """Return the limit of a whole run: --timeout, or that of all phases."""
    if args.timeout is not None:
        return duration_s(args.timeout)
    limits = Timeouts()
    return limits.boot + limits.onboot + limits.services + limits.shutdown + max(bootable.checks.values(), default=0)

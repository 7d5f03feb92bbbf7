"""`bootmatrix try`: run anything on every architecture and kernel."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bootmatrix.cli import options
from bootmatrix.cli.output import say
from bootmatrix.cli.written_matrix import check_written, plan_written, run_written, size_keys
from bootmatrix.errors import QemuMissing, QemuTooOld
from bootmatrix.load.catalogue import with_catalogues
from bootmatrix.load.facts import ALL
from bootmatrix.model import Cell, Profile
from bootmatrix.qemu.version import qemu_fault
from bootmatrix.scaffold.thing import Thing, find_thing
from bootmatrix.scaffold.trial import ImageLooks
from bootmatrix.scaffold.trial_request import TrialRequest
from bootmatrix.workspace.selection import FACTS, Selection, board_targets
from bootmatrix.workspace.trial import find_image_faults, find_image_ports, prepare_trial


def run(args: argparse.Namespace) -> int:
    """Write the project of a trial, run its matrix, and return the exit status."""
    workspace = options.workspace(args)
    profiles = with_catalogues(workspace.profiles(), args.kernel)
    request = replace(_request(args, profiles), reports=workspace.reports_folder)

    def image_faults(image: str, cells: Sequence[Cell]) -> dict[str, str]:
        booted = cells if "system" in (args.tier or ("system",)) else ()
        machines = [profiles[cell.arch].machine(cell.machine) for cell in booted]
        check_written(args, workspace, [one for one in machines if not isinstance(qemu_fault(one), QemuTooOld)])
        archs = dict.fromkeys(cell.arch for cell in cells)
        return find_image_faults(image, archs, profiles, workspace.sources())

    def image_ports(image: str, archs: Sequence[str]) -> tuple[int, ...]:
        return find_image_ports(image, archs, profiles, workspace.sources())

    def image_archs(image: str) -> list[str]:
        faults = find_image_faults(image, profiles, profiles, workspace.sources())
        return [arch for arch in profiles if arch not in faults]

    looks = ImageLooks(image_faults, image_ports, image_archs)
    matrix, notes = prepare_trial(request, profiles, workspace.cache, args.save, looks)
    if args.save:
        say(f"Saved: {matrix}. To run it: bootmatrix matrix {shlex.quote(str(matrix))}")
    network = None if args.network == "outbound" else args.network  # which the written spec has
    planned = plan_written(args, workspace, matrix, notes, network)
    return run_written(args, workspace, planned)


def _request(args: argparse.Namespace, profiles: dict[str, Profile]) -> TrialRequest:
    thing = find_thing(args.things)
    selection = Selection(arch=args.arch, machine=args.machine)
    named = board_targets(selection)
    targets = named or _default_targets(thing, profiles)
    return TrialRequest(
        thing=thing,
        words=tuple(args.words),
        arch=_present(targets, profiles),
        is_explicit=_is_explicit(args),
        is_open=not named,
        kernel=args.kernel,
        image=args.base,
        packages=args.packages,
        prepare=tuple(args.prepare),
        systemd=args.systemd,
        env=tuple(args.env),
        results=tuple(args.get),
        service=args.service or "",
        stays=args.stays or "",
        port=args.port,
        path=args.http or "",
        timeout=args.timeout or "",
        outbound=args.network == "outbound",
        no_ignore=args.no_ignore,
        keys=_matrix_keys(args),
    )


def _is_explicit(args: argparse.Namespace) -> bool:
    """Return whether each named architecture must be possible."""
    is_default = vars(args).get("arch_is_default", False)
    return bool(args.arch) and not is_default and not any(name.partition("/")[0] == ALL for name in args.arch)


def _default_targets(thing: Thing, profiles: dict[str, Profile]) -> tuple[str, ...]:
    """Return the default architectures: all for a program, else setup's."""
    if thing.kind in {"program", "packages"}:
        return (ALL,)
    return tuple(name for name, profile in profiles.items() if profile.setup)


def _present(targets: tuple[str, ...], profiles: dict[str, Profile]) -> tuple[str, ...]:
    """Replace `all` by the architectures with QEMU; all of them if none has."""
    if ALL not in targets:
        return targets
    present = [
        name
        for name, profile in profiles.items()
        if not isinstance(qemu_fault(profile.machine(profile.default_machine())), QemuMissing)
    ]
    return tuple(word for target in targets for word in (present or [ALL] if target == ALL else [target]))


def _matrix_keys(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keys of the matrix that options set."""
    keys: dict[str, Any] = {"resources": size_keys(args)}
    for name in FACTS:
        if value := getattr(args, name):
            keys[name] = list(value)
    if args.append:
        keys["append"] = " ".join(args.append)
    return keys

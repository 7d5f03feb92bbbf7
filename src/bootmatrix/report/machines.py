"""What runs showed of each machine and kernel, as a table in Markdown: docs/architectures.md is made by this."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from bootmatrix.model import Profile, Record, Seen, Verdict
from bootmatrix.report.units import natural

HEADINGS = ("machine", "what it is", "booted with QEMU")
UNTRIED, UNKNOWN = "·", ""
"""A kernel that no run tried, and one that the machine does not have."""
HOST = re.compile(r"\w+://[^\s/]+/")
"""Of an address: which mirror a host has set is its own affair, and what is kept is for others to read."""


def seen_of(record: Record) -> Seen:
    """What is kept of a record."""
    cell, told = record.cell, HOST.sub("", record.judgement.reason)
    is_pass = record.verdict is Verdict.PASS
    return Seen(
        cell=cell.id,
        spec=cell.spec_name,
        arch=cell.arch,
        machine=cell.machine,
        kernel=cell.kernel,
        verdict=record.verdict,
        reason="" if is_pass else " ".join((f"{told} ({cell.expect})" if cell.expect else told).split()),
        release=record.kernel.release if record.kernel and record.outcome else "",
        qemu=record.qemu_version if record.outcome else "",
        boot=record.boot,
        at=record.started_at,
    )


def latest(cells: Iterable[Seen], profiles: Mapping[str, Profile]) -> list[Seen]:
    """Of each cell that the profiles have the one that was begun last, of several such the last one.

    One of a guest is not replaced by one of a skip or of a fault of ours, which tell nothing of a machine.
    """
    found: dict[str, Seen] = {}
    for one in cells:
        old = found.get(one.cell)
        if old is None or (one.verdict.is_guests, one.at) >= (old.verdict.is_guests, old.at):
            found[one.cell] = one
    known = (one for one in found.values() if _is_known(one, profiles))
    return sorted(known, key=lambda one: (one.arch, natural(one.machine), natural(one.kernel), one.spec))


def _is_known(one: Seen, profiles: Mapping[str, Profile]) -> bool:
    profile = profiles.get(one.arch)
    board, at, model = one.machine.partition("@")
    if profile is None or board not in profile.machines or one.kernel not in profile.kernels_of(board):
        return False
    return not at or model in profile.machines[board].cpu_models


def machine_table(profiles: Mapping[str, Profile], cells: Iterable[Seen]) -> str:
    """One row a machine, and one a CPU model that was tried; one column a kernel. Then how many boots it rests on, and
    a list of what did not pass.

    A kernel passed where all specs of the runs did; else its cell names those that did not, or those that were tried.
    """
    last = latest(cells, profiles)
    specs = {one.spec for one in last}
    boards = list(_boards(profiles, last))
    kernels = sorted({kernel for profile, name in boards for kernel in _kernels(profile, name)}, key=natural)
    rows = [_row(*board, kernels, [one for one in last if _is_of(one, *board)], specs) for board in boards]
    lines = [(*HEADINGS, *kernels), ("---",) * (len(HEADINGS) + len(kernels)), *rows]
    table = [f"| {' | '.join(line)} |" for line in lines]
    reasons = [f"- `{one.cell}`: {one.verdict}: {one.reason}" for one in last if one.verdict is not Verdict.PASS]
    return "\n".join([*table, "", _counts(last), *(["", *sorted(reasons, key=natural)] if reasons else [])])


def _boards(profiles: Mapping[str, Profile], cells: Iterable[Seen]) -> Iterator[tuple[Profile, str]]:
    tried = {(one.arch, one.machine) for one in cells}
    for profile in profiles.values():
        for name, machine in profile.machines.items():
            yield profile, name
            models = (f"{name}@{model}" for model in machine.cpu_models)
            yield from ((profile, model) for model in models if (profile.name, model) in tried)


def _kernels(profile: Profile, board: str) -> Iterable[str]:
    return profile.kernels_of(board.partition("@")[0])


def _is_of(one: Seen, profile: Profile, board: str) -> bool:
    return (one.arch, one.machine) == (profile.name, board)


def _row(profile: Profile, board: str, kernels: list[str], cells: list[Seen], specs: set[str]) -> tuple[str, ...]:
    known = _kernels(profile, board)
    versions = sorted({one.qemu for one in cells if one.qemu}, key=natural)
    told = [_cell([one for one in cells if one.kernel == kernel], kernel in known, specs) for kernel in kernels]
    return (f"`{profile.name}/{board}`", _what(profile, board), ", ".join(versions), *told)


def _what(profile: Profile, board: str) -> str:
    name, at, model = board.partition("@")
    machine = profile.machines[name]
    return (f"the same, with QEMU's CPU {machine.cpu_models[model]}" if at else machine.description).replace("|", "/")


def _cell(cells: list[Seen], is_known: bool, specs: set[str]) -> str:
    if not is_known:
        return UNKNOWN
    tried = [one for one in cells if one.verdict.is_guests]
    if not tried:
        return UNTRIED
    wrong = [f"{one.spec}: {one.verdict}" for one in tried if one.verdict is not Verdict.PASS]
    passed = {one.spec for one in tried}
    return ", ".join(wrong) or ("pass" if passed == specs else f"{', '.join(sorted(passed))}: pass")


def _counts(cells: Iterable[Seen]) -> str:
    tried = [one for one in cells if one.verdict.is_guests]
    copies = sum(one.boot == "fork" for one in tried)
    green = sum(one.verdict is Verdict.PASS for one in tried)
    return f"{len(tried)} cells were run, {copies} of them in a copy of a guest that was booted before; {green} passed."

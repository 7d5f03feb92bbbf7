"""Markdown table of results, for docs/architectures.md."""

import re
from collections.abc import Iterable, Iterator, Mapping

from bootmatrix.model import Profile, Record, Seen, Verdict
from bootmatrix.report.units import natural

HEADINGS = ("machine", "what it is", "booted with QEMU")
UNTRIED, UNKNOWN = "·", ""
"""A kernel that was not booted, and one that the machine does not support."""
HOST = re.compile(r"\w+://[^\s/]+/")
"""Host part of an address, removed because the mirror is private to the host."""


def seen_of(record: Record) -> Seen:
    """Extract the kept part of a record."""
    cell, reason = record.cell, HOST.sub("", record.judgement.reason)
    is_pass = record.verdict is Verdict.PASS
    return Seen(
        cell=cell.id,
        spec=cell.spec_name,
        arch=cell.arch,
        machine=cell.machine,
        kernel=cell.kernel,
        verdict=record.verdict,
        reason="" if is_pass else " ".join((f"{reason} ({cell.expect})" if cell.expect else reason).split()),
        release=record.kernel.release if record.kernel and record.outcome else "",
        qemu=record.qemu_version if record.outcome else "",
        boot=record.boot,
        at=record.started_at,
    )


def latest(cells: Iterable[Seen], profiles: Mapping[str, Profile]) -> list[Seen]:
    """Select the newest result of each cell in the profiles.

    A guest's verdict is not replaced by a skip or a fault of ours.
    """
    newest: dict[str, Seen] = {}
    for result in cells:
        old = newest.get(result.cell)
        if old is None or (result.verdict.is_guests, result.at) >= (old.verdict.is_guests, old.at):
            newest[result.cell] = result
    supported = (result for result in newest.values() if _is_known(result, profiles))
    return sorted(
        supported, key=lambda result: (result.arch, natural(result.machine), natural(result.kernel), result.spec)
    )


def _is_known(result: Seen, profiles: Mapping[str, Profile]) -> bool:
    profile = profiles.get(result.arch)
    board, at, model = result.machine.partition("@")
    if profile is None or board not in profile.machines or result.kernel not in profile.kernels_of(board):
        return False
    return not at or model in profile.machines[board].cpu_models


def machine_table(profiles: Mapping[str, Profile], cells: Iterable[Seen]) -> str:
    """Format the table, the counts, the oldest kernels and the failures.

    The table has a row per machine and tried CPU model, and a column per kernel.
    An entry is `pass` if all specs of the runs passed; else it names the specs that failed, or those that were tried.
    """
    last = latest(cells, profiles)
    specs = {result.spec for result in last}
    boards = list(_boards(profiles, last))
    kernels = sorted({kernel for profile, name in boards for kernel in _kernels(profile, name)}, key=natural)
    rows = [_row(*board, kernels, [result for result in last if _is_of(result, *board)], specs) for board in boards]
    lines = [(*HEADINGS, *kernels), ("---",) * (len(HEADINGS) + len(kernels)), *rows]
    table = [f"| {' | '.join(line)} |" for line in lines]
    reasons = [
        f"- `{result.cell}`: {result.verdict}: {result.reason}" for result in last if result.verdict is not Verdict.PASS
    ]
    return "\n".join(
        [*table, "", _counts(last), *_oldest(last), *(["", *sorted(reasons, key=natural)] if reasons else [])]
    )


def _oldest(cells: Iterable[Seen]) -> list[str]:
    """Name the oldest kernel of each architecture that passed."""
    first: dict[str, str] = {}
    passes = [result for result in cells if result.verdict is Verdict.PASS and result.release]
    for result in sorted(passes, key=lambda result: natural(result.release)):
        first.setdefault(result.arch, result.release)
    named = "; ".join(f"{arch}: {release}" for arch, release in sorted(first.items()))
    return ["", f"The oldest kernel of each architecture that passed: {named}."] if named else []


def _boards(profiles: Mapping[str, Profile], cells: Iterable[Seen]) -> Iterator[tuple[Profile, str]]:
    tried = {(result.arch, result.machine) for result in cells}
    for profile in profiles.values():
        for name, machine in profile.machines.items():
            yield profile, name
            models = (f"{name}@{model}" for model in machine.cpu_models)
            yield from ((profile, model) for model in models if (profile.name, model) in tried)


def _kernels(profile: Profile, board: str) -> Iterable[str]:
    return profile.kernels_of(board.partition("@")[0])


def _is_of(result: Seen, profile: Profile, board: str) -> bool:
    return (result.arch, result.machine) == (profile.name, board)


def _row(profile: Profile, board: str, kernels: list[str], cells: list[Seen], specs: set[str]) -> tuple[str, ...]:
    supported = _kernels(profile, board)
    versions = sorted({result.qemu for result in cells if result.qemu}, key=natural)
    verdicts = [
        _cell([result for result in cells if result.kernel == kernel], kernel in supported, specs) for kernel in kernels
    ]
    return (f"`{profile.name}/{board}`", _what(profile, board), ", ".join(versions), *verdicts)


def _what(profile: Profile, board: str) -> str:
    name, at, model = board.partition("@")
    machine = profile.machines[name]
    return (f"the same, with QEMU's CPU {machine.cpu_model(model).cpu}" if at else machine.description).replace(
        "|", "/"
    )


def _cell(cells: list[Seen], is_known: bool, specs: set[str]) -> str:
    if not is_known:
        return UNKNOWN
    tried = [result for result in cells if result.verdict.is_guests]
    if not tried:
        return UNTRIED
    wrong = [f"{result.spec}: {result.verdict}" for result in tried if result.verdict is not Verdict.PASS]
    passed = {result.spec for result in tried}
    return ", ".join(wrong) or ("pass" if passed == specs else f"{', '.join(sorted(passed))}: pass")


def _counts(cells: Iterable[Seen]) -> str:
    tried = [result for result in cells if result.verdict.is_guests]
    copies = sum(result.boot == "fork" for result in tried)
    green = sum(result.verdict is Verdict.PASS for result in tried)
    return f"{len(tried)} cells were run, {copies} of them in a copy of a guest that was booted before; {green} passed."

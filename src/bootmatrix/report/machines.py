"""What runs showed of each machine and kernel, as a table in Markdown: docs/architectures.md is made by this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bootmatrix.model import Machine, Profile, Record, Verdict
from bootmatrix.report.units import natural

HEADINGS = ("machine", "what it is", "booted with QEMU")
UNTRIED, UNKNOWN = "·", ""
"""A kernel that no run tried, and one that the machine does not have."""


def machine_table(profiles: Mapping[str, Profile], records: Iterable[Record]) -> str:
    """One row a machine, one column a kernel, then a list of what did not pass; of several records of a cell the last
    that was run counts.

    A kernel passed where all specs of the runs did; else its cell names those that did not, or those that were tried.
    """
    last = [one for one in _latest(records).values() if any(_is_of(one, *machine) for machine in _machines(profiles))]
    specs = {record.cell.spec_name for record in last}
    machines = list(_machines(profiles))
    kernels = sorted({kernel for profile, name in machines for kernel in profile.kernels_of(name)}, key=natural)
    rows = [
        _row(profile, name, kernels, [one for one in last if _is_of(one, profile, name)], specs)
        for profile, name in machines
    ]
    lines = [(*HEADINGS, *kernels), ("---",) * (len(HEADINGS) + len(kernels)), *rows]
    table = [f"| {' | '.join(line)} |" for line in lines]
    reasons = [_reason(record) for record in last if record.verdict is not Verdict.PASS]
    return "\n".join([*table, *(["", *sorted(reasons, key=natural)] if reasons else [])])


def _machines(profiles: Mapping[str, Profile]) -> Iterator[tuple[Profile, str]]:
    yield from ((profile, name) for profile in profiles.values() for name in profile.machines)


def _latest(records: Iterable[Record]) -> dict[str, Record]:
    """Records by their cell; one of a guest is not replaced by one of a skip or of a fault of ours, which tell nothing
    of a machine.
    """
    found: dict[str, Record] = {}
    for record in records:
        if record.verdict.is_guests or record.cell.id not in found:
            found[record.cell.id] = record
    return found


def _reason(record: Record) -> str:
    told = f"{record.judgement.reason} ({record.cell.expect})" if record.cell.expect else record.judgement.reason
    return f"- `{record.cell.id}`: {record.verdict}: {' '.join(told.split())}"


def _is_of(record: Record, profile: Profile, machine: str) -> bool:
    return record.cell.arch == profile.name and record.cell.machine.partition("@")[0] == machine


def _row(profile: Profile, name: str, kernels: list[str], records: list[Record], specs: set[str]) -> tuple[str, ...]:
    machine = profile.machines[name]
    known = profile.kernels_of(name)
    versions = sorted({record.qemu_version for record in records if record.outcome}, key=natural)
    cells = [_cell([one for one in records if one.cell.kernel == kernel], kernel in known, specs) for kernel in kernels]
    return (f"`{profile.name}/{name}`", _what(machine), ", ".join(versions), *cells)


def _what(machine: Machine) -> str:
    return machine.description.replace("|", "/")


def _cell(records: list[Record], is_known: bool, specs: set[str]) -> str:
    if not is_known:
        return UNKNOWN
    tried = [record for record in records if record.verdict.is_guests]
    if not tried:
        return UNTRIED
    wrong = [f"{one.cell.spec_name}: {one.verdict}" for one in tried if one.verdict is not Verdict.PASS]
    passed = {record.cell.spec_name for record in tried}
    return ", ".join(wrong) or ("pass" if passed == specs else f"{', '.join(sorted(passed))}: pass")

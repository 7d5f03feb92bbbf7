"""What runs showed of each machine and kernel, as a table in Markdown: docs/architectures.md is made by this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bootmatrix.model import Machine, Profile, Record, Verdict
from bootmatrix.report.units import natural

HEADINGS = ("machine", "what it is", "booted with QEMU")
UNTRIED, UNKNOWN = "·", ""
"""A kernel that no run tried, and one that the machine does not have."""


def machine_table(profiles: Mapping[str, Profile], records: Iterable[Record]) -> str:
    """One row a machine, one column a kernel; of several records of a cell the last counts.

    A kernel passed where every spec of it did; else its cell names those that did not.
    """
    last = {record.cell.id: record for record in records}.values()
    machines = [(profile, name) for profile in profiles.values() for name in profile.machines]
    kernels = sorted({kernel for profile, name in machines for kernel in profile.kernels_of(name)}, key=natural)
    rows = [
        _row(profile, name, kernels, [one for one in last if _is_of(one, profile, name)]) for profile, name in machines
    ]
    lines = [(*HEADINGS, *kernels), ("---",) * (len(HEADINGS) + len(kernels)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_of(record: Record, profile: Profile, machine: str) -> bool:
    return record.cell.arch == profile.name and record.cell.machine.partition("@")[0] == machine


def _row(profile: Profile, name: str, kernels: list[str], records: list[Record]) -> tuple[str, ...]:
    machine = profile.machines[name]
    known = profile.kernels_of(name)
    versions = sorted({record.qemu_version for record in records if record.outcome}, key=natural)
    cells = [_cell([one for one in records if one.cell.kernel == kernel], kernel in known) for kernel in kernels]
    return (f"`{profile.name}/{name}`", _what(machine), ", ".join(versions), *cells)


def _what(machine: Machine) -> str:
    return machine.description.replace("|", "/")


def _cell(records: list[Record], is_known: bool) -> str:
    if not is_known:
        return UNKNOWN
    tried = [record for record in records if record.verdict is not Verdict.SKIP]
    if not tried:
        return UNTRIED
    wrong = [f"{one.cell.spec_name}: {one.verdict}" for one in tried if one.verdict is not Verdict.PASS]
    return ", ".join(wrong) or "pass"

"""What the cells beside a failure did, in words: `only 64k pages`, `only on this kernel`. Pure.

Cells of one spec differ by axes: architecture, machine, kernel, and what the profiles say of these: word size, byte
order, page size, kernel version. An axis value, or two together, explains a failure if all cells that have it fail and
no other does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from bootmatrix.model import Cell, Record, Verdict
from bootmatrix.report.units import natural

FEW_NAMES = 4
"""Names that a sentence lists; beyond them it counts."""

Value = tuple[str, str]
"""An axis and the words for its value: `("page size", "64k pages")`."""

ALL: tuple[Value, ...] = ()
"""What all cells share."""


@dataclass
class Family:
    """The records of one spec. `good` and `bad` count passes and failures of guests by what these cells share."""

    good: Counter[tuple[Value, ...]] = field(default_factory=Counter)
    bad: Counter[tuple[Value, ...]] = field(default_factory=Counter)
    by_target: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    by_kernel: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))

    def add(self, record: Record) -> None:
        """Count one more record."""
        self.by_target[record.cell.target].append(record)
        self.by_kernel[record.cell.kernel].append(record)
        if record.verdict.is_guests:
            values = axes(record.cell)
            counter = self.good if record.verdict is Verdict.PASS else self.bad
            counter.update((ALL, *((one,) for one in values), *combinations(values, 2)))

    def explains(self, group: tuple[Value, ...]) -> bool:
        """Whether all that share this fail, and nothing else does."""
        return 0 < self.bad[group] == self.bad[ALL] and not self.good[group] and self.good[ALL] > 0


def families(records: Iterable[Record]) -> dict[str, Family]:
    """Families by their spec's name."""
    found: dict[str, Family] = defaultdict(Family)
    for record in records:
        found[record.cell.spec_name].add(record)
    return found


def axes(cell: Cell) -> tuple[Value, ...]:
    """Where a cell stands on each axis, the axis that says the most first."""
    traits = cell.traits
    values = [("arch", cell.arch), ("machine", cell.target), ("kernel", cell.kernel)]
    if traits:
        values[:0] = [
            ("page size", f"{traits.page_kib}k pages"),
            ("bits", f"{traits.bits}-bit"),
            ("endian", f"{traits.endian}-endian"),
        ]
        values.append(("version", f"Linux {traits.kernel_version}"))
    return tuple(values)


def pattern(record: Record, family: Family) -> str:
    """What a failure has to itself: `Only 64k pages: …`; empty for what is no failure of a guest."""
    if not record.verdict.is_guests or record.verdict is Verdict.PASS or family.bad[ALL] + family.good[ALL] < 2:
        return ""
    if not family.good[ALL]:
        return f"Everywhere: none of the {family.bad[ALL]} cells of this spec passes."
    return _explanation(record.cell, family) or _row_and_column(record, family)


def _explanation(cell: Cell, family: Family) -> str:
    values = axes(cell)
    singles = [one for one in values if family.explains((one,))]
    if singles:
        words = _names(singles)
        return f"Only {words[0]}{_here(words[1:])}: {_against(family)}."
    for pair in combinations(values, 2):
        if family.explains(pair):
            return f"Only {_pair(pair)}: {_against(family)}."
    return ""


def _names(values: Sequence[Value]) -> list[str]:
    """Words for values of which each says the same set of cells, without what another of them says already."""
    words = list(dict.fromkeys(word for _, word in values))
    return [word for word in words if f"Linux {word}" not in words]


def _here(more: Sequence[str]) -> str:
    return f" (here: {', '.join(more)})" if more else ""


def _pair(pair: tuple[Value, ...]) -> str:
    """Two values in one phrase; a kernel is something that one is with."""
    first, second = (word if axis != "kernel" else f"kernel {word}" for axis, word in pair)
    return f"{first} with {second}"


def _against(family: Family) -> str:
    bad, good = family.bad[ALL], family.good[ALL]
    fails = "its one cell fails" if bad == 1 else f"all {bad} such cells fail"
    passes = "the one other passes" if good == 1 else f"all {good} others pass"
    return f"{fails}, {passes}"


def _row_and_column(record: Record, family: Family) -> str:
    cell = record.cell
    row = {one.cell.kernel: one.verdict for one in family.by_target[cell.target] if one is not record}
    column = {one.cell.target: one.verdict for one in family.by_kernel[cell.kernel] if one is not record}
    return " ".join(
        sentence
        for sentence in (_sentence(f"On {cell.target}", "with", row), _sentence(f"With {cell.kernel}", "on", column))
        if sentence
    )


def _sentence(subject: str, preposition: str, verdicts: Mapping[str, Verdict]) -> str:
    """`On ARCH it passes with 6.1 and fails with 6.12 too.`"""
    good = [name for name, verdict in verdicts.items() if verdict is Verdict.PASS]
    bad = [name for name, verdict in verdicts.items() if verdict.is_guests and verdict is not Verdict.PASS]
    parts = [f"it passes {preposition} {_listed(good)}"] if good else []
    parts += [f"{'' if good else 'it '}fails {preposition} {_listed(bad)} too"] if bad else []
    return f"{subject} {' and '.join(parts)}." if parts else ""


def _listed(names: Sequence[str]) -> str:
    """`a, b and c`; of many only the number."""
    if len(names) > FEW_NAMES:
        return f"{len(names)} others"
    names = sorted(names, key=natural)
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)

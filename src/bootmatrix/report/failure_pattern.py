"""Patterns of failures among sibling cells, in words: `Only 64k pages: …`. Pure.

Cells of one spec differ by axes: architecture, machine, kernel, word size, byte order, page size,
width of addresses, kernel version.
A value, a pair of values, or several page sizes or widths explain a failure if all cells with them fail and all
others pass.
Where two tests fail in different cells, each of them is explained by itself.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from bootmatrix.model import Cell, Record, Verdict
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import natural

FEW_NAMES = 4
"""Longest list of names in a sentence; longer ones become a count."""

MAX_PAIRS = 3
"""Equivalent pairs of values that a sentence names."""

Value = tuple[str, str]
"""An axis and the words for its value: `("page size", "64k pages")`."""

COMMON = {"4k pages", "64-bit", "little-endian"}
"""Traits of most machines: another trait that fits as well says more about a failure."""

MANY = ("page size", "addresses")
"""Axes of traits with more than two values: several can explain a failure together."""

ALL: tuple[Value, ...] = ()
"""The key of all cells."""


MAX_TESTS = 20
"""Failing tests of a cell that are explained one by one."""


@dataclass
class Counts:
    """Cells that fail and that pass, by axis value and by pair of values."""

    good: Counter[tuple[Value, ...]] = field(default_factory=Counter)
    bad: Counter[tuple[Value, ...]] = field(default_factory=Counter)

    def add(self, cell: Cell, *, passed: bool) -> None:
        """Count a cell."""
        values = axes(cell)
        counter = self.good if passed else self.bad
        counter.update((ALL, *((value,) for value in values), *combinations(values, 2)))

    def explains(self, group: tuple[Value, ...]) -> bool:
        """Return whether exactly the cells with these values fail."""
        return 0 < self.bad[group] == self.bad[ALL] and not self.good[group] and self.good[ALL] > 0

    def several(self, axis: str) -> list[str]:
        """Return the values of an axis with which exactly the failing cells are, if any."""
        groups = [group for group in self.bad if [name for name, _ in group] == [axis]]
        are_all = sum(self.bad[group] for group in groups) == self.bad[ALL] and self.good[ALL] > 0
        return [group[0][1] for group in groups] if are_all and not any(map(self.good.get, groups)) else []


@dataclass
class Family:
    """One spec's records, with their counts."""

    counts: Counts = field(default_factory=Counts)
    by_target: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    by_kernel: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    _tests: dict[str, Counts] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Count a record."""
        self.by_target[record.cell.target].append(record)
        self.by_kernel[record.cell.kernel].append(record)
        if record.verdict.is_guests:
            self.counts.add(record.cell, passed=record.verdict is Verdict.PASS)

    def test(self, name: str) -> Counts:
        """Count the cells in which a test fails, and those in which it passes."""
        if name not in self._tests:
            counts = self._tests[name] = Counts()
            for records in self.by_target.values():
                for record in records:
                    verdicts = {result.verdict for result in record.judgement.subresults if result.name == name}
                    if verdicts & {Verdict.PASS, Verdict.FAIL}:
                        counts.add(record.cell, passed=Verdict.FAIL not in verdicts)
        return self._tests[name]


def families(records: Iterable[Record]) -> dict[str, Family]:
    """Group records by spec name."""
    by_spec: dict[str, Family] = defaultdict(Family)
    for record in records:
        by_spec[record.cell.spec_name].add(record)
    return by_spec


def axes(cell: Cell) -> tuple[Value, ...]:
    """Return the cell's value on each axis, the most telling axis first."""
    traits = cell.traits
    values = [("arch", cell.arch), ("machine", cell.target), ("kernel", cell.kernel)]
    cpu = cell.machine.partition("@")[2]
    values += [("cpu", f"CPU {cpu}")] if cpu else []
    if traits:
        words = (f"{traits.page_kib}k pages", f"{traits.bits}-bit", f"{traits.endian}-endian")
        named = zip(("page size", "bits", "endian"), words, strict=True)
        values[:0] = sorted(named, key=lambda value: value[1] in COMMON)
        values += [("addresses", f"{traits.va_bits}-bit addresses")] if traits.va_bits else []
        values.append(("version", f"Linux {traits.kernel_version}"))
    return tuple(values)


def pattern(record: Record, family: Family) -> str:
    """Describe a failure's pattern: `Only 64k pages: …`; or empty."""
    counts = family.counts
    if not record.verdict.is_guests or record.verdict is Verdict.PASS or counts.bad[ALL] + counts.good[ALL] < 2:
        return ""
    only = _only(record.cell, counts)
    if only:
        return f"Only {only}: {_against(counts)}."
    tests = " ".join(_tests(record, family))
    if tests:
        return tests
    if not counts.good[ALL]:
        return f"Everywhere: none of the {counts.bad[ALL]} cells of this spec passes."
    return _row_and_column(record, family)


def _tests(record: Record, family: Family) -> Iterator[str]:
    """Explain the failing tests that fail in a part of the failing cells."""
    failing = dict.fromkeys(result.name for result in record.judgement.subresults if result.verdict is Verdict.FAIL)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in list(failing)[:MAX_TESTS]:
        counts = family.test(name)
        only = _only(record.cell, counts)
        if only:
            groups[f"only {only}; {_against(counts)}"].append(name)
    for words, names in groups.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"'{one_line(names[0])}'{more}: {words}."


def _only(cell: Cell, counts: Counts) -> str:
    """Name the traits that set the failures apart: `64k pages`; or empty."""
    values = axes(cell)
    singles = [value for value in values if counts.explains((value,))]
    if singles:
        words = _names(singles)
        return f"{words[0]}{_here(words[1:])}"
    if several := next(filter(None, map(counts.several, MANY)), []):
        return _listed(several)
    pairs = [_pair(pair) for pair in combinations(values, 2) if counts.explains(pair)]
    # A kernel is named by its version, mostly.
    pairs = list({words.replace("Linux ", "kernel "): words for words in reversed(pairs)}.values())[::-1][:MAX_PAIRS]
    return f"{pairs[0]}{_here(pairs[1:])}" if pairs else ""


def _names(values: Sequence[Value]) -> list[str]:
    """Return the words for equivalent values, without redundant ones."""
    words = list(dict.fromkeys(word for _, word in values))
    return [word for word in words if f"Linux {word}" not in words]


def _here(more: Sequence[str]) -> str:
    return f" (here: {', '.join(more)})" if more else ""


def _pair(pair: tuple[Value, ...]) -> str:
    """Join two values: `ARCH with kernel 6.1`."""
    first, second = (word if axis != "kernel" else f"kernel {word}" for axis, word in pair)
    return f"{first} with {second}"


def _against(counts: Counts) -> str:
    bad, good = counts.bad[ALL], counts.good[ALL]
    fails = "the only such cell fails" if bad == 1 else f"all {bad} such cells fail"
    passes = "the other one passes" if good == 1 else f"all {good} others pass"
    return f"{fails}, {passes}"


def _row_and_column(record: Record, family: Family) -> str:
    cell = record.cell
    row = {sibling.cell.kernel: sibling.verdict for sibling in family.by_target[cell.target] if sibling is not record}
    column = {
        sibling.cell.target: sibling.verdict for sibling in family.by_kernel[cell.kernel] if sibling is not record
    }
    return " ".join(
        sentence
        for sentence in (_sentence(f"On {cell.target}", "with", row), _sentence(f"With {cell.kernel}", "on", column))
        if sentence
    )


def _sentence(subject: str, preposition: str, verdicts: Mapping[str, Verdict]) -> str:
    """Describe a row or column: `On ARCH it passes with 6.1 and fails with 6.12 too.`"""
    good = [name for name, verdict in verdicts.items() if verdict is Verdict.PASS]
    bad = [name for name, verdict in verdicts.items() if verdict.is_guests and verdict is not Verdict.PASS]
    parts = [f"it passes {preposition} {_listed(good)}"] if good else []
    parts += [f"{'' if good else 'it '}fails {preposition} {_listed(bad)} too"] if bad else []
    return f"{subject} {' and '.join(parts)}." if parts else ""


def _listed(names: Sequence[str]) -> str:
    """Join names, `a, b and c`; above FEW_NAMES only count them."""
    if len(names) > FEW_NAMES:
        return f"{len(names)} others"
    names = sorted(names, key=natural)
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)

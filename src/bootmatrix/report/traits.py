"""Totals by trait: page size, word size, byte order and so on. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bootmatrix.model import Record
from bootmatrix.report.failure_pattern import Family, Value, axes
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.totals import Total, total
from bootmatrix.report.units import natural

HEADINGS = {
    "page size": "page size",
    "bits": "word size",
    "endian": "byte order",
    "addresses": "address width",
    "cpu": "processor",
}
"""Axes of traits, and their names; others have rows or columns of the grid."""

MAX_SPECS = 3
"""Specs that a sentence names; further ones are counted."""


@dataclass(frozen=True)
class TraitRow:
    """The cells of one trait: `heading` is `page size`, `name` is `64k pages`."""

    heading: str
    name: str
    total: Total
    sentence: str


def trait_rows(records: Sequence[Record], by_spec: Mapping[str, Family]) -> tuple[TraitRow, ...]:
    """Count cells by each trait that not all of them have, in order."""
    groups: dict[Value, list[Record]] = defaultdict(list)
    for record in records:
        for value in axes(record.cell):
            if value[0] in HEADINGS:
                groups[value].append(record)
    order = list(HEADINGS)
    values = sorted(groups, key=lambda value: (order.index(value[0]), natural(value[1])))
    return tuple(_rows(((value, groups[value]) for value in values), len(records), by_spec))


def _rows(
    groups: Iterable[tuple[Value, Sequence[Record]]], whole: int, by_spec: Mapping[str, Family]
) -> Iterator[TraitRow]:
    for value, records in groups:
        counted = total(records)
        if len(records) < whole and counted:
            yield TraitRow(HEADINGS[value[0]], one_line(value[1]), counted, _sentence(value, by_spec))


def _sentence(value: Value, by_spec: Mapping[str, Family]) -> str:
    """Name the specs that fail in exactly the cells with this trait."""
    specs = [one_line(spec) for spec, family in by_spec.items() if family.counts.explains((value,))]
    if not specs:
        return ""
    if len(by_spec) == 1:
        return "Fails only here."
    more = [f"{len(specs) - MAX_SPECS} more"] if len(specs) > MAX_SPECS else []
    names = [*specs[:MAX_SPECS], *more]
    listed = " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
    return f"{listed} fail{'s' if len(specs) == 1 else ''} only here."

"""Terminal report, for rich."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bootmatrix.model import Record, Run, Verdict
from bootmatrix.report.cell_view import advice_of
from bootmatrix.report.failure_pattern import Family, families, pattern
from bootmatrix.report.notes import lost_files_of_run, lost_time_of_run, tier_lines, waits_of_run
from bootmatrix.report.order import STYLES, SYMBOLS, cell_order, cell_time, headline, kernels_of, remark, urgency
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import duration

FEW_PATTERNS = 3
"""Patterns of the failures with one reason."""
MANY_CELLS = 600
"""Of more, the table has only those rows in which a cell did not simply pass."""


def summary(run: Run) -> RenderableType:
    """Make the table, a reason per cell that did not pass, and the totals."""
    noteworthy = _noteworthy(run)
    siblings = families(run.records) if noteworthy else {}
    reasons = [_reason(group, siblings) for group in _by_reason(noteworthy)]
    table = list(_tables(run, noteworthy))
    tiers = [Text(line) for line in tier_lines(run.records)]
    losses = (*lost_time_of_run(run.records), *lost_files_of_run(run.records), *waits_of_run(run.records))
    lost = [Text(f"note: {line}", "bright_black") for line in losses]
    return Group(*table, *reasons, *_unfinished(run), *lost, Text(), *tiers, _total(run))


def verdict_text(record: Record) -> Text:
    """Format a verdict in its colour: `✗ fail (expected)`."""
    verdict, aside = record.verdict, remark(record)
    style = (
        STYLES[verdict]
        if not record.expected or verdict in {Verdict.PASS, Verdict.SKIP, Verdict.USER_PASS}
        else "yellow"
    )
    if aside == "unexpected":
        style = "bold yellow"
    return Text(f"{SYMBOLS[verdict]} {verdict}" + (f" ({aside})" if aside else ""), style)


def counts(run: Run) -> list[tuple[Verdict, int]]:
    """Count the cells by verdict."""
    numbers = Counter(record.verdict for record in run.records)
    return [(verdict, numbers[verdict]) for verdict in Verdict if numbers[verdict]]


def _tables(run: Run, noteworthy: Sequence[Record]) -> Iterator[RenderableType]:
    """Yield the table, and how many of its rows were left out, if any."""
    if len(run.records) <= MANY_CELLS:
        if run.records:
            yield _table(run.records)
        return
    rows = {_row(record) for record in noteworthy}
    records = [record for record in run.records if _row(record) in rows]
    if records:
        yield _table(records)
    hidden = len({_row(record) for record in run.records} - rows)
    if hidden:
        words = f"{hidden} rows in which every cell passed are not listed here; the report has them."
        yield Text(words, "bright_black")


def _row(record: Record) -> tuple[str, str]:
    return record.cell.spec_name, record.cell.target


def _table(records: Sequence[Record]) -> Table:
    cells = [record.cell for record in records]
    kernels = kernels_of(cells)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading, names in (("spec", [cell.spec_name for cell in cells]), ("arch", [cell.target for cell in cells])):
        table.add_column(heading, no_wrap=True, min_width=max(map(len, names)))  # shorten verdicts before names
    for kernel in kernels:
        table.add_column(Text(kernel), no_wrap=True)
    by_place = {(cell.cell.spec_name, cell.cell.target, cell.cell.kernel): cell for cell in records}
    before = ""
    for spec, target in dict.fromkeys((cell.spec_name, cell.target) for cell in sorted(cells, key=cell_order)):
        places = [_place(by_place.get((spec, target, kernel))) for kernel in kernels]
        table.add_row(Text(spec if spec != before else ""), Text(target), *places)
        before = spec
    return table


def _place(record: Record | None) -> Text:
    if record is None:
        return Text("·", "bright_black")
    text = verdict_text(record)
    if record.verdict is not Verdict.SKIP:
        text.append(f"  {duration(cell_time(record))}", "bright_black")
    return text


def _noteworthy(run: Run) -> list[Record]:
    """Select records other than plain passes, unexpected ones first."""
    rest = [record for record in run.records if record.verdict is not Verdict.PASS or not record.expected]
    return sorted(rest, key=lambda record: (record.expected, urgency(record)))


def _by_reason(records: Sequence[Record]) -> list[list[Record]]:
    """Group records that differ only in their cells, to report each cause once."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((verdict_text(record).plain, _explanation(record).plain), []).append(record)
    return list(groups.values())


def _reason(group: Sequence[Record], siblings: Mapping[str, Family]) -> Text:
    text, first = Text(), group[0]
    for record in group:
        text.append_text(verdict_text(record)).append(f"  {record.cell.id}\n", "" if record.expected else "bold")
    patterns = dict.fromkeys(pattern(record, siblings[record.cell.spec_name]) for record in group)
    return text.append_text(_explanation(first)).append_text(_patterns(patterns)).append_text(_advice(first))


def _explanation(record: Record) -> Text:
    if record.verdict is Verdict.PASS:
        return Text(f"    passed, expected a failure: {one_line(record.cell.expect)}")
    text = Text(f"    {one_line(record.judgement.reason)}")
    if record.cell.expect:
        text.append(f"\n    expected: {one_line(record.cell.expect)}", "bright_black")
    return text


def _patterns(patterns: Iterable[str]) -> Text:
    named = [words for words in patterns if words]
    more = [f"and {len(named) - FEW_PATTERNS} more such patterns"] if len(named) > FEW_PATTERNS else []
    return Text("".join(f"\n    {words}" for words in (*named[:FEW_PATTERNS], *more)))


def _advice(record: Record) -> Text:
    if record.expected or not record.judgement.advice:
        return Text()
    return Text(f"\n    {one_line(advice_of(record))}", "cyan")


def _unfinished(run: Run) -> Iterator[Text]:
    for name in run.unfinished:
        yield Text(f"? no verdict  {name}: running when the run ended", "bright_black")


def _total(run: Run) -> Text:
    text = Text(
        headline(run.records, run.incomplete_words, run.part_words), "bold green" if run.is_good else "bold red"
    )
    parts = [f"{count} {verdict}" for verdict, count in counts(run)]
    return text.append(f": {', '.join(parts)}" if parts else "", "default").append(
        f"  in {duration(run.wall_s)}", "default"
    )

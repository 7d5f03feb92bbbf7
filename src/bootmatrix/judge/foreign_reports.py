"""Failures that reports of tests in XML other than JUnit's tell of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from xml.parsers.expat import ExpatError, ParserCreate, XMLParserType

from bootmatrix.judge.junit import (
    MAX_DEPTH,
    MAX_NAMES,
    SUITES,
    TOTAL,
    UNRUN,
    UnreadableReport,
    local_name,
    pieces,
    status_of,
)
from bootmatrix.model import Verdict
from bootmatrix.packaged import packaged_table

Start = Callable[[str, dict[str, str]], object]


@dataclass(frozen=True)
class ForeignReport:
    """One entry of foreign_reports.toml."""

    name: str
    root: str
    example: str
    sound: str
    counts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    statuses: Mapping[str, str] = field(default_factory=dict)
    elements: Sequence[str] = ()
    reasons: str = ""


@cache
def load_reports() -> tuple[ForeignReport, ...]:
    """Load all reports of foreign_reports.toml."""
    return tuple(ForeignReport(**entry) for entry in packaged_table("judge/foreign_reports.toml")["report"])


def foreign_root(data: bytes) -> str:
    """Return the root of XML other than JUnit's, such as coverage; or empty.

    Data that is not XML counts as a damaged report, and so does XML with entities before its root.
    """
    roots: list[str] = []
    parser = _parser(lambda tag, _: roots.append(tag.rpartition("}")[2]))
    try:
        for piece in pieces(data):
            parser.Parse(piece)
            if roots:
                break
    except (ExpatError, ValueError, LookupError):
        pass
    return roots[0] if roots and roots[0].lower() not in SUITES else ""


def find_report(root: str) -> ForeignReport | None:
    """Return the known report with a root, if it is one."""
    return next((report for report in load_reports() if report.root == root.lower()), None)


def count_failures(data: bytes, report: ForeignReport) -> int:
    """Count a report's failures: by its totals if they are more than its tests.

    Raises UnreadableReport if it is cut or damaged.
    """
    most = failed = depth = 0
    name = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal most, failed, depth, name
        depth += 1
        if depth > MAX_DEPTH:
            raise UnreadableReport(f"it has more than {MAX_DEPTH} elements within each other")
        if len(parser.intern) > MAX_NAMES:
            raise UnreadableReport(f"it has more than {MAX_NAMES} names of elements and attributes")
        name = local_name(tag)
        values = {local_name(key): value for key, value in attributes.items()}
        numbers = (TOTAL.fullmatch(values.get(key, "").strip()) for key in report.counts.get(name, ()))
        most = max(most, sum(int("".join(filter(str.isdigit, number[1]))) for number in numbers if number))
        is_bad = status_of(values.get(report.statuses.get(name, ""), "")) is Verdict.FAIL
        failed += is_bad or name in report.elements

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def text(words: str) -> None:
        nonlocal failed
        failed += name == report.reasons and words.strip() in UNRUN

    parser = _parser(start)
    parser.EndElementHandler = end
    parser.buffer_text, parser.CharacterDataHandler = True, text
    try:
        for piece in pieces(data):
            parser.Parse(piece)
        parser.Parse(b"", True)
    except UnreadableReport:
        raise
    except (ExpatError, ValueError, LookupError) as error:
        raise UnreadableReport(f"{error}") from error
    return max(failed, most)


def _parser(start: Start) -> XMLParserType:
    parser = ParserCreate(namespace_separator="}")
    parser.EntityDeclHandler = _refuse_entity
    parser.StartElementHandler = start
    return parser


def _refuse_entity(*_: object) -> None:
    raise UnreadableReport("it declares an entity, which could expand without end")

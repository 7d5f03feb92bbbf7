"""YAML files as plain data with line numbers, read as LinuxKit reads them.

PyYAML's own constructor reads YAML 1.1 and accepts duplicate keys, so only its parser is used: libyaml where
the installed wheel has it, from which LinuxKit's reader was ported.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bootmatrix.errors import Fault, FileError, InputError
from bootmatrix.load import piped

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 100_000

T = TypeVar("T")
Location = tuple[str | int, ...]
"""Keys and indexes of a value, from the top."""

_TEXT_TAGS = {"!", "tag:yaml.org,2002:str"}
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "int", "float", "bool", "null", "merge", "timestamp")
}
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class _Node:
    """A value before aliases; `text` is a scalar's source, `plain` unquoted."""

    line: int
    value: Any
    text: str = ""
    plain: bool = False


@dataclass
class Document:
    """A file's data (JSON types), with lines, source texts and faults."""

    path: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Location, int] = field(default_factory=dict)
    texts: dict[Location, str] = field(default_factory=dict)
    faults: dict[Location, list[Fault]] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """Return the line of a value, or of the nearest one around it."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def complain(self, location: Location, message: str) -> None:
        """Note a fault."""
        self.faults.setdefault(location, []).append(Fault(self.path, self.line(location), message))

    def move(self, old: Location, new: Location) -> None:
        """Note that what is at a location of the file is at another one in the data."""
        _move(self.lines, old, new)
        _move(self.texts, old, new)
        _move(self.faults, old, new)

    def drop_empty(self) -> None:
        """Drop top-level keys without a value, as Go does without a schema."""
        for key in [key for key, value in self.data.items() if value is None and self.texts[(key,)] in WORDS]:
            del self.data[key]
            rest = self.faults.pop((key,))[1:]
            if rest:
                self.faults[(key,)] = rest

    def raise_faults(self) -> None:
        """Raise the noted faults. Raises FileError if there are faults."""
        if self.faults:
            raise FileError(dict.fromkeys(fault for faults in self.faults.values() for fault in faults))


def _move(table: dict[Location, T], old: Location, new: Location) -> None:
    below = {place: value for place, value in table.items() if place[: len(old)] == old}
    table.update((new + place[len(old) :], value) for place, value in below.items())


_SURROGATE = re.compile("[\ud800-\udfff]")


def read_document(path: Path) -> Document:
    """Read a YAML file with a mapping; faults that do not stop it are noted.

    Raises InputError if the file cannot be read, FileError if the file is not valid YAML.
    """
    check_name(str(path))
    return parse(read_bytes(path, MAX_BYTES), str(path))


def check_name(name: str) -> None:
    """Check that a file's name can be written to a file.

    Raises InputError if it is not valid UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name}: the file name is not valid UTF-8", "Rename the file.") from error


def read_bytes(path: Path, limit_bytes: int) -> bytes:
    """Read a regular file. Raises InputError if it cannot, or over the limit."""
    if (data := piped.kept(path)) is not None:
        return data
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a regular file")
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > limit_bytes:
        raise InputError(f"{path}: larger than the limit of {limit_bytes >> 10} KiB")
    return data


def parse(data: bytes, path: str) -> Document:
    """Parse a text's first YAML document; as in LinuxKit, only that.

    Raises FileError if the text is not valid YAML, or its top is not a mapping.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError([Fault(path, line, "not valid UTF-8")]) from error
    try:
        root = _Composer(path, yaml.parse(text, Loader=_PARSER)).compose()
    except yaml.MarkedYAMLError as error:
        raise FileError([_syntax_fault(error, text, path)]) from error
    except yaml.YAMLError as error:
        raise FileError([Fault(path, 1, f"invalid YAML: {' '.join(str(error).split())}")]) from error
    return _Flattener(Document(path)).flatten(root)


def _syntax_fault(error: yaml.MarkedYAMLError, text: str, path: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    index = mark.line if mark else 0
    lines = text.splitlines()
    line = lines[index] if index < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return Fault(path, index + 1, "the line begins with a tab. Indent YAML with blanks")
    if mark and line[mark.column : mark.column + 1] in {"@", "`"}:
        return Fault(path, index + 1, f"a text that begins with {line[mark.column]} must be in quotes")
    context = f"{error.context}: " if error.context else ""
    return Fault(path, index + 1, f"invalid YAML: {context}{error.problem}")


class _Composer:
    """Builds nodes from parser events, within limits."""

    def __init__(self, path: str, events: Iterator[Any]) -> None:
        self.path = path
        self.events = events
        self.anchors: dict[str, _Node] = {}
        self.count = 0

    def compose(self) -> _Node:
        for event in self.events:
            if isinstance(event, yaml.NodeEvent):
                return self.node(event, 0)
        raise FileError([Fault(self.path, 1, "the file is empty")])

    def node(self, event: Any, depth: int) -> _Node:
        line = event.start_mark.line + 1
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            limit = f"more than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_NODES} values"
            raise FileError([Fault(self.path, line, f"the file has {limit} (limit of bootmatrix)")])
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, line)
        if event.tag is not None and event.tag not in _TEXT_TAGS | _PLAIN_TAGS:
            raise FileError([Fault(self.path, line, f"the tag {event.tag} is not supported")])
        node = self.content(event, line, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any, line: int) -> _Node:
        # An anchor is defined when its value has ended, so a value cannot contain itself.
        if event.anchor not in self.anchors:
            raise FileError([Fault(self.path, line, f"the alias *{event.anchor} has no anchor before it")])
        return self.anchors[event.anchor]

    def content(self, event: Any, line: int, depth: int) -> _Node:
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style in {None, ""} and event.tag not in _TEXT_TAGS
            if _SURROGATE.search(event.value):
                raise FileError([Fault(self.path, line, "the text contains half of a surrogate pair")])
            value = resolve(event.value) if plain else event.value
            return _Node(line, value, event.value, plain)
        children = []
        for child in self.events:
            if isinstance(child, yaml.CollectionEndEvent):
                break
            children.append(self.node(child, depth + 1))
        if isinstance(event, yaml.MappingStartEvent):
            return _Node(line, dict(enumerate(zip(children[::2], children[1::2], strict=True))))
        return _Node(line, children)


class _Flattener:
    """Resolves aliases into plain data, and notes faults as LinuxKit does."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def flatten(self, root: _Node) -> Document:
        if not isinstance(root.value, dict):
            raise FileError(
                [Fault(self.document.path, root.line, f"{describe(root.value, root.text)} where a mapping is expected")]
            )
        self.document.data = self.value(root, ())
        return self.document

    def value(self, node: _Node, location: Location) -> Any:
        self.document.lines.setdefault(location, node.line)
        self.count_node(node, location)
        if isinstance(node.value, dict):
            return self.mapping(node, location)
        if isinstance(node.value, list):
            return [self.value(child, (*location, index)) for index, child in enumerate(node.value)]
        self.document.texts[location] = node.text
        return self.scalar(node, location)

    def count_node(self, node: _Node, location: Location) -> None:
        """Count a value or a merge. Raises FileError beyond the limits."""
        self.count += 1
        if self.count > MAX_NODES or len(location) > MAX_DEPTH:
            size = "large" if self.count > MAX_NODES else "deep"
            raise FileError(
                [Fault(self.document.path, node.line, f"the file is too {size} after aliases are resolved")]
            )

    def scalar(self, node: _Node, location: Location) -> Any:
        if node.value is None:
            name = f"{location[-1]!r}" if location and isinstance(location[-1], str) else "the entry"
            self.document.complain(location, f"{name} has no value. Set one, or remove it")
        elif isinstance(node.value, float) and not math.isfinite(node.value):
            self.document.complain(location, f"{node.text[:40]} is not a usable number")
            return None
        elif isinstance(node.value, str) and "\0" in node.value and location[-1:] != ("contents",):
            self.document.complain(location, "a NUL character is allowed only in file contents")
        return node.value

    def mapping(self, node: _Node, location: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: list[_Node] = []
        for key, value in node.value.values():
            if key.plain and key.text == "<<":
                merged.extend(value.value if isinstance(value.value, list) else [value])
            elif self.accepts_key(key, data, location):
                self.document.lines[(*location, key.text)] = key.line
                data[key.text] = self.value(value, (*location, key.text))
        for other in merged:
            self.merge(other, data, location)
        return data

    def merge(self, other: _Node, data: dict[str, Any], location: Location) -> None:
        self.count_node(other, (*location, "<<"))  # mappings may merge each other, and be empty
        if not isinstance(other.value, dict):
            self.document.complain(location, "'<<' must be a mapping or a list of mappings")
            return
        for key, value in self.mapping(other, (*location, "<<")).items():
            if key not in data:
                data[key] = value
                self.document.lines.setdefault((*location, key), self.document.line((*location, "<<", key)))

    def accepts_key(self, key: _Node, entries: Mapping[str, Any], location: Location) -> bool:
        if not isinstance(key.value, str):
            message = f"a key must be text, and {describe(key.value, key.text)} is not. Put it in quotes"
        elif key.value in entries:
            first = self.document.line((*location, key.value))
            message = f"the key {key.value!r} is given twice, first in line {first}"
        else:
            return True
        fault = Fault(self.document.path, key.line, message)
        self.document.faults.setdefault((*location, key.text), []).append(fault)
        return False


def describe(value: Any, text: str = "") -> str:
    """Describe a value in words; `text` is its source."""
    quoted = text if len(text) <= 60 else text[:57] + "…"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return quoted
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '…'!r}" if value else "an empty text"
    if isinstance(value, int | float):
        return f"the number {quoted}"
    return "a list" if isinstance(value, list) else "a mapping"


Scalar = str | int | float | bool | None

WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
INTEGER = re.compile(r"([-+]?)(?:0[xX](?P<x>[0-9a-fA-F]+)|0[bB](?P<b>[01]+)|0[oO]?(?P<o>[0-7]+)|(?P<d>0|[1-9][0-9]*))$")
BASES = {"x": 16, "b": 2, "o": 8, "d": 10}
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")
LIMIT = 2**64


def resolve(text: str) -> Scalar:
    """Resolve an unquoted scalar; numbers beyond 64 bits become floats."""
    if text in WORDS:
        return WORDS[text]
    if NOT_FINITE.match(text):
        return math.nan if "n" in text.lower()[:2] else math.inf
    number = text.replace("_", "") if text[0] in "+-.0123456789" else ""
    return _integer(number) if INTEGER.match(number) else _float(text, number)


def _integer(text: str) -> int | float:
    match = INTEGER.match(text)
    assert match is not None
    kind, digits = next((kind, digits) for kind, digits in match.groupdict().items() if digits is not None)
    if len(digits) > 64:
        return math.inf
    value = int(digits, BASES[kind]) * (-1 if match[1] == "-" else 1)
    return value if -LIMIT < value < LIMIT else float(value)


def _float(text: str, number: str) -> str | int | float:
    """Parse a float; `1e3` and `2.0` are integers, as LinuxKit converts them to JSON."""
    if not FLOAT.match(number):
        return text
    value = float(number)
    return int(value) if value.is_integer() and abs(value) < LIMIT else value

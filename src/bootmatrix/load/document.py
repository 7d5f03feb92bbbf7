"""YAML files as plain data that remembers its lines, read as LinuxKit reads them.

PyYAML's own constructor reads YAML 1.1 and lets the last of two equal keys win, so only its parser is used: libyaml
where the installed wheel has it, which LinuxKit's reader was ported from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bootmatrix.errors import Fault, FileError, InputError
from bootmatrix.load import piped
from bootmatrix.load.scalars import WORDS, resolve

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 100_000

Location = tuple[str | int, ...]
"""Where a value stands: keys and indexes from the top."""

_TEXT_TAGS = {"!", "tag:yaml.org,2002:str"}
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "int", "float", "bool", "null", "merge", "timestamp")
}
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class _Node:
    """A value before aliases are followed. `text` is a scalar's source; `plain` says that it had no quotes."""

    line: int
    value: Any
    text: str = ""
    plain: bool = False


@dataclass
class Document:
    """A file's data, JSON types only, with the line and the source text of each value, and the faults seen so far."""

    path: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Location, int] = field(default_factory=dict)
    texts: dict[Location, str] = field(default_factory=dict)
    faults: dict[Location, list[Fault]] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """Line of a value, or of the nearest one around it."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def complain(self, location: Location, message: str) -> None:
        """Note a fault."""
        self.faults.setdefault(location, []).append(Fault(self.path, self.line(location), message))

    def drop_empty(self) -> None:
        """Take keys at the top that have no value as not given, as Go does where no schema forbids it."""
        for key in [key for key, value in self.data.items() if value is None and self.texts[(key,)] in WORDS]:
            del self.data[key]
            others = self.faults.pop((key,))[1:]
            if others:
                self.faults[(key,)] = others

    def raise_faults(self) -> None:
        """Raise what was noted.

        Raises:
            FileError: something was.
        """
        if self.faults:
            raise FileError(dict.fromkeys(fault for faults in self.faults.values() for fault in faults))


def read_document(path: Path) -> Document:
    """Read a YAML file whose top is keys and values. Faults that do not stop the reading are noted in the document.

    Raises:
        InputError: the file cannot be read.
        FileError: it is no YAML.
    """
    if not _is_text(str(path)):
        raise InputError(f"{path}: its name is not valid UTF-8, and records could not hold it", "Rename it.")
    return parse(read_bytes(path, MAX_BYTES), str(path))


def _is_text(name: str) -> bool:
    with suppress(UnicodeEncodeError):
        name.encode()
        return True
    return False


def read_bytes(path: Path, limit_bytes: int) -> bytes:
    """A regular file's bytes.

    Raises:
        InputError: there is no such file, it cannot be read, or it is over the limit.
    """
    if (data := piped.kept(path)) is not None:
        return data
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: this is no file")
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > limit_bytes:
        raise InputError(f"{path}: larger than {limit_bytes >> 10} KiB, which no such file needs to be")
    return data


def parse(data: bytes, path: str) -> Document:
    """Parse the first document of a YAML text; as in LinuxKit, later ones are not looked at.

    Raises:
        FileError: it is no YAML, or its top is not keys and values.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError([Fault(path, line, "this is no text in UTF-8")]) from error
    try:
        root = _Composer(path, yaml.parse(text, Loader=_PARSER)).compose()
    except yaml.MarkedYAMLError as error:
        raise FileError([_syntax_fault(error, text, path)]) from error
    except yaml.YAMLError as error:
        raise FileError([Fault(path, 1, f"this is no YAML: {' '.join(str(error).split())}")]) from error
    return _Flattener(Document(path)).flatten(root)


def _syntax_fault(error: yaml.MarkedYAMLError, text: str, path: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    index = mark.line if mark else 0
    lines = text.splitlines()
    line = lines[index] if index < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return Fault(path, index + 1, "this line begins with a tab. YAML is indented with blanks only")
    if mark and line[mark.column : mark.column + 1] in {"@", "`"}:
        return Fault(path, index + 1, f"text that begins with {line[mark.column]} must be in quotes")
    context = f"{error.context}: " if error.context else ""
    return Fault(path, index + 1, f"this is no YAML: {context}{error.problem}")


class _Composer:
    """Makes nodes from a parser's events, within limits."""

    def __init__(self, path: str, events: Iterator[Any]) -> None:
        self.path = path
        self.events = events
        self.anchors: dict[str, _Node] = {}
        self.count = 0

    def compose(self) -> _Node:
        for event in self.events:
            if isinstance(event, yaml.NodeEvent):
                return self.node(event, 0)
        raise FileError([Fault(self.path, 1, "this file is empty")])

    def node(self, event: Any, depth: int) -> _Node:
        line = event.start_mark.line + 1
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            limit = f"more than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_NODES} values"
            raise FileError([Fault(self.path, line, f"this has {limit}, which no such file needs")])
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, line)
        if event.tag is not None and event.tag not in _TEXT_TAGS | _PLAIN_TAGS:
            raise FileError([Fault(self.path, line, f"the tag {event.tag} is not supported")])
        node = self.content(event, line, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any, line: int) -> _Node:
        # An anchor is known only after its value has ended, so no value can hold itself.
        if event.anchor not in self.anchors:
            raise FileError([Fault(self.path, line, f"the alias *{event.anchor} has no anchor before it")])
        return self.anchors[event.anchor]

    def content(self, event: Any, line: int, depth: int) -> _Node:
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style in {None, ""} and event.tag not in _TEXT_TAGS
            if any("\ud800" <= character <= "\udfff" for character in event.value):
                raise FileError([Fault(self.path, line, "this text holds half of a surrogate pair")])
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
    """Follows aliases and makes plain data, with the faults that LinuxKit's reader also finds."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def flatten(self, root: _Node) -> Document:
        if not isinstance(root.value, dict):
            raise FileError(
                [
                    Fault(
                        self.document.path,
                        root.line,
                        f"{describe(root.value, root.text)} stands where keys and values should",
                    )
                ]
            )
        self.document.data = self.value(root, ())
        return self.document

    def value(self, node: _Node, location: Location) -> Any:
        self.document.lines.setdefault(location, node.line)
        self.count += 1
        if self.count > MAX_NODES:
            raise FileError([Fault(self.document.path, node.line, "aliases make this too large")])
        if isinstance(node.value, dict):
            return self.mapping(node, location)
        if isinstance(node.value, list):
            return [self.value(child, (*location, index)) for index, child in enumerate(node.value)]
        self.document.texts[location] = node.text
        return self.scalar(node, location)

    def scalar(self, node: _Node, location: Location) -> Any:
        if node.value is None:
            what = f"{location[-1]!r}" if location and isinstance(location[-1], str) else "this entry"
            self.document.complain(location, f"{what} has no value. Give it one, or remove it")
        elif isinstance(node.value, float) and not math.isfinite(node.value):
            self.document.complain(location, f"{node.text[:40]} is no number that can be used")
            return None
        elif isinstance(node.value, str) and "\0" in node.value and location[-1:] != ("contents",):
            self.document.complain(location, "this text holds a NUL character, which only a file's contents may")
        return node.value

    def mapping(self, node: _Node, location: Location) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[_Node] = []
        for key, value in node.value.values():
            if key.plain and key.text == "<<":
                merged.extend(value.value if isinstance(value.value, list) else [value])
            elif self.accepts_key(key, found, location):
                self.document.lines[(*location, key.text)] = key.line
                found[key.text] = self.value(value, (*location, key.text))
        for other in merged:
            self.merge(other, found, location)
        return found

    def merge(self, other: _Node, found: dict[str, Any], location: Location) -> None:
        if not isinstance(other.value, dict):
            self.document.complain(location, "'<<' takes keys and values, or a list of them")
            return
        for key, value in self.mapping(other, (*location, "<<")).items():
            if key not in found:
                found[key] = value
                self.document.lines.setdefault((*location, key), self.document.line((*location, "<<", key)))

    def accepts_key(self, key: _Node, found: Mapping[str, Any], location: Location) -> bool:
        if not isinstance(key.value, str):
            message = f"a key must be text, and {describe(key.value, key.text)} is not. Put it in quotes"
        elif key.value in found:
            first = self.document.line((*location, key.value))
            message = f"the key {key.value!r} is given twice, first in line {first}"
        else:
            return True
        fault = Fault(self.document.path, key.line, message)
        self.document.faults.setdefault((*location, key.text), []).append(fault)
        return False


def describe(value: Any, text: str = "") -> str:
    """What a value is, in words; `text` is its source."""
    shown = text if len(text) <= 60 else text[:57] + "…"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return shown
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '…'!r}" if value else "an empty text"
    if isinstance(value, int | float):
        return f"the number {shown}"
    return "a list" if isinstance(value, list) else "a group of keys and values"

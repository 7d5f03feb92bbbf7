"""The words of the code: docstrings that say what a thing is or does, plain negation, and class names used once."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import bootmatrix

SOURCE = Path(bootmatrix.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
OPENERS = {"What", "Whether", "How", "Which", "Who", "Where", "Why", "When", "While", "That", "If"}
NEGATION = re.compile(r"\b(is|are|was) (no|none)\b(?! (longer|more|one))")

MAX_SUMMARY = 79

Fault = tuple[int, str]


def docstrings(code: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings with their lines: of modules, classes, functions, and of values, which stand behind them."""
    for node in ast.walk(code):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                value = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield statement.lineno, value.value.strip()


def long_docstrings(code: ast.Module) -> list[Fault]:
    """Docstrings whose first line is not a summary for a list of names."""
    defined = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(code) if isinstance(node, defined) and node.body]
    summaries = [(node.body[0].lineno, (ast.get_docstring(node) or "").partition("\n")[0]) for node in nodes]
    return [(line, summary) for line, summary in summaries if len(summary) > MAX_SUMMARY]


def bad_docstrings(code: ast.Module) -> list[Fault]:
    """Docstrings that begin with a relative clause."""
    faults = []
    for line, text in docstrings(code):
        first = text.splitlines()[0] if text else ""
        if text and text.split()[0].strip(".,:`") in OPENERS:
            faults.append((line, first))
    return faults


def bad_negations(code: ast.Module) -> list[Fault]:
    """Texts with `is no x` where `is not an x` is meant."""
    texts = (node for node in ast.walk(code) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [(node.lineno, match[0]) for node in texts if (match := NEGATION.search(str(node.value)))]


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def everywhere(faults: dict[Path, list[Fault]]) -> list[str]:
    return [f"{file.relative_to(SOURCE)}:{line}: {text}" for file, found in faults.items() for line, text in found]


def test_docstrings_say_what_a_thing_is_or_does() -> None:
    assert not everywhere({file: bad_docstrings(parse(file)) for file in MODULES})


def test_docstrings_begin_with_a_short_line() -> None:
    assert not everywhere({file: long_docstrings(parse(file)) for file in MODULES})
    code = 'def f():\n    """Return {}."""\n'
    assert not long_docstrings(ast.parse(code.format("x" * 71)))
    assert long_docstrings(ast.parse(code.format("x" * 72)))


def test_negation_is_by_not_and_a_verb() -> None:
    assert not everywhere({file: bad_negations(parse(file)) for file in MODULES})


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for file in MODULES:
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file.relative_to(SOURCE)}:{node.lineno}")
    assert not {name: found for name, found in places.items() if len(found) > 1}


@pytest.mark.parametrize(
    "text",
    ["What it is.", "Whether it is.", "How it works.", "Which of them, and\n\n    more."],
)
def test_such_a_docstring_would_be_seen(text: str) -> None:
    assert bad_docstrings(ast.parse(f'def f():\n    """{text}"""\n'))
    assert bad_docstrings(ast.parse(f'X = 1\n"""{text}"""\n'))
    assert not bad_docstrings(ast.parse('def f():\n    """Return whether it is."""\n'))


def test_such_a_negation_would_be_seen() -> None:
    assert bad_negations(ast.parse('raise ValueError(f"{path} is no file")'))
    assert not bad_negations(ast.parse('raise ValueError("it is not a file, and is no longer there")'))

"""The shape of the code: imports go downward, no architecture is named, only the command line prints."""

from __future__ import annotations

import ast
import re
import statistics
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bootmatrix
from bootmatrix.load.catalogue import load_catalogues
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles

SOURCE = Path(bootmatrix.__file__).parent
PROFILES = load_profiles([CHECKOUT / "arch"])
MODULES = sorted(SOURCE.rglob("*.py"))
TEXTS = sorted(file for file in SOURCE.rglob("*") if file.is_file() and file.parent.name != "__pycache__")

LAYERS = (
    {"cli", "pytest_plugin"},
    {"autopkgtest", "mcp_server"},
    {"workspace"},
    {"execute", "bisect"},
    {"cell"},
    {"cloud"},
    {"assembly", "plan", "scaffold", "signoff", "server", "subset", "forge"},
    {"boot", "load", "report"},
    {"snapshot", "source", "history", "judge", "guest"},
    {"qemu", "console", "runs"},
    {"store", "progress", "plugins", "git"},
    {"model"},
    {"errors", "fsio", "operating_system", "packaged", "bootmatrix"},
    {"redact"},
)
"""From the top: a package imports from itself and from the rows below, never from a peer."""

PRINTS = {"print", "input", "breakpoint", "exit", "quit"}
EXITS = {("sys", "exit"), ("os", "_exit"), ("sys", "stdout"), ("sys", "stderr"), ("os", "abort")}


def part(name: str) -> str:
    """`load` of `bootmatrix.load.spec`; `bootmatrix` of the package itself."""
    return name.split(".")[:2][-1]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def module_name(file: Path) -> str:
    names = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


NAMES = {module_name(file) for file in MODULES}


def layer(name: str) -> int:
    return next(index for index, parts in enumerate(LAYERS) if part(name) in parts)


def imports(code: ast.AST) -> Iterator[str]:
    """Modules of ours that code imports, at its top or in a function."""
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "bootmatrix")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bootmatrix":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in NAMES else str(node.module)
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError("relative imports hide where they go")


def upward_imports(name: str, code: ast.AST) -> list[str]:
    """Imports of packages that are not in a row below, and are not the module's own.

    The package itself is the public face: it only names what is elsewhere.
    """
    if name == "bootmatrix":
        return []
    return [other for other in imports(code) if part(other) != part(name) and layer(other) <= layer(name)]


def test_imports_go_downward() -> None:
    wrong = {module_name(file): found for file in MODULES if (found := upward_imports(module_name(file), tree(file)))}
    assert not wrong


def test_an_upward_import_would_be_seen() -> None:
    assert upward_imports("bootmatrix.load.spec", ast.parse("def f():\n    from bootmatrix.cli import options\n"))
    assert upward_imports("bootmatrix.errors", ast.parse("import bootmatrix.model.spec\n"))
    assert upward_imports("bootmatrix.judge", ast.parse("from bootmatrix import bisect\n"))
    assert upward_imports("bootmatrix.judge.verdict", ast.parse("from bootmatrix.snapshot.pool import SnapshotPool\n"))
    assert upward_imports("bootmatrix.judge.verdict", ast.parse("from bootmatrix.snapshot.pool import SnapshotPool\n"))
    assert not upward_imports("bootmatrix.cli.run", ast.parse("from bootmatrix.load import load_any\n"))


def test_no_two_modules_import_each_other() -> None:
    graph = {module_name(file): set(imports(tree(file))) for file in MODULES if module_name(file) != "bootmatrix"}
    mutual = {
        tuple(sorted((name, other)))
        for name, others in graph.items()
        for other in others
        if name != other and name in graph.get(other, ()) and not other.startswith(name + ".")
    }
    assert not mutual


@cache
def forbidden_words() -> set[str]:
    """Every name that an architecture has in any world, and those of its machines that mean nothing else."""
    words = set()
    for profile in PROFILES.values():
        names = profile.names.model_dump().values()
        words |= {profile.name, *profile.aliases, *names}
        words |= {piece for name in names for piece in re.split(r"[/-]", name)}
        words |= set(profile.machines)
    return {word.lower() for word in words} - {"linux", "gnu", "v7", "virt", "pc"}


def named(text: str) -> set[str]:
    found = re.findall(r"[a-z0-9]+(?:_[a-z0-9]+)*", text.lower())
    pieces = {piece for word in found for piece in (word, *word.split("_"))}
    return pieces & forbidden_words()


def test_no_architecture_is_named_in_the_source() -> None:
    wrong = {
        f"{file.relative_to(SOURCE)}:{number}": found
        for file in TEXTS
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if (found := named(line))
    }
    assert not wrong


@pytest.mark.parametrize(
    "line",
    ['if arch == "x86_64":', "# for ppc64el", "qemu-system-aarch64", "RASPI2B = 1", "linux/arm/v7", "is_armv7 = True"],
)
def test_an_architecture_would_be_seen(line: str) -> None:
    assert named(line)


def test_words_that_only_look_like_one_are_not() -> None:
    assert not named("harm alarm charm 64 bits, virtual, linux-gnu")


@cache
def distributions() -> set[str]:
    """The distributions of the catalogues: their files' names, and the first words of their kernels' names."""
    catalogues = load_catalogues([CHECKOUT / "kernels"])
    words = {match[0] for one in catalogues.values() for name in one.kernels if (match := re.match("[a-z]+", name))}
    return {word for word in {*catalogues, *words} if len(word) > 2} - {"amazon"}  # a cloud, too


OF_THE_HOST = {"cli/host_packages.toml", "scaffold/example/github.yml"}
"""Package managers by the host's os-release(5), and the label of a CI's runner: neither is about kernels."""


def test_no_distribution_is_named_in_the_source() -> None:
    wrong = [
        f"{file.relative_to(SOURCE)}:{number}"
        for file in TEXTS
        if file.relative_to(SOURCE).as_posix() not in OF_THE_HOST
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if distributions() & set(re.findall("[a-z]+", line.lower()))
    ]
    assert not wrong
    assert {"ubuntu", "fedora", "almalinux", "alma", "rocky", "alpine", "opensuse", "oracle"} <= distributions()


def speaks(code: ast.AST) -> list[int]:
    """Lines that print, read from the terminal, exit, or reach for the standard streams."""
    lines = []
    for node in ast.walk(code):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PRINTS:
            lines.append(node.lineno)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            lines += [node.lineno] if (node.value.id, node.attr) in EXITS else []
        if isinstance(node, ast.Name) and node.id == "SystemExit":
            lines.append(node.lineno)
    return lines


def test_only_the_command_line_prints_or_exits() -> None:
    wrong = {
        module_name(file): lines
        for file in MODULES
        if part(module_name(file)) != "cli" and (lines := speaks(tree(file)))
    }
    assert not wrong


def test_printing_would_be_seen() -> None:
    for text in ("print(1)", "import sys\nsys.exit(1)", "raise SystemExit", "sys.stderr.write('x')", "quit()"):
        assert speaks(ast.parse(text))


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Functions of a module with their lengths in lines, docstrings left out."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield f"{module_name(file)}.{node.name}", length


def test_modules_and_functions_are_small() -> None:
    long = {
        module_name(file): lines
        for file in MODULES
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) >= 400
    }
    if long:
        warnings.warn(f"modules of 400 lines and more: {long}", stacklevel=1)
    lengths = dict(one for file in MODULES for one in functions(file))
    assert statistics.median(lengths.values()) <= 10
    over = {name: length for name, length in lengths.items() if length > 40}
    assert len(over) <= len(lengths) // 100, over


def silent(code: ast.AST) -> list[str]:
    """Public classes, and public functions outside of classes and functions, that say nothing of what they do."""
    return [
        node.name
        for node in ast.iter_child_nodes(code)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]


def test_modules_and_classes_say_what_they_are() -> None:
    wrong = [module_name(file) for file in MODULES if tree(file).body and ast.get_docstring(tree(file)) is None]
    wrong += [f"{module_name(file)}.{name}" for file in MODULES for name in silent(tree(file)) if name[0].isupper()]
    assert not wrong

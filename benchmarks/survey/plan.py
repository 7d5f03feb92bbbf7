"""The list of a survey: packages × targets, and known causes of failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from bootmatrix.errors import InputError

CAUSES = ("program", "kernel", "page size", "emulator", "assumption", "ours")
"""Causes of a failure. An assumption is one of the test itself, such as a network or an init system."""


@dataclass(frozen=True)
class SurveyCell:
    """One package on one target, `ARCH[/MACHINE]` with a kernel."""

    package: str
    machine: str
    kernel: str

    @property
    def id(self) -> str:
        """`package/arch[/machine]/kernel`."""
        return f"{self.package}/{self.machine}/{self.kernel}"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.id.replace("/", "_")


@dataclass(frozen=True)
class Cause:
    """A known cause of the failures of cells, a glob of ids, in a test, a glob of names."""

    cells: str
    test: str
    cause: str
    text: str

    def fits(self, cell_id: str, test: str) -> bool:
        """Return whether it is about a test of a cell."""
        return fnmatchcase(cell_id, self.cells) and fnmatchcase(test, self.test)


@dataclass(frozen=True)
class SurveyList:
    """A survey as its file has it. `suite` has the sources of what the `root` installs.

    `isolation` is that of testbeds; `skipped` has names of tests that are left out, by package; `modules` has those
    of the kernel that a package's tests need; `not_run` has packages that are left out, with the reason; `notes`
    and `cost_notes` are lines for the results and the costs.
    """

    suite: str
    root: str
    targets: tuple[tuple[str, str], ...]
    packages: tuple[str, ...]
    causes: tuple[Cause, ...]
    isolation: str = "none"
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    not_run: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    cost_notes: tuple[str, ...] = ()

    def cells(self) -> Iterator[SurveyCell]:
        """Yield all cells, package by package."""
        for package in self.packages:
            for machine, kernel in self.targets:
                yield SurveyCell(package, machine, kernel)


def load_list(path: Path) -> SurveyList:
    """Load the list of a survey.

    Raises:
        InputError: it cannot be read, or is not one.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        return SurveyList(
            *(str(fields["suite"]), str(fields["root"])),
            targets=tuple(_target(str(text), path) for text in fields["targets"]),
            packages=tuple(map(_name, fields["packages"])),
            skipped=_by_package(fields["packages"], "skip"),
            modules=_by_package(fields["packages"], "modules"),
            causes=tuple(_cause(entry, path) for entry in fields.get("causes") or ()),
            isolation=str(fields.get("isolation", "none")),
            notes=tuple(map(str, fields.get("notes") or ())),
            cost_notes=tuple(map(str, fields.get("cost_notes") or ())),
            not_run=tuple(
                (", ".join(map(str, entry["packages"])), str(entry["reason"])) for entry in fields.get("not_run") or ()
            ),
        )
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the list of a survey: {error}", "See benchmarks/survey/list.yml.") from error


def _name(entry: Any) -> str:
    return str(entry["name"] if isinstance(entry, dict) else entry)


def _by_package(entries: Iterable[Any], key: str) -> dict[str, tuple[str, ...]]:
    return {_name(entry): tuple(map(str, entry[key])) for entry in entries if isinstance(entry, dict) and key in entry}


def _target(text: str, path: Path) -> tuple[str, str]:
    machine, slash, kernel = text.rpartition("/")
    if not slash:
        raise InputError(f"{path}: the target {text!r} must be MACHINE/KERNEL")
    return machine, kernel


def _cause(entry: dict[str, Any], path: Path) -> Cause:
    cause = Cause(str(entry["cells"]), str(entry.get("test", "*")), str(entry["cause"]), str(entry["text"]))
    if cause.cause not in CAUSES:
        raise InputError(f"{path}: the cause {cause.cause!r} must be one of {', '.join(CAUSES)}")
    return cause

"""Plug-ins: implementations by name, from entry points of installed packages.

A package adds one by an entry point in its pyproject.toml, as bootmatrix itself does:

    [project.entry-points."bootmatrix.report_forms"]
    yaml = "my_package.yaml_form"

Each group has a small protocol:

| group                       | protocol                                          |
|-----------------------------|---------------------------------------------------|
| `bootmatrix.report_forms`   | `bootmatrix.report.forms.ReportForm`              |
| `bootmatrix.kernel_formats` | `bootmatrix.source.kernel_formats.KernelFormat`   |
| `bootmatrix.image_sources`  | `bootmatrix.source.image_sources.ImageSourceType` |
| `bootmatrix.output_formats` | `bootmatrix.assembly.formats.Format`              |
| `bootmatrix.executors`      | `bootmatrix.execute.executor.OpenExecutor`        |
| `bootmatrix.board_access`   | `bootmatrix.cloud.board.OpenBoard`                |
"""

from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bootmatrix.errors import HostError, InputError

OWN = "bootmatrix"


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of `bootmatrix.<group>` by name, ours first.

    Raises HostError if two packages register the same name, or ours are not registered at all.
    """
    entries: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=f"{OWN}.{group}"), key=lambda item: (_package(item) != OWN, item.name)):
        other = entries.setdefault(entry.name, entry)
        if other.value != entry.value:
            packages = f"{_package(other)} and {_package(entry)}"
            raise HostError(f"{packages} both register {entry.name!r} in {OWN}.{group}", "Uninstall one of them.")
    if not entries:
        raise HostError(f"no package registers {OWN}.{group}", "Reinstall bootmatrix: its metadata is outdated.")
    return entries


def names(group: str) -> tuple[str, ...]:
    """Return the names of a group's plug-ins."""
    return tuple(registered(group))


@cache
def load(group: str, name: str) -> Any:
    """Load a plug-in.

    Raises InputError if the name is unknown, HostError if it cannot be imported.
    """
    entry = registered(group).get(name)
    if entry is None:
        close = get_close_matches(name, registered(group), 1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        kind = group.replace("_", " ").removesuffix("s")
        raise InputError(f"unknown {kind} {name!r}", f"{hint}Known: {', '.join(registered(group))}.")
    try:
        return entry.load()
    except Exception as error:  # another package's module may fail in any way
        text = f"cannot load {name!r} of {OWN}.{group} from {_package(entry)}: {error}"
        if _package(entry) == OWN and isinstance(error, ModuleNotFoundError):
            raise HostError(text, f"Install its packages: pip install '{OWN}[{name}]'") from error
        raise HostError(text, "Update or uninstall that package.") from error


def load_all(group: str) -> dict[str, Any]:
    """Load a group's plug-ins by name. Raises HostError if one cannot be."""
    return {name: load(group, name) for name in registered(group)}


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else ""

"""Forms that a report can take, one module each, found by its name: `render` makes a run into that form.

A new form is a new module here, with a `render(given: Given) -> bytes`, and nothing else to change.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

NAMES = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))


def render(name: str, given: object) -> bytes:
    """A run in a form; `given` is a `bootmatrix.report.context.Given`."""
    made: bytes = import_module(f"{__name__}.{name}").render(given)
    return made

"""Boot every spec × architecture × kernel under emulation, and say what happened.

    >>> import bootmatrix
    >>> workspace = bootmatrix.Workspace(offline=True)
    >>> planned = workspace.plan("hello", arch=["all"], kernel=["6.1"])
    >>> {cell.spec_name for cell in planned.cells}, {cell.kernel for cell in planned.cells}
    ({'hello'}, {'6.1'})

`workspace.run(planned)` boots the cells and yields a `Record` for each; `Run.load("reports/latest")` reads a saved run.
Names are loaded when they are first used, so that the import itself costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootmatrix.errors import AgentError as AgentError
    from bootmatrix.errors import BootmatrixError as BootmatrixError
    from bootmatrix.errors import BuildError as BuildError
    from bootmatrix.errors import InfraError as InfraError
    from bootmatrix.errors import InputError as InputError
    from bootmatrix.model import Cell as Cell
    from bootmatrix.model import Judgement as Judgement
    from bootmatrix.model import Record as Record
    from bootmatrix.model import Verdict as Verdict
    from bootmatrix.workspace.finished import RunOptions as RunOptions
    from bootmatrix.workspace.guest import CommandError as CommandError
    from bootmatrix.workspace.guest import CommandResult as CommandResult
    from bootmatrix.workspace.guest import Guest as Guest
    from bootmatrix.workspace.planned_run import PlannedRun as PlannedRun
    from bootmatrix.workspace.saved_run import SavedRun
    from bootmatrix.workspace.selection import Selection as Selection
    from bootmatrix.workspace.single_guest import find_guest as find_guest
    from bootmatrix.workspace.workspace import Workspace as Workspace

    Run = SavedRun

__version__ = "0.1.0"

_NAMES = {
    "errors": ("AgentError", "BootmatrixError", "BuildError", "InfraError", "InputError"),
    "model": ("Cell", "Judgement", "Record", "Verdict"),
    "workspace.finished": ("RunOptions",),
    "workspace.guest": ("CommandError", "CommandResult", "Guest"),
    "workspace.planned_run": ("PlannedRun",),
    "workspace.saved_run": ("Run",),
    "workspace.selection": ("Selection",),
    "workspace.single_guest": ("find_guest",),
    "workspace.workspace": ("Workspace",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), "SavedRun" if name == "Run" else name)


def __dir__() -> list[str]:
    return __all__

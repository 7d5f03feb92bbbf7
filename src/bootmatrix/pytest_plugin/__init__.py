"""Plug-in for pytest: guests as fixtures, cells as parameters.

Imports nothing of bootmatrix until a test uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bootmatrix.model import Record
    from bootmatrix.pytest_plugin.cells import TestCell
    from bootmatrix.pytest_plugin.guest import PytestGuest
    from bootmatrix.workspace.saved_run import SavedRun

CELL = "bootmatrix_cell"
FIXTURES = (CELL, "guest", "fresh_guest", "bootmatrix_record")
MARKER = (
    "bootmatrix(spec, arch=[…], kernel=['6.1'], at=''): run the tests in a guest of each cell; "
    "'at' is the service in whose root commands run"
)
_CONSOLE = pytest.StashKey["PytestGuest"]()
_RUNS = pytest.StashKey["dict[str, SavedRun]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plug-in's options."""
    group = parser.getgroup("bootmatrix")
    for name, words in (("arch", "architectures"), ("kernel", "kernels")):
        group.addoption(f"--bootmatrix-{name}", metavar="X,…", default="", help=f"only these {words} of marked tests")
    group.addoption("--bootmatrix-reports", metavar="FOLDER", default="", help="folder of runs of 'bootmatrix_record'")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a parameter of each cell that the marker of a test names."""
    if not set(FIXTURES) & set(metafunc.fixturenames):
        return
    marker = metafunc.definition.get_closest_marker("bootmatrix")
    if marker is None:  # another package's fixture of this name, or a marker that is missing: the fixture tells
        return
    from bootmatrix.pytest_plugin.cells import parameters

    cells = parameters(metafunc.config, metafunc.definition.path, marker)
    metafunc.parametrize(CELL, cells, indirect=True, scope="module")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name the groups of cells' tests for `--dist loadgroup` of pytest-xdist.

    Its release 3.8 sets `_nodeid`, which pytest 9.2 does not read.
    """
    if not config.getoption("loadgroup", default=False):
        return
    for item in items:
        node_id, cell = getattr(item, "_id", None), _cell_of(item)
        if node_id and cell and "]@" not in item.nodeid:
            item._id = node_id.parse(f"{item.nodeid}@{cell.id}")


def _cell_of(item: pytest.Item) -> TestCell | None:
    cell: TestCell | None = getattr(getattr(item, "callspec", None), "params", {}).get(CELL)
    return cell


@pytest.fixture(scope="module")
def bootmatrix_cell(request: pytest.FixtureRequest) -> TestCell:
    """The cell under test: `id`, `spec`, `arch`, `kernel`, `time_factor`."""
    cell: TestCell | None = getattr(request, "param", None)
    if cell is None:
        raise pytest.UsageError("this test needs a marker such as @pytest.mark.bootmatrix(spec='hello', arch=['all'])")
    return cell


@pytest.fixture(scope="module")
def guest(bootmatrix_cell: TestCell, request: pytest.FixtureRequest) -> Iterator[PytestGuest]:
    """A running guest of the cell, shared by the tests of a module."""
    yield from _guest(bootmatrix_cell, request)


@pytest.fixture
def fresh_guest(bootmatrix_cell: TestCell, request: pytest.FixtureRequest) -> Iterator[PytestGuest]:
    """A running guest for this test alone, a copy where possible."""
    yield from _guest(bootmatrix_cell, request)


def _guest(cell: TestCell, request: pytest.FixtureRequest) -> Iterator[PytestGuest]:
    from bootmatrix.pytest_plugin.guest import open_guest

    with open_guest(cell) as opened:
        request.node.stash[_CONSOLE] = opened
        try:
            yield opened
        finally:
            del request.node.stash[_CONSOLE]


@pytest.fixture(scope="module")
def bootmatrix_record(bootmatrix_cell: TestCell, request: pytest.FixtureRequest) -> Record:
    """The cell's record, as by `bootmatrix matrix`, and kept as a run."""
    from bootmatrix.pytest_plugin.cells import run_cell

    run = run_cell(bootmatrix_cell, request.config)
    request.node.stash.setdefault(_RUNS, {})[bootmatrix_cell.id] = run
    return run.records[0]


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Report our faults as errors, a guest's as failures, with the console."""
    cell = _cell_of(item)
    if cell is not None and call.when == "setup":
        item.user_properties.append((CELL, cell.id))
    outcome = yield
    if cell is None:
        return
    from bootmatrix.pytest_plugin.reports import complete

    report = outcome.get_result()  # type: ignore[attr-defined]
    nodes = [node for node in (item, item.getparent(pytest.Module)) if node is not None]
    guests = [node.stash.get(_CONSOLE, None) for node in nodes]
    complete(report, call, cell, next((each for each in guests if each), None))
    run = nodes[-1].stash.get(_RUNS, {}).get(cell.id)
    if run and call.when == "call" and "bootmatrix_record" in getattr(item, "fixturenames", ()):
        item.user_properties += [
            ("bootmatrix_verdict", str(run.records[0].verdict)),
            ("bootmatrix_run", str(run.folder)),
        ]

"""A search for the first kernel with another verdict, kept as a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bootmatrix.assembly.build_context import open_builder
from bootmatrix.bisect.kernels import Question, Search, prepare_search, run_search
from bootmatrix.cell.context import open_context
from bootmatrix.cell.run import RunContext
from bootmatrix.execute.budget import Budget, host_budget
from bootmatrix.load.merge import load_spec
from bootmatrix.model.run_config import RunConfig
from bootmatrix.plan import check_spec
from bootmatrix.progress import Observer
from bootmatrix.report.bisection import write_bisection
from bootmatrix.report.writer import write_reports
from bootmatrix.runs.run_store import RunWriter
from bootmatrix.workspace.planned_run import load_specs
from bootmatrix.workspace.workspace import Workspace


class OpenBisection:
    """A search under way."""

    def __init__(self, search: Search, context: RunContext, writer: RunWriter, budget: Budget) -> None:
        self._search, self._context, self._writer, self._budget = search, context, writer, budget

    async def execute(self) -> None:
        """Boot kernels until the first one with another verdict is known."""
        await run_search(self._search, self._context, self._writer, self._budget.cores)

    def finish(self, *, interrupted: bool) -> Path:
        """Write the run with its reports; the path of the search's page."""
        result = self._writer.finish(interrupted=interrupted)
        write_reports(result, self._writer.path)
        return write_bisection(self._search.state, result, self._writer.path)


def prepare(workspace: Workspace, question: Question, observer: Observer) -> Search:
    """Find the kernels of a question, without booting them.

    Raises InputError for an unknown architecture, kernel or version, or a spec that tests nothing; InfraError if the
    archive cannot be reached.
    """
    check_spec(str(question.spec), load_spec(question.spec))
    with open_builder(workspace.sources(), observer) as builder:
        return prepare_search(question, workspace.profiles(), builder.archive)


@contextmanager
def open_bisection(
    workspace: Workspace, search: Search, observer: Observer, jobs: int | None = None
) -> Iterator[OpenBisection]:
    """Begin a search; `jobs` is the number of the host's cores to use, None for all."""
    specs = load_specs(search.cells)
    writer = RunWriter.create(workspace.reports_folder, f"bisect {search.state.spec}")
    budget = host_budget(jobs, workspace.sources().cache, observer)
    config = RunConfig(replace(workspace.sources(), lock=None), search.profiles, specs)
    with open_context(config, observer, budget.hold) as context:
        yield OpenBisection(search, context, writer, budget)

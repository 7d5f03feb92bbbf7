"""A search of a kernel's git tree for a commit, kept as a run."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from anyio.abc import Process

from bootmatrix.assembly.kernel.probe import page_kib_of
from bootmatrix.bisect.commits import CommitSearch
from bootmatrix.bisect.git import Commit, GitBisect, GitTree
from bootmatrix.cell.context import open_context
from bootmatrix.cell.run import RunContext, run_cell
from bootmatrix.errors import InputError
from bootmatrix.execute.budget import host_budget
from bootmatrix.fsio import write_atomic
from bootmatrix.load.expand import product
from bootmatrix.load.merge import load_spec
from bootmatrix.load.profile import find_machine
from bootmatrix.model import Bisection, CustomKernel, KernelPart, Matrix, Profile, Step, Verdict
from bootmatrix.model.run_config import RunConfig
from bootmatrix.plan import check_spec
from bootmatrix.progress import Observer
from bootmatrix.report.bisection import write_bisection
from bootmatrix.report.writer import write_reports
from bootmatrix.runs.run_store import RunWriter
from bootmatrix.source.kernel_formats import kernel_formats, tree
from bootmatrix.workspace.workspace import Workspace

LOG_FILE = "git-bisect.log"
BUILDS_FOLDER = "builds"


@dataclass(frozen=True)
class TreeQuestion:
    """A search in a git tree.

    `build` is a shell command that makes the kernel of the commit that is checked out; `built` is what it makes,
    relative to the tree: a build tree, or another source of `bootmatrix kernels add`. Only a fault with `match` as its
    verdict, or in its reason, is bad; without it every other verdict than the good commit's is.
    """

    spec: Path
    target: str
    tree: Path
    good: str
    bad: str
    build: str
    built: Path = Path()
    match: str = ""


class TreeBisection:
    """A search under way."""

    def __init__(self, question: TreeQuestion, git: GitBisect, context: RunContext, writer: RunWriter) -> None:
        self._question, self._git, self._context, self._writer = question, git, context, writer
        spec = context.specs[str(question.spec)]
        self._search = CommitSearch(git, spec.name, question.target, question.match)
        (writer.path / BUILDS_FOLDER).mkdir(exist_ok=True)

    @property
    def state(self) -> Bisection:
        """The commits that were tested, and what follows from them."""
        return self._search.state()

    async def execute(self) -> None:
        """Build and boot commits until the first one with another verdict is known."""
        await self._search.run(self._test)

    def finish(self, *, interrupted: bool) -> Path:
        """Write git's log and the run with its reports; the path of the search's page."""
        write_atomic(self._writer.path / LOG_FILE, self._git.log().encode())
        result = self._writer.finish(interrupted=interrupted)
        write_reports(result, self._writer.path)
        return write_bisection(self.state, result, self._writer.path)

    async def _test(self, commit: Commit) -> Step:
        self._context.observer.note(f"{commit.name} {commit.subject}: {self._question.build}")
        log = self._writer.path / BUILDS_FOLDER / f"{commit.name}.log"
        status = await build(self._question.build, self._question.tree, log)
        fault = f"--build: status {status}: {log}" if status else ""
        try:
            kernel = None if fault else built_kernel(self._question)
        except InputError as error:
            kernel, fault = None, str(error)
        if kernel is None:
            self._context.observer.note(f"{commit.name} is skipped: {fault}")
            return _step(commit, Verdict.BUILD_ERROR, fault)
        return await self._boot(commit, kernel)

    async def _boot(self, commit: Commit, kernel: CustomKernel) -> Step:
        profile, _ = find_machine(self._context.profiles, self._question.target)
        with_own = profile.model_copy(update={"own": {commit.name: kernel}})
        profiles = {**self._context.profiles, profile.name: with_own}
        matrix = Matrix(specs=(str(self._question.spec),), arch=(self._question.target,), kernel=(commit.name,))
        (cell,) = product(matrix, Path(), profiles)
        record = await run_cell(cell, replace(self._context, profiles=profiles), self._writer.folder(cell))
        self._writer.add(record)
        self._context.observer.cell_done(record)
        image = (record.kernel.parts[0].sha256 or "") if record.kernel else ""
        step = _step(commit, record.verdict, record.judgement.reason)
        return step.model_copy(update={"cell": cell.id, "image": image})


def _step(commit: Commit, verdict: Verdict, reason: str) -> Step:
    return Step(release=commit.name, version=commit.subject[:60], suite="", cell="", verdict=verdict, reason=reason)


def built_kernel(question: TreeQuestion) -> CustomKernel:
    """Return the kernel of a build. Raises InputError without one."""
    path = (question.tree / question.built).absolute()
    kind = next((name for name, form in kernel_formats().items() if path.exists() and form.recognises(path)), None)
    if kind is None:
        raise InputError(f"{path}: not a kernel after --build", "Name what it makes with --built.")
    page_kib = page_kib_of((path / tree.CONFIG).read_bytes()) if kind == "tree" else 4
    return CustomKernel(parts=(KernelPart(kind=kind, path=str(path)),), page_kib=page_kib)


async def build(command: str, folder: Path, log: Path) -> int:
    """Run the user's command in a shell, output in a file; return status.

    All that it has started ends with it.
    """
    with log.open("wb") as output:
        process = await anyio.open_process(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return await process.wait()
        finally:
            await _end(process)


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.CancelScope(shield=True):
        await process.wait()


@contextmanager
def open_tree_bisection(
    workspace: Workspace, question: TreeQuestion, observer: Observer, jobs: int | None = None
) -> Iterator[TreeBisection]:
    """Begin a search; afterwards the tree has the branch or commit of before.

    Raises InputError if an unknown commit or architecture, a tree with changes, or a spec that tests nothing.
    """
    spec = load_spec(question.spec)
    check_spec(str(question.spec), spec)
    profiles: Mapping[str, Profile] = workspace.profiles()
    find_machine(profiles, question.target)
    git_tree = GitTree(question.tree)
    good, bad = git_tree.commit(question.good), git_tree.commit(question.bad)
    if good == bad:
        raise InputError(f"{question.good} and {question.bad} are the same commit, {good.name}")
    with git_tree.bisect(good, bad) as git:
        writer = RunWriter.create(workspace.reports_folder, f"bisect {spec.name}")
        budget = host_budget(jobs, workspace.sources().cache, observer)
        config = RunConfig(replace(workspace.sources(), lock=None), dict(profiles), {str(question.spec): spec})
        with open_context(config, observer, budget.hold) as context:
            yield TreeBisection(question, git, context, writer)

"""The workspace: all settings, frozen, and the operations on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bootmatrix.errors import InputError
from bootmatrix.history.reference import find_run, reports_folder
from bootmatrix.load.catalogue import with_catalogues
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.images import parse_override
from bootmatrix.load.kernels import kernels_file, with_custom_kernels
from bootmatrix.load.lock import load_lock
from bootmatrix.load.matrix import SUFFIXES, kernel_names, load_matrix
from bootmatrix.load.profile import find_machine, load_profiles
from bootmatrix.load.spec import check_foreign, find_spec, spec_name
from bootmatrix.model import ImageOverride, Lock, Matrix, Plan, Profile, Record, Tier
from bootmatrix.model.run_config import RunConfig, SourceConfig
from bootmatrix.plan import check_tests, matrix_from_arguments, narrowed, plan
from bootmatrix.progress import NullObserver, Observer
from bootmatrix.qemu.version import qemu_fault
from bootmatrix.store import default_cache, healed
from bootmatrix.workspace.choice import Choice, choose, part_title
from bootmatrix.workspace.finished import RunOptions
from bootmatrix.workspace.planned_run import PlannedRun, load_resumable, load_specs, lock_of, verify_forks
from bootmatrix.workspace.selection import Selection, apply, board_targets, default_kernels

if TYPE_CHECKING:
    from bootmatrix.cell.run import RunContext
    from bootmatrix.workspace.guest import Guest
    from bootmatrix.workspace.saved_run import SavedRun


@dataclass(frozen=True)
class Workspace:
    """Settings: cache, archive, reports. Frozen, picklable, opens nothing.

    Args:
        cache: folder of downloads and builds; by default `BOOTMATRIX_CACHE`, else `~/.cache/bootmatrix`.
        archive: address of the Debian archive; by default the host's own.
        offline: download nothing.
        reports: folder of runs; by default `BOOTMATRIX_REPORTS`, else `reports` in the current folder.
        lock: a lock file, whose kernels, packages and images alone are used.
        images: image overrides, `NAME=SOURCE` as `--image` takes them.
        refresh: ask for newer indexes than those in the cache.
        allow_older_release: take a suite's release although a newer one was seen before.

    >>> workspace = Workspace(offline=True)
    >>> workspace == Workspace(offline=True)
    True
    >>> {cell.kernel for cell in workspace.plan("hello", kernel=["6.1"]).cells}
    {'6.1'}
    """

    cache: Path | None = None
    archive: str | None = None
    offline: bool = False
    reports: Path | None = None
    lock: Path | None = None
    images: tuple[str, ...] = ()
    refresh: bool = False
    allow_older_release: bool = False

    @property
    def reports_folder(self) -> Path:
        """The folder of runs."""
        return reports_folder(self.reports)

    @property
    def cache_folder(self) -> Path:
        """The folder of downloads and builds."""
        return Path(self.cache or default_cache())

    def profiles(self) -> dict[str, Profile]:
        """Load all architectures by name, with the user's own kernels.

        Raises InputError if a profile or kernels.yml is invalid.
        """
        return with_custom_kernels(load_profiles(arch_folders()), kernels_file())

    def image_overrides(self) -> tuple[ImageOverride, ...]:
        """Parse the image overrides. Raises InputError if one is not NAME=SOURCE."""
        return tuple(parse_override(text, Path()) for text in self.images)

    def sources(self, images: tuple[ImageOverride, ...] | None = None) -> SourceConfig:
        """Describe where files come from; `images` replaces the overrides.

        Raises InputError if the lock or an override is invalid.
        """
        return SourceConfig(
            cache=self.cache_folder,
            archive=self.archive,
            offline=self.offline,
            refresh=self.refresh,
            allow_older_release=self.allow_older_release,
            lock=load_lock(Path(self.lock)) if self.lock else None,
            images=self.image_overrides() if images is None else images,
        )

    def plan(
        self,
        *files: str | Path,
        arch: Sequence[str] = (),
        kernel: Sequence[str] = (),
        selection: Selection | None = None,
    ) -> PlannedRun:
        """Plan the cells of a matrix file, or of specs (paths or names).

        `selection` says more than `arch` and `kernel`, and takes their place.

        Raises InputError if a file, an architecture or a kernel is unknown, or nothing would be tested.
        """
        chosen = selection or Selection(arch=tuple(arch), kernel=tuple(kernel))
        return self.planned(self.matrix_plan([str(file) for file in files], chosen), chosen)

    def matrix_plan(self, files: Sequence[str], selection: Selection) -> tuple[Plan, str, dict[str, Profile]]:
        """Expand files into cells; the plan, its title, and all profiles.

        Raises InputError if a file, an architecture or a kernel that is not known.
        """
        profiles = with_catalogues(self.profiles(), {*selection.kernel, *_kernel_names(files)})
        matrix, base, title = _find_matrix(files, selection, profiles)
        fault = {"qemu_fault": qemu_fault} if selection.needs_qemu else {}
        boards = {board.name: find_machine(profiles, board.arch)[0].name for board in selection.boards}
        whole = plan(apply(selection, matrix), base, profiles, **fault, boards=boards)
        whole = whole.model_copy(update={"images": (*self.image_overrides(), *whole.images)})
        if "system" not in (tiers := sorted({cell.tier for cell in whole.cells}, reverse=True)) and tiers:
            title = f"{title} ({', '.join(tiers)} tier)"
        choice = Choice(selection.only, selection.rerun_failed, selection.shard, selection.budget)
        chosen = choose(whole, choice, profiles, self.reports_folder, title)
        return chosen, part_title(title, chosen), profiles

    def planned(self, expanded: tuple[Plan, str, dict[str, Profile]], selection: Selection) -> PlannedRun:
        """Make a run of cells that are expanded already.

        Raises InputError if a spec is invalid, or nothing would be tested.
        """
        cells, title, profiles = expanded
        if selection.verify_fork is not None:
            cells = verify_forks(cells, selection.verify_fork, profiles)
        specs = load_specs(cells.cells)
        allow_empty = selection.allow_empty or bool(cells.part and cells.part.whole)
        if selection.must_test:
            check_tests(cells, specs, allow_empty=allow_empty)
        config = RunConfig(self.sources(cells.images), profiles, specs, fork=_forks(cells))
        return PlannedRun(cells, config, title, self.reports_folder, allow_empty=allow_empty, tiers=selection.tier)

    def plan_single(self, spec: str | Path, arch: str, kernel: str, selection: Selection | None = None) -> PlannedRun:
        """Plan exactly one cell.

        Raises InputError if the architecture has no such kernel, or the names mean more than one cell.
        """
        chosen = replace(selection or Selection(), arch=(arch,), kernel=(kernel,), allow_empty=True)
        planned = self.plan(spec, selection=chosen)
        if planned.skips:
            raise InputError(planned.skips[0].reason)
        if len(planned.cells) != 1:
            count = len(planned.cells)
            raise InputError(f"expected one cell, found {count}", "Name one spec, --arch and --kernel.")
        return planned

    def resume(self, run: str | Path, tiers: tuple[Tier, ...] = ()) -> PlannedRun:
        """Plan what is missing of an interrupted run, by any of its names.

        `tiers` on this host's kernel are run if they are among these.

        Raises InputError if it cannot be taken up again.
        """
        folder = find_run(self.reports_folder, str(run)).folder.resolve()
        before, order = load_resumable(folder)
        lock = lock_of(folder)
        sources = replace(
            replace(self, lock=None).sources(order.plan.images),
            lock=load_lock(lock) if lock else None,
            lock_is_whole=order.locked,
        )
        profiles = with_catalogues(self.profiles(), {cell.kernel for cell in order.plan.cells})
        check_foreign({Path(cell.spec) for cell in order.plan.cells}, Path())
        config = RunConfig(sources, profiles, load_specs(order.plan.cells), fork=_forks(order.plan))
        return PlannedRun(
            plan=order.plan,
            config=config,
            title=before.title,
            reports=folder.parent,
            name=folder.name,
            before=before,
            allow_empty=order.allow_empty,
            tiers=tiers,
        )

    async def run(self, planned: PlannedRun, options: RunOptions | None = None) -> AsyncIterator[Record]:
        """Run all cells, and yield each record; the run is kept in the reports folder.

        Closing the iterator early ends all guests, and keeps the run as interrupted.
        """
        from bootmatrix.workspace.run import open_run

        with open_run(planned, options or RunOptions(), NullObserver()) as opened:
            finished = False
            try:
                async for record in opened.records():
                    yield record
                finished = True
            finally:
                opened.finish(interrupted=not finished)

    def run_sync(
        self, planned: PlannedRun, options: RunOptions | None = None, observer: Observer | None = None
    ) -> SavedRun:
        """Run all cells, and return the finished run. Blocking."""
        from bootmatrix.workspace.run import run_blocking

        return run_blocking(planned, options, observer or NullObserver())

    def boot(self, spec: str | Path, *, arch: str, kernel: str = "6.1", options: RunOptions | None = None) -> Record:
        """Run one cell as a run of its own, and return its record. Blocking.

        Raises InputError if the cell does not exist.
        """
        planned = self.plan_single(spec, arch, kernel)
        return self.run_sync(planned, options).records[0]

    @contextmanager
    def open_context(self, planned: PlannedRun, observer: Observer | None = None) -> Iterator[RunContext]:
        """Open the context that prepares cells of a planned run, without booting them."""
        from bootmatrix.cell.context import open_context

        with open_context(replace(planned.config, fork=False), observer or NullObserver()) as context:
            yield context

    @asynccontextmanager
    async def guest(  # noqa: PLR0913
        self,
        name: str = "debian-small",
        *,
        arch: str,
        kernel: str = "default",
        selection: Selection | None = None,
        env: Mapping[str, str] | None = None,
        modules: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> AsyncIterator[Guest]:
        """Boot a guest for commands and files, killed in the end. Asynchronous.

        `name` is a spec, whose services are started, or an image, of which nothing is started. `default` is kernel
        6.1, or the first one of an architecture without it. `modules` of the kernel are loaded for an image.

        Raises InputError for an unknown spec, architecture or kernel; BootmatrixError if it cannot be built or booted.
        """
        from bootmatrix.workspace.guest_boot import open_guest
        from bootmatrix.workspace.guest_plan import plan_guest

        planned, root = plan_guest(lambda spec: self.plan_single(spec, arch, kernel, selection), name, modules)
        async with open_guest(planned, root, observer, env) as guest:
            yield guest

    def resolve(self, planned: PlannedRun, observer: Observer | None = None) -> tuple[Lock, list[tuple[str, str]]]:
        """Fetch and build all cells; return a lock of all inputs used, and failed cells."""
        from bootmatrix.cell.run import prepare_all

        with self.open_context(planned, observer) as context:
            failures = prepare_all(planned.cells, context)
            return context.builder.archive.resolved(), [(cell.id, message) for cell, message in failures]

    def build(  # noqa: PLR0913  (each is an option of its own)
        self,
        spec: str | Path,
        *,
        arch: str,
        kernel: str = "6.1",
        formats: Sequence[str] = ("kernel+initrd",),
        prefix: Path | None = None,
        sbom: bool = False,
        stream: BinaryIO | None = None,
        observer: Observer | None = None,
    ) -> list[Path]:
        """Write a cell in LinuxKit's formats; return paths with `prefix`.

        With `stream` the only file of a format is written there instead.

        Raises InputError for an unknown cell or format, BuildError if the spec cannot be built in this format.
        """
        from bootmatrix.assembly import build_context, export

        planned = self.plan_single(spec, arch, kernel, Selection(needs_qemu=False, must_test=False))
        (cell,) = planned.cells
        request = export.ExportRequest(
            tuple(formats), prefix or Path(cell.id.replace("/", "-")), is_named="/" in arch, sbom=sbom, stream=stream
        )
        config = planned.config
        with build_context.open_builder(config.sources, observer or NullObserver()) as builder:
            context = build_context.BuildContext(config.specs, config.profiles, builder)
            return healed(lambda: export.write(request, cell, context))


def _forks(cells: Plan) -> bool:
    return any(cell.boot == "fork" for cell in cells.cells)


def _kernel_names(files: Sequence[str]) -> set[str]:
    """Return the kernel names of a matrix file; none of specs."""
    path = find_spec(files[0]) if files else Path()
    return kernel_names(path) if path.name.endswith(SUFFIXES) else set()


def _find_matrix(files: Sequence[str], selection: Selection, profiles: dict[str, Profile]) -> tuple[Matrix, Path, str]:
    """Return the matrix of the files, the base folder of its paths, and its title."""
    if not files:
        raise InputError("name a matrix, or specs")
    first = find_spec(files[0])
    if not first.name.endswith(SUFFIXES):
        specs = [str(find_spec(name)) for name in files]
        kernels = default_kernels(selection, selection.kernel)
        matrix = matrix_from_arguments(specs, board_targets(selection), kernels, profiles)
        return matrix, Path(), " ".join(spec_name(Path(name)) for name in specs)
    if len(files) > 1:
        raise InputError("a matrix stands alone", f"Give either {files[0]} or specs.")
    matrix = load_matrix(first, profiles)
    narrow = narrowed(matrix, board_targets(selection), selection.kernel, profiles)
    return narrow, first.parent, first.name.rpartition(".matrix.")[0]

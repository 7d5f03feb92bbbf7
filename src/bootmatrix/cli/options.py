"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from bootmatrix.assembly.build_context import Materials
    from bootmatrix.assembly.image.builder import Builder
    from bootmatrix.cell.run import Bench
    from bootmatrix.model import Cell, GivenImage, Lock, Matrix, Plan, Profile, Spec
    from bootmatrix.progress import Observer


WIDE = 160
RUN_HELP = "a folder under reports/, 'latest', or 'tag:NAME'"


def add_selection(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """MATRIX or SPEC…, --arch, --kernel."""
    count = "+" if required else "*"
    parser.add_argument("files", nargs=count, metavar="MATRIX|SPEC", help="a *.matrix.yml, or specs (path or name)")
    parser.add_argument(
        "--arch",
        type=names,
        default=(),
        metavar="A[/MACHINE][@CPU],…",
        help="architectures, or 'all'; A/all is all of its machines, @CPU one of its CPU models",
    )
    parser.add_argument("--kernel", type=names, default=(), metavar="K,…", help="kernel names, such as 6.1,newest")


def add_allow_empty(parser: argparse.ArgumentParser) -> None:
    """--allow-empty."""
    parser.add_argument(
        "--allow-empty",
        action="store_true",
        help="exit status 0 also where no cell is left to run; without this, nothing tested is bad input",
    )


def add_single(parser: argparse.ArgumentParser) -> None:
    """--arch A --kernel K."""
    parser.add_argument("--arch", required=True, metavar="A[/MACHINE]", help="one architecture")
    parser.add_argument("--kernel", default="6.1", metavar="K", help="one kernel name (default: 6.1)")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """--offline, --locked, --cache, --archive."""
    parser.add_argument("--offline", action="store_true", help="download nothing: what is not in the cache is missing")
    parser.add_argument(
        "--locked",
        nargs="?",
        const=True,
        default=None,
        metavar="FILE",
        help="use just the packages of a lock file (default: the one that 'bootmatrix lock' writes beside the matrix)",
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where downloads and builds are kept")
    parser.add_argument("--archive", metavar="URL", help="address of the Debian archive")
    parser.add_argument(
        "--allow-older-release",
        action="store_true",
        help="take a suite's release although a newer one was seen before, as a snapshot's is",
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="take images that are called so (a name or a glob) from there: docker://, docker-daemon:, oci:, "
        "oci-archive:, docker-archive:, tar:, @pkg: (docs/images.md)",
    )


def add_qemu_args(parser: argparse.ArgumentParser) -> None:
    """--qemu-args TEXT."""
    parser.add_argument(
        "--qemu-args",
        action="append",
        default=[],
        metavar="TEXT",
        help="further arguments of QEMU, as a shell would split them: '-device edu -rtc base=2030-01-01'",
    )


def add_reports(parser: argparse.ArgumentParser, below: bool = False) -> None:
    """--reports FOLDER; `below` a command that has it too, what that one was given stays."""
    parser.add_argument(
        "--reports",
        type=Path,
        default=argparse.SUPPRESS if below else None,
        metavar="FOLDER",
        help="where runs are kept (default: BOOTMATRIX_REPORTS, else reports)",
    )


def add_baseline(parser: argparse.ArgumentParser) -> None:
    """--baseline RUN, --fail-on regression."""
    parser.add_argument("--baseline", metavar="RUN", help=f"compare with this run: {RUN_HELP}")
    parser.add_argument(
        "--fail-on",
        choices=("regression",),
        help="exit status 1 only for what is worse than in the baseline (default baseline: latest); without this, for "
        "every verdict that is not as expected",
    )


def add_single_file(parser: argparse.ArgumentParser) -> None:
    """--single-file."""
    parser.add_argument(
        "--single-file",
        action="store_true",
        help="fold the consoles into report.html, for sending it alone; without this each cell has a page beside it",
    )


def times(text: str) -> int:
    """How often something is tried again."""
    from bootmatrix.model.matrix import MAX_AGAIN

    if not text.isdecimal() or int(text) > MAX_AGAIN:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MAX_AGAIN}")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them: at least one, as none would stand for all."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} has no name in it")
    return found


def lock_file(args: argparse.Namespace) -> Path:
    """The lock file that belongs to the files named: `influxdb.matrix.yml` has `influxdb.matrix.lock`."""
    return Path(args.files[0]).with_suffix(".lock")


def read_lock(args: argparse.Namespace) -> Lock | None:
    """The lock that `--locked` asks for."""
    from bootmatrix.load.lock import load_lock

    if args.locked is None:
        return None
    return load_lock(lock_file(args) if args.locked is True else Path(args.locked))


def open_builder(
    args: argparse.Namespace,
    observer: Observer,
    lock: Lock | None = None,
    lock_is_whole: bool = True,
    given: tuple[GivenImage, ...] | None = None,
) -> Builder:
    """A builder over the cache and the archive that the options name.

    `given` is what takes the place of images, if it is not just what the options say.
    """
    from bootmatrix.assembly.image.builder import Builder
    from bootmatrix.load.recipe import find_recipe, load_recipe
    from bootmatrix.load.registries import load_registries, registries_file
    from bootmatrix.source.archive import open_archive
    from bootmatrix.source.images.images import Access, Images
    from bootmatrix.store import Store, default_cache

    store = Store(args.cache or default_cache())
    archive = open_archive(
        store,
        offline=args.offline,
        lock=lock,
        address=args.archive,
        progress=observer,
        refresh=getattr(args, "refresh", False),
        lock_is_whole=lock_is_whole,
        allow_older=getattr(args, "allow_older_release", False),
    )
    file = registries_file()
    access = Access(load_registries(file).registries, file.parent, args.offline, lock, lock_is_whole)
    images = Images(store, observer, archive.used, access)
    return Builder(
        store=store,
        archive=archive,
        find_recipe=find_recipe,
        load_recipe=load_recipe,
        images=images,
        given=given_images(args) if given is None else given,
    )


def given_images(args: argparse.Namespace) -> tuple[GivenImage, ...]:
    """What `--image` puts in the place of images.

    Raises:
        InputError: it is not NAME=SOURCE.
    """
    from bootmatrix.load.images import parse_given

    return tuple(parse_given(text, Path()) for text in args.image)


@contextmanager
def shown_builder(
    args: argparse.Namespace, given: tuple[GivenImage, ...] | None = None
) -> Iterator[tuple[Builder, Observer]]:
    """A builder, with downloads shown on the terminal, and what shows them."""
    from bootmatrix.cli.downloads import shown_downloads

    with shown_downloads() as downloads:
        builder = open_builder(args, downloads, read_lock(args), given=given)
        try:
            yield builder, downloads
        finally:
            builder.close()


@contextmanager
def open_materials(args: argparse.Namespace, plan: Plan, known: dict[str, Profile]) -> Iterator[Materials]:
    """What cells are made of, with downloads shown on the terminal."""
    from bootmatrix.assembly.build_context import Materials

    specs = load_specs(plan.cells)
    with shown_builder(args, plan.images) as (builder, _):
        yield Materials(specs, known, builder)


@contextmanager
def open_bench(args: argparse.Namespace, plan: Plan, known: dict[str, Profile]) -> Iterator[Bench]:
    """A bench that prepares cells and boots none, with downloads shown on the terminal."""
    from bootmatrix.cell.run import Bench

    specs = load_specs(plan.cells)
    with shown_builder(args, plan.images) as (builder, downloads):
        yield Bench(specs, known, builder, downloads, lambda _machine, _memory_mib=None: nullcontext())


def profiles() -> dict[str, Profile]:
    """All profiles by name, with the user's own kernels."""
    from bootmatrix.load.data_paths import arch_folders
    from bootmatrix.load.kernels import kernels_file, with_own
    from bootmatrix.load.profile import load_profiles

    return with_own(load_profiles(arch_folders()), kernels_file())


def load_plan(args: argparse.Namespace, *, boots: bool = True) -> tuple[Plan, dict[str, Profile], str]:
    """The plan of the files named, the profiles, and a title; where nothing `boots`, QEMU need not be there.

    Raises:
        InputError: a file, an architecture or a kernel that is not known.
    """
    from bootmatrix.model import QemuArgs
    from bootmatrix.plan import plan

    known = profiles()
    matrix, base, title = _matrix(args, known)
    wanted = getattr(args, "boot", None)
    matrix = matrix.model_copy(update={"boot": wanted}) if wanted else matrix
    if getattr(args, "flaky", None) is not None:
        matrix = matrix.model_copy(update={"flaky": args.flaky})
    if getattr(args, "qemu_args", ()):
        more = (QemuArgs(args=shlex.join(qemu_args(args))),)
        matrix = matrix.model_copy(update={"qemu_args": (*matrix.qemu_args, *more)})
    if boots:
        from bootmatrix.qemu.version import qemu_fault

        planned = plan(matrix, base, known, qemu_fault)
    else:
        planned = plan(matrix, base, known)
    images = (*given_images(args), *planned.images) if hasattr(args, "image") else planned.images
    return planned.model_copy(update={"images": images}), known, title


def qemu_args(args: argparse.Namespace) -> tuple[str, ...]:
    """The words of `--qemu-args`.

    Raises:
        InputError: one cannot be given.
    """
    from bootmatrix.load.qemu_args import parse_qemu_args

    return tuple(word for text in args.qemu_args for word in parse_qemu_args(text, Path()))


def _matrix(args: argparse.Namespace, known: dict[str, Profile]) -> tuple[Matrix, Path, str]:
    from bootmatrix.errors import InputError
    from bootmatrix.load.matrix import load_matrix
    from bootmatrix.load.spec import find_spec, spec_name
    from bootmatrix.plan import matrix_from_arguments, narrowed

    first = find_spec(args.files[0])
    if not first.name.endswith((".matrix.yml", ".matrix.yaml")):
        specs = [str(find_spec(name)) for name in args.files]
        matrix = matrix_from_arguments(specs, args.arch, args.kernel, known)
        return matrix, Path(), " ".join(spec_name(Path(name)) for name in specs)
    if len(args.files) > 1:
        raise InputError("a matrix stands alone", f"Give either {args.files[0]} or specs.")
    matrix = load_matrix(first, known)
    return narrowed(matrix, args.arch, args.kernel, known), first.parent, first.name.split(".")[0]


def load_specs(cells: tuple[Cell, ...]) -> dict[str, Spec]:
    """The specs of cells, by path."""
    from bootmatrix.load.merge import load_spec

    return {path: load_spec(Path(path)) for path in sorted({cell.spec for cell in cells})}


def print_table(*parts: RenderableType) -> None:
    """Print tables, and what belongs to them. A cell that is wrapped may begin a line with the words of a guest."""
    from bootmatrix.report.sanitize import disarmed

    console = table_console()
    with console.capture() as shown:
        for part in parts:
            console.print(part)
    print(disarmed(shown.get()), end="")


def table_console() -> Console:
    """Where a table is printed: as wide as the terminal, and wide enough for whole words in a file or a pipe."""
    import sys

    from rich.console import Console

    from bootmatrix.cli.streams import styled

    is_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(file=styled(sys.stdout), highlight=False, width=None if is_known else WIDE)


def reports_of(args: argparse.Namespace) -> Path:
    """Where runs are kept: `--reports`, else `BOOTMATRIX_REPORTS`, else `reports` in the current folder."""
    return args.reports or Path(os.environ.get("BOOTMATRIX_REPORTS", "reports"))


def print_json(value: object) -> None:
    """Print a value for other programs."""
    import json

    print(json.dumps(value, indent=1))


def complain(text: object) -> None:
    """Print what is wrong on stderr. It may quote a spec, a mirror or a package: that is made harmless."""
    from bootmatrix.cli.output import say

    say(text, file=sys.stderr)

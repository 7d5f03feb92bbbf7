"""A new user's tries, with a warm cache, on four architectures: the time beside the guests' work.

Images come from a registry on the loopback, made of the shipped recipes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import guests
from benchmarks.results import Result
from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.tree import EPOCH_S, write_tar
from bootmatrix.assembly.userland import fetch_images
from bootmatrix.cell.run import RunContext
from bootmatrix.model import Cell, StoredImage
from bootmatrix.runs.run_store import load_run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from image_maker import make_image, make_index
from registry_fixtures import Running, registry

ARCHS = "x86_64,aarch64,armv7,ppc64le"
BESIDE_S = 15.0
"""Limit of a try beside the work of its guests after their boot."""
TAGS = {"redis": "7", "influxdb": "1.8"}
SUITES = ("bookworm",)
MAKEFILE = "check: hello\n\t./hello\nhello: hello.c\n\t$(CC) -o $@ $<\n"
PROGRAM = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
TRIES: dict[str, tuple[str, ...]] = {
    "a source tree": (".", "--packages", "gcc,make,libc6-dev", "--", "make", "check"),
    "a program for each": ("./dist/busybox-{oci_arch}{oci_variant}", "--", "true"),
    "redis:7": ("redis:7",),
    "influxdb:1.8, two kernels": ("influxdb:1.8", "--port", "8086", "--http", "/ping", "--kernel", "6.1,7.2"),
    "a package, its service": ("./debs/influxdb_*_{debian_arch}.deb", "--service", "influxdb"),
}


@dataclass(frozen=True)
class Time:
    """Seconds of a try, and of its guests from boot to end, on all cores."""

    wall_s: float
    work_s: float


def tries(args: argparse.Namespace) -> Iterator[Result]:
    """Each of the five, after one that fills the cache."""
    with tempfile.TemporaryDirectory(prefix="bootmatrix-tries-") as temporary, registry(Path(temporary, "r")) as server:
        folder = Path(temporary)
        _write_tree(folder / "hello")
        names = _fill(args, folder / "hello", server)
        (folder / "hello/registries.yml").write_text(
            json.dumps({"registries": {"docker.io": {"mirrors": [f"http://{server.host}"]}}}), encoding="utf-8"
        )
        for name, words in TRIES.items():
            with _only(folder / "hello", words) as place:
                _try(args, place, words, names)
                taken = _try(args, place, words, names)
            beside_s = taken.wall_s - taken.work_s
            value = f"{beside_s:.1f} s, of {taken.wall_s:.1f} s"
            yield Result(f"try: {name}, on {names}", value, f"{BESIDE_S} s", beside_s <= BESIDE_S)


def _write_tree(folder: Path) -> None:
    folder.mkdir()
    (folder / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    (folder / "hello.c").write_text(PROGRAM, encoding="utf-8")


def _fill(args: argparse.Namespace, folder: Path, server: Running) -> str:
    """Push the images, and write programs and packages; return the architectures."""
    archs = ARCHS if args.arch == "all" else args.arch
    for name, tag in TAGS.items():
        spec = f"specs/{name}.yml"
        with guests.context_of(args, [spec], archs, "6.1") as context:
            cells = guests.cells(args, [spec], archs, "6.1")
            found = [(cell, _image(cell, context, name)) for cell in cells]
            made = {
                context.profiles[cell.arch].names.oci: make_image(
                    _layer(image, context), platform=context.profiles[cell.arch].names.oci, config=_config(image)
                )
                for cell, image in found
            }
            server.pusher.push(f"library/{name}", make_index(made), tag)
            for cell, image in found if name == "influxdb" else ():
                _write_files(cell, image, context, folder)
    return archs


def _image(cell: Cell, context: RunContext, name: str) -> StoredImage:
    images = fetch_images(context.specs[cell.spec], context.profiles[cell.arch], context.builder)
    return next(image for reference, image in images.items() if reference.endswith(f"/{name}"))


def _layer(image: StoredImage, context: RunContext) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as target:
        write_tar(image_tree(image, context.builder.store), target, EPOCH_S)
    return file.getvalue()


def _config(image: StoredImage) -> dict[str, object]:
    config = image.config
    return {"Cmd": list(config.cmd), "Env": list(config.env), "WorkingDir": config.workdir}


def _write_files(cell: Cell, image: StoredImage, context: RunContext, folder: Path) -> None:
    """Write an architecture's program and package."""
    names, store, archive = context.profiles[cell.arch].names, context.builder.store, context.builder.archive
    (package,) = (one for one in archive.closure(["influxdb"], (), SUITES, names.debian) if one.name == "influxdb")
    target = folder / f"debs/influxdb_{package.version}_{names.debian}.deb"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(archive.fetch(package), target)
    node = image_tree(image, store).get("bin/busybox")
    assert node
    program = folder / f"dist/busybox-{names.oci.removeprefix('linux/').replace('/', '')}"
    program.parent.mkdir(exist_ok=True)
    program.write_bytes(node.read())


@contextmanager
def _only(folder: Path, words: Sequence[str]) -> Iterator[Path]:
    """The folder, for a source tree without what is not of it."""
    hidden = [folder / name for name in ("dist", "debs")] if words[0] == "." else []
    for path in hidden:
        path.rename(folder.parent / path.name)
    try:
        yield folder
    finally:
        for path in hidden:
            (folder.parent / path.name).rename(path)


def _try(args: argparse.Namespace, folder: Path, words: Sequence[str], archs: str) -> Time:
    """Run it. Raises BenchmarkError if a cell does not pass."""
    reports = folder.parent / "reports"
    options = ["--arch", archs, "--reports", str(reports)]
    for name in ("cache", "archive"):
        options += [f"--{name}", str(getattr(args, name))] if getattr(args, name) else []
    place = words.index("--") if "--" in words else len(words)
    command = [str(guests.PROGRAM), "try", *words[:place], *options, *words[place:]]
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    wall_s = time.monotonic() - started
    if done.returncode:
        raise guests.BenchmarkError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    outcomes = [record.outcome for record in load_run(reports / "latest").records]
    work_s = sum(one.wall_s - one.boot_s for one in outcomes if one and one.boot_s is not None)
    return Time(wall_s, work_s / len(os.sched_getaffinity(0)))

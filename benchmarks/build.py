"""`bootmatrix build` beside `linuxkit build`: the same spec, and the same images in the cache of each.

LinuxKit's program is the one on PATH. Where there is none, its times are missing, and what is measured is ours alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from benchmarks import guests
from benchmarks.layouts import write_image, write_kernel
from benchmarks.results import Result, median

PROGRAM = Path(sys.executable).with_name("bootmatrix")
PEER = "linuxkit"
SPEC = "specs/influxdb.yml"
ARCH, KERNEL = "x86_64", "6.1"
FORMATS = {"tar": ".tar", "kernel+initrd": "-initrd.img"}
"""Formats that are compared, and the end of the name of the file that is the bulk of each."""
CASES = {"images alone": 1.5, "a file changed": 3.0}
"""What is there already, and how many times faster than LinuxKit we are to be."""
NOTHING_CHANGED_S = 0.3
"""More than the interpreter's start: most of it is imports."""

Times = dict[str, list[float]]


@dataclass
class Place:
    """A folder with the spec, the images, a cache of ours with these, and LinuxKit's. `number` makes changes differ."""

    folder: Path
    images: dict[str, Path]
    peer: str | None
    number: int = field(default=0)

    @property
    def spec(self) -> Path:
        """The spec that both build."""
        return self.folder / "bench.yml"

    def change(self) -> None:
        """Give one entry of `files` another content."""
        self.number += 1
        spec = yaml.safe_load((self.folder / "base.yml").read_text(encoding="utf-8"))
        spec["files"].append({"path": "etc/motd", "contents": f"build number {self.number}\n"})
        self.spec.write_text(yaml.safe_dump(spec), encoding="utf-8")

    def ours(self, form: str, cache: str) -> float:
        """Seconds of `bootmatrix build`."""
        given = [f"--image={name}=oci:{path}" for name, path in self.images.items()]
        where = [f"--cache={self.folder / cache}", f"--output={self.folder / 'ours'}", "--offline"]
        return _seconds([PROGRAM, "build", self.spec, "--arch", ARCH, "--kernel", "spec", "-f", form, *where, *given])

    def theirs(self, form: str) -> float:
        """Seconds of `linuxkit build`."""
        assert self.peer
        where = [f"--cache={self.folder / 'linuxkit'}", f"--dir={self.folder}", "--name=theirs", "--no-sbom"]
        return _seconds([self.peer, "build", "--format", form, *where, self.spec])

    def fresh(self, cache: str) -> None:
        """A cache that has the images and nothing that was built."""
        shutil.rmtree(self.folder / cache, ignore_errors=True)
        shutil.copytree(self.folder / "imported", self.folder / cache, copy_function=os.link)


def build(args: argparse.Namespace) -> Iterator[Result]:
    """All cases, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        place = _place(args, Path(folder))
        for form in FORMATS:
            yield from _compared(place, form, args.pairs)
        yield _nothing_changed(place, args.pairs)


def _compared(place: Place, form: str, pairs: int) -> Iterator[Result]:
    for case, target in CASES.items():
        times: Times = {"ours_s": [], "theirs_s": []}
        place.fresh("cache")
        place.ours(form, "cache")
        for _ in range(pairs):
            place.change()
            if case == "images alone":
                place.fresh("cache")
            times["ours_s"].append(place.ours(form, "cache"))
            if place.peer:
                times["theirs_s"].append(place.theirs(form))
        size_mb = (place.folder / f"ours{FORMATS[form]}").stat().st_size / 1e6
        yield _result(f"build {form} of {size_mb:.0f} MB, {case}", times, target)


def _result(name: str, times: Times, target: float) -> Result:
    ours_s = median(times["ours_s"])
    if not times["theirs_s"]:
        return Result(f"{name} ({PEER} is not installed)", f"{ours_s:.2f} s", f"×{target}", ok=False, details={**times})
    ratio = median([theirs / ours for ours, theirs in zip(times["ours_s"], times["theirs_s"], strict=True)])
    value = f"{ours_s:.2f} s, {PEER} {median(times['theirs_s']):.2f} s: ×{ratio:.2f} faster"
    return Result(f"{name}, beside {PEER}", value, f"×{target}", ratio >= target, {**times})


def _nothing_changed(place: Place, pairs: int) -> Result:
    place.ours("kernel+initrd", "cache")
    times: Times = {"ours_s": [], "start_s": []}
    for _ in range(pairs):
        times["ours_s"].append(place.ours("kernel+initrd", "cache"))
        times["start_s"].append(_seconds([sys.executable, "-c", "pass"]))
    more_s = statistics.median(ours - start for ours, start in zip(times["ours_s"], times["start_s"], strict=True))
    value = f"{median(times['ours_s']):.3f} s, {more_s:.3f} s more than the interpreter's start"
    return Result(
        "build, nothing changed", value, f"{NOTHING_CHANGED_S} s more", more_s <= NOTHING_CHANGED_S, {**times}
    )


def _place(args: argparse.Namespace, folder: Path) -> Place:
    """Images of a real service, made from packages, as layouts; a spec of them; and both caches."""
    given = argparse.Namespace(**{**vars(args), "locked": None})
    with guests.context_of(given, [SPEC], ARCH, KERNEL) as context:
        cell = guests.cells(given, [SPEC], ARCH, KERNEL)[0]
        spec = yaml.safe_load(Path(cell.spec).read_text(encoding="utf-8"))
        images = {one: write_image(one, cell, context, folder / "layouts") for one in _references(spec)}
        kernel = write_kernel(cell, context, folder / "layouts")
    named = {f"bench/{layout.name}:1": layout for layout in (*images.values(), kernel)}
    spec["kernel"] = {"image": f"bench/{kernel.name}:1", "cmdline": "console=ttyS0"}
    spec["init"] = [f"bench/{images[one].name}:1" for one in spec["init"]]
    for service in spec["services"]:
        service["image"] = f"bench/{images[service['image']].name}:1"
    (folder / "base.yml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    place = Place(folder, named, shutil.which(PEER))
    place.change()
    _import(place)
    return place


def _references(spec: dict[str, list[dict[str, str]]]) -> list[str]:
    return list(dict.fromkeys([*map(str, spec["init"]), *(one["image"] for one in spec["services"])]))


def _import(place: Place) -> None:
    """Fill both caches with the images."""
    place.ours("tar", "built")
    shutil.copytree(place.folder / "built", place.folder / "imported", ignore=_what_was_built)
    for layout in place.images.values() if place.peer else ():
        archive = place.folder / f"{layout.name}.tar"
        subprocess.run(["tar", "-cf", archive, "-C", layout, *(one.name for one in layout.iterdir())], check=True)
        _seconds([str(place.peer), "cache", "import", "--cache", place.folder / "linuxkit", archive])
        archive.unlink()


def _what_was_built(folder: str, names: Sequence[str]) -> list[str]:
    """Of the records by which a cache knows what it has, all but those of images."""
    return [name for name in names if name != "pulled"] if Path(folder).name == "memo" else []


def _seconds(command: Sequence[str | Path]) -> float:
    """How long a program takes, whose own code is compiled: with an installed one it is."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.monotonic()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise guests.BenchmarkError(f"{command[0]} {command[1]}: {done.stdout[-600:]}{done.stderr[-600:]}")
    return time.monotonic() - started

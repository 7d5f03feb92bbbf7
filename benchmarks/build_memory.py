"""The most memory that all processes of a build take together, for an image of 2 GB in each format."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks import guests
from benchmarks.guests import BenchmarkError
from benchmarks.layouts import write_large
from benchmarks.results import Result
from bootmatrix.assembly.export import formats_of
from bootmatrix.model import Profile
from bootmatrix.store import default_cache

PROGRAM = Path(sys.executable).with_name("bootmatrix")
SPEC, ARCH, KERNEL, IMAGE = "specs/hello.yml", "x86_64", "6.1", "large"
IMAGE_BYTES = 2_100_000_000
LIMIT_MIB = 300
LOOK_S = 0.02


@dataclass(frozen=True)
class Place:
    """A folder with the image, a spec that has it, and a cache with all that the spec is made of besides."""

    folder: Path
    offline: bool

    def build(self, spec: str | Path, form: str, cache: Path) -> float:
        """Build a spec, and say how many MiB that took."""
        words = ["--arch", ARCH, "--kernel", KERNEL, "-f", form, f"--output={self.folder / 'built' / form}"]
        more = [f"--image={IMAGE}=oci:{self.folder / IMAGE}", *(["--offline"] if self.offline else [])]
        try:
            return most_mib([PROGRAM, "build", spec, *words, f"--cache={cache}", *more])
        finally:
            shutil.rmtree(self.folder / "built", ignore_errors=True)


def build_memory(args: argparse.Namespace) -> Iterator[Result]:
    """Each format by itself, from the layers of its images on."""
    profile = guests.workspace_of(args).profiles()[ARCH]
    with tempfile.TemporaryDirectory() as folder:
        place = _place(Path(folder), profile, args)
        for form in args.format or formats_of(profile):
            place.build(SPEC, form, place.folder / "cache")
            cache = place.folder / "fresh"
            _link(place.folder / "cache", cache)
            found_mib = place.build(place.folder / "large.yml", form, cache)
            shutil.rmtree(cache)
            name = f"memory, build {form} of {IMAGE_BYTES / 1e9:.1f} GB"
            yield Result(name, f"{found_mib:.0f} MiB", f"{LIMIT_MIB} MiB", found_mib <= LIMIT_MIB)


def _place(folder: Path, profile: Profile, args: argparse.Namespace) -> Place:
    write_large(IMAGE, IMAGE_BYTES, profile.names.oci, folder)
    spec = yaml.safe_load(Path(SPEC).read_text(encoding="utf-8"))
    (folder / "images").symlink_to(Path(SPEC).absolute().with_name("images"))
    spec["onboot"].append({"name": IMAGE, "image": IMAGE, "command": ["/bin/true"]})
    (folder / "large.yml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    _link(args.cache or default_cache(), folder / "cache")
    return Place(folder, args.offline)


def _link(source: Path, target: Path) -> None:
    """Have a second cache with what the first has: no file of it that is whole is ever written to again."""
    shutil.copytree(source, target, copy_function=_link_file, ignore=shutil.ignore_patterns("locks", "temp", "partial"))


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # it is on another file system
        shutil.copyfile(source, target)


def most_mib(command: list[str | Path]) -> float:
    """Run a command, and say how many MiB it and its children had at their most, shared pages counted once."""
    most_kib = 0
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            while process.poll() is None:
                most_kib = max(most_kib, sum(map(_kib, _family(str(process.pid)))))
                time.sleep(LOOK_S)
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
        if process.returncode:
            said.seek(0)
            raise BenchmarkError(f"{' '.join(map(str, command))}: {said.read().decode(errors='replace')[-600:]}")
    return most_kib / 1024


def _family(process: str) -> Iterator[str]:
    """A process and all below it: proc_tid_children(5)."""
    yield process
    with suppress(OSError):  # it is over
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text(encoding="ascii").split():
                yield from _family(child)


def _kib(process: str) -> int:
    """Its share of all pages: proc_pid_smaps(5)."""
    with suppress(OSError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        found = re.search(r"^Pss: +(\d+) kB$", text, re.MULTILINE)
        return int(found[1]) if found else 0
    return 0

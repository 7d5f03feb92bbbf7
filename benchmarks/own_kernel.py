"""Kernels built from the archive's linux-source, from tinyconfig upward, with the bugs of planted.c in them."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.guests import PROGRAM, BenchmarkError
from bootmatrix.assembly.kernel.options import Purpose, fragment
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Profile

ARCHIVE = "/usr/src/linux-source-*.tar.xz"
PLANTED = Path(__file__).with_name("planted.c")
BUILD_LIMIT_S = 7200
LIMIT_S = 600
"""Limit of one command with a few boots."""


@dataclass(frozen=True)
class OwnKernel:
    """A build of a source tree for an architecture, in a folder of its own."""

    tree: Path
    out: Path
    profile: Profile

    @property
    def compiler(self) -> str:
        """The compiler, which may be a cross compiler."""
        return f"{self._prefix}gcc"

    @property
    def _prefix(self) -> str:
        return "" if self.profile.names.uname == os.uname().machine else f"{self.profile.names.gnu}-"

    @property
    def _make(self) -> list[str]:
        words = [f"O={self.out}", f"ARCH={self.profile.names.kernel}", f"CROSS_COMPILE={self._prefix}"]
        return ["make", "-s", "-C", str(self.tree), *words]

    def configure(self, purposes: Iterable[Purpose], options: Iterable[str]) -> None:
        """Write the configuration: tinyconfig, our fragment, and more options.

        Raises BenchmarkError if Kconfig leaves out an option of the fragment.
        """
        wanted = fragment(self.profile.machine(self.profile.default_machine()), *purposes).splitlines()
        wanted += [f"CONFIG_{option}=y" for option in options]
        self.out.mkdir(parents=True, exist_ok=True)
        part, config = self.out / "bootmatrix.config", self.out / ".config"
        part.write_text("\n".join((*wanted, "")), encoding="utf-8")
        run([*self._make, "tinyconfig"])
        run([str(self.tree / "scripts/kconfig/merge_config.sh"), "-m", "-O", str(self.out), str(config), str(part)])
        run([*self._make, "olddefconfig"])
        lacking = set(filter(re.compile("CONFIG").match, wanted)) - {*config.read_text("utf-8").splitlines()}
        if lacking:
            raise BenchmarkError(f"Kconfig left out {', '.join(sorted(lacking))}")

    def make(self) -> None:
        """Build what has changed. Raises BenchmarkError if it fails."""
        run([*self._make, f"-j{len(os.sched_getaffinity(0))}"])


@contextmanager
def own_kernel(args: argparse.Namespace, name: str, arch: str) -> Iterator[OwnKernel | None]:
    """Provide a build of that name in the folder of --trees, which is kept, or a temporary one.

    None, with a note, without a source or a compiler. Raises BenchmarkError if the source cannot be unpacked.
    """
    if args.linux is None:
        print(f"left out: kernels of one's own: no {ARCHIVE}", file=sys.stderr)
        yield None
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.trees.absolute() if args.trees else Path(temporary)
        profile = load_profiles([CHECKOUT / "arch"])[arch]
        kernel = OwnKernel(folder / "linux", folder / name, profile)
        if not shutil.which(kernel.compiler):
            print(f"left out: a kernel for {arch}: no {kernel.compiler}", file=sys.stderr)
            yield None
            return
        _unpack(args.linux, kernel.tree)
        yield kernel


def _unpack(source: Path, tree: Path) -> None:
    """Unpack linux-source if it is not there, and put planted.c in its lib."""
    if not tree.exists():
        tree.mkdir(parents=True)
        run(["tar", "-xf", str(source), "-C", str(tree), "--strip-components=1"])
    makefile = tree / "lib/Makefile"
    line = "obj-y += planted.o\n"
    if line not in makefile.read_text(encoding="utf-8"):
        with makefile.open("a", encoding="utf-8") as file:
            file.write(line)
    planted = tree / "lib/planted.c"
    if not planted.exists() or planted.read_bytes() != PLANTED.read_bytes():
        planted.write_bytes(PLANTED.read_bytes())


def kernel_test(
    args: argparse.Namespace, kernel: OwnKernel, reports: Path, options: Sequence[str], command: Sequence[str] = ()
) -> int:
    """Run `bootmatrix kernel-test` on a build; return its status, 0 or 1."""
    words = ["kernel-test", str(kernel.out), "--reports", str(reports), *options]
    return bootmatrix(args, [*words, *(["--", *command] if command else [])])


def bootmatrix(args: argparse.Namespace, words: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Run bootmatrix; return its status, 0 or 1. Raises BenchmarkError for any other."""
    cache = ["--cache", str(args.cache)] if args.cache else []
    at = words.index("--") if "--" in words else len(words)
    command = [str(PROGRAM), *words[:at], *cache, *words[at:]]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=LIMIT_S, check=False
    )
    if done.returncode not in {0, 1}:
        raise BenchmarkError(f"{' '.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.returncode


def run(command: list[str]) -> None:
    """Run a command of the build. Raises BenchmarkError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")

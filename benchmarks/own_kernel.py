"""A kernel built from the archive's linux-source, from tinyconfig upward, with the bugs of planted.c."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks.guests import BenchmarkError
from bootmatrix.assembly.kernel.options import Purpose, fragment
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles

ARCHIVE = "/usr/src/linux-source-*.tar.xz"
PLANTED = Path(__file__).with_name("planted.c")
BUILD_LIMIT_S = 7200


def unpacked(source: Path, folder: Path) -> Path:
    """Return a source tree below `folder` with planted.c in its lib, unpacked from linux-source if it is not there.

    Raises:
        BenchmarkError: it cannot be unpacked.
    """
    tree = folder / "linux"
    if not tree.exists():
        tree.mkdir(parents=True)
        _run(["tar", "-xf", str(source), "-C", str(tree), "--strip-components=1"])
    makefile = tree / "lib/Makefile"
    line = "obj-y += planted.o\n"
    if line not in makefile.read_text(encoding="utf-8"):
        with makefile.open("a", encoding="utf-8") as file:
            file.write(line)
    planted = tree / "lib/planted.c"
    if not planted.exists() or planted.read_bytes() != PLANTED.read_bytes():
        planted.write_bytes(PLANTED.read_bytes())
    return tree


def configured(tree: Path, out: Path, arch: str, purposes: Iterable[Purpose], options: Iterable[str]) -> None:
    """Write the configuration of an output folder: tinyconfig, our fragment, and more options.

    Raises:
        BenchmarkError: Kconfig leaves out an option of the fragment.
    """
    profile = load_profiles([CHECKOUT / "arch"])[arch]
    wanted = fragment(profile.machine(profile.default_machine()), *purposes).splitlines()
    wanted += [f"CONFIG_{option}=y" for option in options]
    out.mkdir(parents=True, exist_ok=True)
    part = out / "bootmatrix.config"
    part.write_text("\n".join((*wanted, "")), encoding="utf-8")
    words = ["make", "-s", "-C", str(tree), f"O={out}", f"ARCH={profile.names.kernel}"]
    _run([*words, "tinyconfig"])
    _run([str(tree / "scripts/kconfig/merge_config.sh"), "-m", "-O", str(out), str(out / ".config"), str(part)])
    _run([*words, "olddefconfig"])
    lacking = set(filter(re.compile("CONFIG").match, wanted)) - {*(out / ".config").read_text("utf-8").splitlines()}
    if lacking:
        raise BenchmarkError(f"Kconfig left out {', '.join(sorted(lacking))}")


def make(tree: Path, out: Path) -> None:
    """Build what has changed.

    Raises:
        BenchmarkError: it fails.
    """
    _run(["nice", "make", "-s", "-C", str(tree), f"O={out}", f"-j{len(os.sched_getaffinity(0))}"])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")

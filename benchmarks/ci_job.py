"""A CI job from a clean clone, with nothing cached and with an earlier job's cache: ci/install.sh, then ci/run.sh."""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import Result

ROOT = Path(__file__).parents[1]
ARCHS = "x86_64,aarch64,armv7,ppc64le"
COLD_S, WARM_S, CACHE_BYTES = 150.0, 45.0, 1536 << 20
"""QEMU and gpgv are on the host already: a package manager's time is left out."""


def ci_job(_args: argparse.Namespace) -> Iterator[Result]:
    """One spec on four architectures as a job: its time, cold and warm, and the size of what it caches."""
    with tempfile.TemporaryDirectory(prefix="bootmatrix-ci-") as temporary:
        folder = Path(temporary)
        _call(folder, {}, "git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder / "bootmatrix"))
        for kind, target_s in (("nothing cached", COLD_S), ("with a cache", WARM_S)):
            install_s, run_s = _job(folder, kind.replace(" ", "-"))
            total_s = install_s + run_s
            value = f"{total_s:.0f} s, of which install {install_s:.0f} s"
            yield Result(
                f"CI job of one spec on four architectures, {kind}", value, f"{target_s} s", total_s <= target_s
            )
        files = [path for path in (folder / "cache").rglob("*") if path.is_file() and not path.is_symlink()]
        size = sum(path.stat().st_blocks * 512 for path in files)
        within = size <= CACHE_BYTES
        yield Result("cache of a CI job", f"{size >> 20} MiB", f"{CACHE_BYTES >> 20} MiB", within)


def _job(folder: Path, name: str) -> tuple[float, float]:
    """Return the seconds of both steps, in a home of its own."""
    home, work = folder / f"home-{name}", folder / name
    home.mkdir()
    work.mkdir()
    job = {
        "HOME": str(home),
        "CI": "true",
        "BOOTMATRIX_HOME": str(home / "bootmatrix"),
        "BOOTMATRIX_CACHE": str(folder / "cache"),
        "BOOTMATRIX_CACHE_MAX": "1536M",
        "BOOTMATRIX_FILES": "influxdb",
        "BOOTMATRIX_ARCHITECTURES": ARCHS,
    }
    ci = folder / "bootmatrix/ci"
    started = time.monotonic()
    _call(work, job, str(ci / "install.sh"), str(folder / "bootmatrix"), ARCHS)
    installed = time.monotonic()
    _call(work, job, str(ci / "run.sh"))
    return installed - started, time.monotonic() - installed


def _call(folder: Path, variables: dict[str, str], *command: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BOOTMATRIX_", "PIP_CACHE"))}
    subprocess.run(command, cwd=folder, env={**inherited, **variables}, check=True, stdout=subprocess.DEVNULL)

"""How planning grows with the number of cells."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bootmatrix.load.places import arch_folders
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Matrix
from bootmatrix.plan import plan
from bootmatrix.schedule import longest_first

KERNELS = ("6.1", "6.12", "7.2")


@dataclass(frozen=True)
class Grown:
    """What planning took: seconds, and the process's largest size in memory."""

    wall_s: float
    memory_mib: int


def plan_in_a_process(cells: int) -> Grown:
    """Plan so many cells in a fresh process, whose memory is its own."""
    done = subprocess.run([sys.executable, "-m", __name__, str(cells)], check=True, capture_output=True, text=True)
    return Grown(**json.loads(done.stdout))


def plan_here(cells: int) -> Grown:
    """Plan at least so many cells, of specs that are empty files, and put them in order."""
    profiles = load_profiles(arch_folders())
    archs = tuple(name for name in profiles if all(kernel in profiles[name].kernels for kernel in KERNELS))
    with tempfile.TemporaryDirectory() as folder:
        names = [f"spec{number}.yml" for number in range(-(-cells // (len(archs) * len(KERNELS))))]
        for name in names:
            Path(folder, name).touch()
        started = time.monotonic()
        planned = plan(Matrix(specs=tuple(names), arch=archs, kernel=KERNELS), Path(folder), profiles)
        longest_first(planned.cells, lambda cell: profiles[cell.arch].machine(cell.machine).time_factor, {})
        wall_s = time.monotonic() - started
    assert len(planned.cells) >= cells
    return Grown(wall_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


if __name__ == "__main__":
    print(json.dumps(asdict(plan_here(int(sys.argv[1])))))

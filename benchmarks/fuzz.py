"""Fuzz all readers of what others wrote, or those named, each for so many seconds. Exit status 1 if one broke.

    python -m benchmarks.fuzz --seconds 600 spec message

With atheris, where it is installed, it follows what code is reached, and keeps what breaks a reader in a file that it
names; else hypothesis makes the inputs, and what breaks a reader is printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fuzz_targets import Target, mutations, targets  # noqa: E402

BATCH = 2000
"""Examples between two looks at the clock."""
MAX_BYTES = 1 << 16


def main() -> int:
    """Fuzz what the arguments name."""
    names = tuple(targets(Path()))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="for each (default: 60)")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(names))
    if unknown:
        parser.error(f"no reader is called {unknown[0]}; there are {', '.join(names)}")
    if args.in_process:
        follow(args.names[0], args.seconds)
    guided = importlib.util.find_spec("atheris") is not None
    broken = [name for name in args.names or names if not (by_coverage if guided else by_chance)(name, args.seconds)]
    print(f"broken: {', '.join(broken)}" if broken else "all readers held")
    return 1 if broken else 0


def by_chance(name: str, seconds: float) -> bool:
    """Whether a reader held, with hypothesis's inputs."""
    with tempfile.TemporaryDirectory(prefix="bootmatrix-fuzz-") as folder:
        target, deadline, count = targets(Path(folder))[name], time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            try:
                _batch(target)
            except Exception:
                print(f"{name}: BROKEN\n{traceback.format_exc()}", flush=True)
                return False
            count += BATCH
    print(f"{name}: held for {count} inputs", flush=True)
    return True


def _batch(target: Target) -> None:
    @settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations(target))
    def holds(data: bytes) -> None:
        target.run(data)

    holds()


def by_coverage(name: str, seconds: float) -> bool:
    """Whether a reader held, with atheris, which ends its process: so each has its own."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--in-process", "--seconds", f"{seconds}", name]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def follow(name: str, seconds: float) -> None:
    """Fuzz with atheris; does not return."""
    import atheris

    with tempfile.TemporaryDirectory(prefix="bootmatrix-fuzz-") as folder:
        target, seeds = targets(Path(folder))[name], Path(folder) / "seeds"
        seeds.mkdir()
        for number, seed in enumerate(target.seeds):
            (seeds / f"{number}").write_bytes(seed)
        limits = [f"-max_total_time={seconds:.0f}", f"-max_len={MAX_BYTES}", f"-artifact_prefix={os.getcwd()}/{name}-"]  # noqa: PTH109
        atheris.instrument_all()
        atheris.Setup([sys.argv[0], *limits, str(seeds)], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

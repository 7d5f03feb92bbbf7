"""Fuzz all readers of what others wrote, or those named, each for so many seconds. Exit status 1 if one broke.

    python -m benchmarks.fuzz --seconds 600 spec message

By atheris, where it is installed, which follows what code is reached, and keeps what breaks a reader in a file that it
names; else by hypothesis, whose inputs know no code: what breaks a reader is printed, as small as it can be.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fuzz_targets import hold, targets  # noqa: E402
from guest_program import READERS, compile_program, fuzz, fuzz_by_libfuzzer, has_libfuzzer  # noqa: E402

BATCH = 500
"""Examples between two looks at the clock."""
GUEST = "guest-"
"""Readers of the guest's program, in C: fuzzed by libFuzzer if clang is installed, else by a fuzzer of ours and gcc."""
NO_LIMIT = 1 << 30
"""Of inputs: the clock ends it."""


def main() -> int:
    """Fuzz what the arguments name."""
    names = (*targets(Path()), *(f"{GUEST}{reader}" for reader in READERS))
    default = "atheris" if importlib.util.find_spec("atheris") else "hypothesis"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="for each (default: 60)")
    parser.add_argument("--by", choices=("atheris", "hypothesis"), default=default, help=f"default here: {default}")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(names))
    if unknown:
        parser.error(f"no reader is called {unknown[0]}; there are {', '.join(names)}")
    chosen = args.names or names
    holds = by_coverage if args.by == "atheris" else by_chance
    broken = [name for name in chosen if not name.startswith(GUEST) and not holds(name, args.seconds)]
    broken += fuzz_guest([name for name in chosen if name.startswith(GUEST)], args.seconds)
    print(f"broken: {', '.join(broken)}" if broken else "all readers held")
    return 1 if broken else 0


def by_chance(name: str, seconds: float) -> bool:
    """Whether a reader held, with hypothesis's inputs."""
    with tempfile.TemporaryDirectory(prefix="bootmatrix-fuzz-") as folder:
        target, deadline, count = targets(Path(folder))[name], time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            try:
                hold(target, BATCH, same=False)
            except Exception:
                print(f"{name}: BROKEN\n{traceback.format_exc()}", flush=True)
                return False
            count += BATCH
    print(f"{name}: held for {count} inputs", flush=True)
    return True


def by_coverage(name: str, seconds: float) -> bool:
    """Whether a reader held, with atheris, which ends its process: so each has its own."""
    print(f"{name}:", flush=True)
    command = [sys.executable, "-m", "benchmarks.follow", f"{seconds:.0f}", name]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def fuzz_guest(names: list[str], seconds: float) -> list[str]:
    """Fuzz readers of the guest's program; return those that broke. The folder with what broke them stays."""
    if not names:
        return []
    folder = Path(tempfile.mkdtemp(prefix="bootmatrix-fuzz-"))
    program = None if has_libfuzzer(folder) else compile_program(folder)
    broken = [name for name in names if not _holds(folder, program, name.removeprefix(GUEST), int(seconds))]
    if broken:
        print(f"what broke them is in {folder}", flush=True)
    else:
        shutil.rmtree(folder)
    return broken


def _holds(folder: Path, program: Path | None, reader: str, seconds: int) -> bool:
    if program is None:
        return fuzz_by_libfuzzer(folder, reader, seconds)
    done = fuzz(program, reader, NO_LIMIT, seconds)
    print(f"{GUEST}{done.stdout}{done.stderr}".rstrip(), flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())

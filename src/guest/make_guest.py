"""Build the guest's init for every architecture of `arch/`, by zig, and check that the same bytes come out again.

    make_guest.py [NAME…]            write specs/images/init/bin/NAME and SHA256SUMS; names are Debian's
    make_guest.py --check [NAME…]    build in a folder that is removed again, and compare
    make_guest.py --sources          print the digest of the sources

The sources, the flags below, and the version of zig in requirements-agent.lock make the bytes, and nothing else: names
are relative to this folder, and there are no debugging information, build id or times.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model.profile import GuestTarget

SOURCES = Path(__file__).resolve().parent
BINARIES = CHECKOUT / "specs/images/init/bin"
SUMS = "SHA256SUMS"
DIALECT = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-option-ignored")
FLAGS = (
    *("-Os", "-static", "-s", "-fno-stack-protector", "-fno-sanitize=all", "-fno-ident"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-ffunction-sections", "-fdata-sections"),
    *("-Wl,--gc-sections", "-Wl,--build-id=none"),
)


def main() -> int:
    """Build or check."""
    options = _options()
    if options.sources:
        print(sources_digest())  # noqa: T201
        return 0
    targets = guest_targets()
    unknown = set(options.names) - set(targets)
    if unknown:
        print(f"make agent: no profile is of {', '.join(sorted(unknown))}", file=sys.stderr)  # noqa: T201
        return 2
    names = options.names or sorted(targets)
    with tempfile.TemporaryDirectory(prefix="bootmatrix-") as folder:
        built = {name: build(targets[name], Path(folder) / name) for name in names}
        return _compare(built) if options.check else _write(built, set(targets))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--sources", action="store_true")
    return parser.parse_args()


def guest_targets() -> dict[str, GuestTarget]:
    """Return the compiler's targets by Debian's names of the architectures."""
    profiles = load_profiles([CHECKOUT / "arch"]).values()
    return {profile.names.debian: profile.guest for profile in profiles if profile.guest}


def sources() -> list[Path]:
    """List the files that are compiled."""
    return sorted(SOURCES.glob("*.c"))


def sources_digest() -> str:
    """Digest everything in the checkout that makes the binaries: sources, flags, targets, zig's version."""
    locked = (CHECKOUT / "requirements-agent.lock").read_bytes()
    targets = sorted((name, target.target, target.cpu) for name, target in guest_targets().items())
    digest = hashlib.sha256(repr((DIALECT, FLAGS, targets)).encode() + locked)
    for path in sorted(SOURCES.glob("*.[ch]")):
        digest.update(f"\n{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()


def build(target: GuestTarget, program: Path) -> Path:
    """Compile and link a program for a target."""
    wanted = ("-target", target.target, f"-mcpu={target.cpu}")
    names = [path.name for path in sources()]
    command = [*_zig(), "cc", *wanted, *DIALECT, *FLAGS, "-o", str(program), *names]
    done = subprocess.run(command, cwd=SOURCES, check=False)
    if done.returncode:
        sys.exit(f"make agent: zig failed with status {done.returncode} for {target.target}")
    return program


def _zig() -> list[str]:
    own = CHECKOUT / ".venv-agent/bin/python"
    return [str(own if own.exists() else sys.executable), "-m", "ziglang"]


def _write(built: dict[str, Path], known: Iterable[str]) -> int:
    BINARIES.mkdir(exist_ok=True)
    for name, program in built.items():
        shutil.copyfile(program, BINARIES / name)
        (BINARIES / name).chmod(0o755)
    for path in BINARIES.iterdir():
        if path.name not in {*known, SUMS}:
            path.unlink()
    lines = [f"{_sha256(BINARIES / name)}  {name}" for name in sorted(known) if (BINARIES / name).exists()]
    text = "\n".join([f"# of sources {sources_digest()}", *lines]) + "\n"
    new = BINARIES / f".{SUMS}"
    new.write_text(text)
    new.replace(BINARIES / SUMS)
    return 0


def _compare(built: dict[str, Path]) -> int:
    different = [name for name, program in built.items() if _sha256(program) != _sha256(BINARIES / name)]
    for name in different:
        print(f"{BINARIES / name} is not what the sources give: run `make agent`", file=sys.stderr)  # noqa: T201
    return 1 if different else 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())

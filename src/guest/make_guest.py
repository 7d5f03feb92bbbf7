"""Build the guest's init for every architecture by zig, reproducibly.

    make_guest.py [NAME…]            write specs/images/{init/bin,crun/lib}/NAME and SHA256SUMS; names are Debian's
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
from collections.abc import Iterable
from pathlib import Path

from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model.profile import GuestTarget
from bootmatrix.store import temporary_folder

SOURCES = Path(__file__).resolve().parent
IMAGES = CHECKOUT / "specs/images"
PROGRAM, LIBRARY = Path("init/bin"), Path("crun/lib")
"""Folders of the images: init, and the placeholder of libsystemd for crun."""
SUMS = "SHA256SUMS"
DIALECT = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-option-ignored")
COMMON = (
    *("-Os", "-s", "-fno-stack-protector", "-fno-sanitize=all", "-fno-ident"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-Wl,--build-id=none"),
)
FLAGS = (*COMMON, "-static", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
LIBRARY_FLAGS = (
    *COMMON,
    *("-shared", "-nostdlib", "-Wl,-z,max-page-size=65536"),
    *("-Wl,-soname,libsystemd.so.0", "-Wl,--version-script=crun/libsystemd.map"),
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
    with temporary_folder() as folder:
        built: dict[Path, dict[str, Path]] = {PROGRAM: {}, LIBRARY: {}}
        for name in names:
            built[PROGRAM][name] = build(targets[name], folder / name)
            built[LIBRARY][name] = build_library(targets[name], folder / f"{name}.so")
        if options.check:
            return max(_compare(IMAGES / where, files) for where, files in built.items())
        for where, files in built.items():
            _write(IMAGES / where, files, set(targets))
    return 0


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
    """Digest what makes the binaries: sources, flags, targets, zig."""
    locked = (CHECKOUT / "requirements-agent.lock").read_bytes()
    targets = sorted((name, repr(target)) for name, target in guest_targets().items())
    digest = hashlib.sha256(repr((DIALECT, FLAGS, LIBRARY_FLAGS, targets)).encode() + locked)
    for path in (*sorted(SOURCES.glob("*.[ch]")), *sorted(SOURCES.glob("crun/*"))):
        digest.update(f"\n{path.relative_to(SOURCES)} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()


def build(target: GuestTarget, program: Path) -> Path:
    """Compile and link a program for a target."""
    names = [path.name for path in sources()]
    return _compile(target.target, (f"-mcpu={target.cpu}", *FLAGS), names, program)


def build_library(target: GuestTarget, library: Path) -> Path:
    """Compile and link the placeholder of libsystemd for a target."""
    flags = (f"-mcpu={target.cpu}", *LIBRARY_FLAGS)
    return _compile(target.library or target.target, flags, ["crun/libsystemd.c"], library)


def _compile(target: str, flags: Iterable[str], names: Iterable[str], result: Path) -> Path:
    command = [*_zig(), "cc", "-target", target, *DIALECT, *flags, "-o", str(result), *names]
    done = subprocess.run(command, cwd=SOURCES, check=False)
    if done.returncode:
        sys.exit(f"make agent: zig failed with status {done.returncode} for {target}")
    return result


def _zig() -> list[str]:
    own = CHECKOUT / ".venv-agent/bin/python"
    return [str(own if own.exists() else sys.executable), "-m", "ziglang"]


def _write(binaries: Path, built: dict[str, Path], known: Iterable[str]) -> None:
    binaries.mkdir(exist_ok=True)
    for name, program in built.items():
        shutil.copyfile(program, binaries / name)
        (binaries / name).chmod(0o755)
    for path in binaries.iterdir():
        if path.name not in {*known, SUMS}:
            path.unlink()
    lines = [f"{_sha256(binaries / name)}  {name}" for name in sorted(known) if (binaries / name).exists()]
    # The others are of older sources: the old digest stays until all are built, and a test finds it.
    head = f"# of sources {sources_digest()}" if set(built) == set(known) else _head(binaries / SUMS)
    text = "\n".join([head, *lines]) + "\n"
    new = binaries / f".{SUMS}"
    new.write_text(text)
    new.replace(binaries / SUMS)


def _head(sums: Path) -> str:
    return sums.read_text().splitlines()[0] if sums.exists() else "# of sources unknown"


def _compare(binaries: Path, built: dict[str, Path]) -> int:
    different = [name for name, program in built.items() if _sha256(program) != _sha256(binaries / name)]
    for name in different:
        print(f"{binaries / name} is not what the sources give: run `make agent`", file=sys.stderr)  # noqa: T201
    return 1 if different else 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())

"""Local packages to try, by architecture, and the services in them."""

import glob
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import BuildError, InputError
from bootmatrix.model import Profile
from bootmatrix.scaffold.programs import FileChoice, fill
from bootmatrix.source.deb import open_data, read_control

UNIT_FOLDERS = ("lib/systemd/system/", "usr/lib/systemd/system/")
MAX_UNIT_BYTES = 1 << 20
EVERY = "all"
"""Debian's name of packages for every architecture."""
ENDING = {"forking", "oneshot"}
"""Types of services whose first process ends (systemd.service(5))."""
PREFIXES = "-@+!:"
"""Before the path of a service's program (systemd.service(5))."""


@dataclass(frozen=True)
class LocalPackage:
    """A package file with the fields that choose it."""

    path: Path
    name: str
    architecture: str


def read_packages(patterns: Sequence[str], profiles: Mapping[str, Profile]) -> list[LocalPackage]:
    """Read the packages that patterns name, for any architecture.

    Raises InputError if a pattern names none, or a file is not a package.
    """
    found: dict[Path, LocalPackage] = {}
    for pattern in patterns:
        names = {fill(pattern, profile) for profile in profiles.values()}
        paths = [Path(path) for name in sorted(names) for path in sorted(glob.glob(name))]  # noqa: PTH207
        if not paths:
            raise InputError(f"{pattern}: no such package file")
        for path in paths:
            try:
                control = read_control(path)
            except BuildError as error:
                raise InputError(error.message, error.hint) from error
            found[path] = LocalPackage(path, control["Package"], control["Architecture"])
    return list(found.values())


def choose_packages(
    packages: Sequence[LocalPackage], wanted: Sequence[str], profiles: Mapping[str, Profile], *, explicit: bool
) -> tuple[FileChoice, list[str]]:
    """Choose each architecture's packages; return the names of all packages too.

    Raises InputError if there are two files of one package and architecture, or an architecture lacks one.
    """
    seen: dict[tuple[str, str], Path] = {}
    for package in packages:
        first = seen.setdefault((package.name, package.architecture), package.path)
        if first != package.path:
            raise InputError(
                f"{first} and {package.path} are the same package for the same architecture", "Name one of them."
            )
    names = list(dict.fromkeys(package.name for package in packages))
    choice = FileChoice()
    for arch in wanted:
        debian = profiles[arch].names.debian
        lacking = [name for name in names if not {(name, debian), (name, EVERY)} & seen.keys()]
        if lacking:
            reason = f"no package {lacking[0]} for {debian} among the files"
            if explicit:
                raise InputError(f"{arch}: {reason}", "Build it, or leave the architecture out.")
            choice.lacking[arch] = reason
        else:
            choice.files[arch] = seen.get((names[0], debian)) or seen[names[0], EVERY]
    if not choice.files:
        raise InputError(f"no architecture is left: {next(iter(choice.lacking.values()), 'none is selected')}")
    return choice, names


def copy_packages(packages: Sequence[LocalPackage], target: Path, architectures: Sequence[str]) -> None:
    """Copy packages to `target/ARCHITECTURE/NAME.deb`."""
    for debian in architectures:
        (target / debian).mkdir(parents=True, exist_ok=True)
        for package in packages:
            if package.architecture in {debian, EVERY}:
                shutil.copyfile(package.path, target / debian / f"{package.name}.deb")


def service_command(package_files: Sequence[Path], service: str, *, systemd: bool = False) -> tuple[str, ...]:
    """Return a command that does what a package's unit starts.

    Raises InputError if no package has the unit, or it starts nothing, or, without systemd, nothing that stays.
    """
    unit = service if service.endswith(".service") else f"{service}.service"
    known: set[str] = set()
    for path in package_files:
        with open_data(path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not name.startswith(UNIT_FOLDERS) or not member.isreg():
                    continue
                known.add(Path(name).name)
                if Path(name).name == unit and member.size <= MAX_UNIT_BYTES and (file := archive.extractfile(member)):
                    text = file.read().decode("utf-8", "replace")
                    if not systemd:
                        _check_stays(text, unit)
                    return _command(text, unit)
    units = f" It has {', '.join(sorted(known))}." if known else ""
    raise InputError(f"the packages have no unit {unit}.{units}")


def _check_stays(text: str, unit: str) -> None:
    """Refuse a unit whose program ends when it has started.

    It would count as a service that ended unasked.
    """
    types = [line.partition("=")[2].strip() for line in text.splitlines() if line.startswith("Type=")]
    if types and types[-1] in ENDING:
        raise InputError(
            f"the unit {unit} has Type={types[-1]}: its program ends when it has started",
            "With --systemd the unit is started as its type says.",
        )


def _command(text: str, unit: str) -> tuple[str, ...]:
    lines = text.replace("\\\n", " ").splitlines()
    starts = [line.partition("=")[2].strip() for line in lines if line.startswith("ExecStart=")]
    starts = [line for line in starts if line]
    if not starts:
        raise InputError(f"the unit {unit} has no ExecStart, so there is nothing to start")
    script = []
    for line in lines:
        key, _, value = line.partition("=")
        if key == "Environment":
            script.append(f"export {value}")
        elif key == "EnvironmentFile":
            file = value.lstrip("-")
            script.append(f"if [ -r {shlex.quote(file)} ]; then set -a; . {shlex.quote(file)}; set +a; fi")
        elif key in {"RuntimeDirectory", "StateDirectory", "LogsDirectory"}:
            folder = {"RuntimeDirectory": "/run", "StateDirectory": "/var/lib", "LogsDirectory": "/var/log"}[key]
            script.append("mkdir -p " + " ".join(shlex.quote(f"{folder}/{name}") for name in value.split()))
    return ("/bin/sh", "-c", "\n".join([*script, f"exec {starts[-1].lstrip(PREFIXES)}"]))

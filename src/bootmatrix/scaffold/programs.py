"""Programs to try: which architectures their files are for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from bootmatrix.errors import InputError
from bootmatrix.fsio import open_plain
from bootmatrix.load.validate import suggest
from bootmatrix.model import Profile
from bootmatrix.model.profile import has_magic
from bootmatrix.scaffold.thing import PLACEHOLDER, SCRIPT
from bootmatrix.source.elf import HEADER_BYTES, describe, is_program


@dataclass
class FileChoice:
    """Files by architecture, and architectures without one, with the reason."""

    files: dict[str, Path] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)

    @property
    def is_same(self) -> bool:
        """True if one file is for all."""
        return len(set(self.files.values())) <= 1


def placeholders(profile: Profile) -> dict[str, str]:
    """Return the placeholders of a path with their values for an architecture."""
    _, architecture, *variant = profile.names.oci.split("/")
    return {
        **profile.names.model_dump(exclude={"oci"}),
        "arch": profile.name,
        "debian_arch": profile.names.debian,
        "oci_arch": architecture,
        "oci_variant": variant[0] if variant else "",
    }


def fill(pattern: str, profile: Profile) -> str:
    """Replace the placeholders of a path. Raises InputError if one is unknown."""
    names = placeholders(profile)
    for name in PLACEHOLDER.findall(pattern):
        if name not in names:
            raise InputError(f"{pattern}: unknown placeholder {{{name}}}.{suggest(name, names)}")
    return PLACEHOLDER.sub(lambda match: names[match[1]], pattern)


def choose_programs(
    pattern: str, wanted: Sequence[str], profiles: Mapping[str, Profile], *, explicit: bool
) -> FileChoice:
    """Find the program for each of the architectures `wanted`.

    An `explicit` architecture must have one; others are left out with the reason.

    Raises InputError if a file is missing, or for another architecture; or no architecture is left.
    """
    choice = FileChoice()
    subject = Path(pattern)
    for arch in wanted:
        path = Path(fill(pattern, profiles[arch]))
        fault = _fault(path, profiles[arch])
        if fault and explicit:
            raise InputError(fault, _advice(path, profiles))
        if fault:
            choice.lacking[arch] = fault
            subject = path if path.exists() else subject
        else:
            choice.files[arch] = path
    if not choice.files:
        reasons = tuple(dict.fromkeys(choice.lacking.values()))
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise InputError(f"no architecture is left: {reasons[0]}{more}", _advice(subject, profiles))
    return choice


def _fault(path: Path, profile: Profile) -> str:
    """Return why a file is not a program for an architecture; empty if it is."""
    if path.is_dir():
        return f"{path}: a folder, where a program is expected"
    try:
        with open_plain(path.resolve()) as file:
            start = file.read(HEADER_BYTES)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if start[:2] == SCRIPT:
        return ""
    if not is_program(start):
        return f"{path}: neither an ELF program nor a script with '#!'"
    if not profile.programs or has_magic(start, profile.programs[0]):
        return ""
    return f"{path} is a program for {describe(start)}, and not for {profile.name}"


def _advice(path: Path, profiles: Mapping[str, Profile]) -> str:
    """Name the architectures that a file is for."""
    if path.is_dir():
        return (
            f"A name with placeholders is that of a program. Name the folder of all: "
            f"bootmatrix try {quote(str(path.parent.absolute()))} -- sh -c '… $(uname -m) …'"
        )
    try:
        with open_plain(path.resolve()) as file:
            start = file.read(HEADER_BYTES)
    except OSError:
        return "A name for each architecture: './dist/tool-{oci_arch}', or {arch}, {debian_arch}, {uname}, {gnu}."
    if not is_program(start):
        return f"A name with placeholders is that of a program. An archive alone: bootmatrix try {quote(str(path))}"
    names = [name for name, profile in profiles.items() if profile.programs and has_magic(start, profile.programs[0])]
    return f"It is for --arch {','.join(names)}." if names else "No profile is for it."

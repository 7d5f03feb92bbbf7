"""Import of files of `bootmatrix build`, found by name, checked by digest."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bootmatrix.assembly.export import BUILT
from bootmatrix.assembly.firmware import board_firmware
from bootmatrix.assembly.formats import output_formats
from bootmatrix.assembly.formats.media import write_sparse
from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.prebuilt_guest import disk_format, refers
from bootmatrix.errors import InputError
from bootmatrix.load.profile import find_machine
from bootmatrix.model import Artefact, Bootable, Built, BuiltFile, Machine, Profile
from bootmatrix.model.artefact import ArtefactKind
from bootmatrix.qemu.disk import WRITES_BYTES
from bootmatrix.source.safe_archive import FAULTS, PaxArchive, PaxHeader
from bootmatrix.store import Store, sha256_of

AGAIN = "Build it again."
DISK_IN_TAR = "disk.raw"
LIMIT_BYTES = 16 << 20
"""Limit of a manifest, which has a few kilobytes."""


@dataclass(frozen=True)
class Chosen:
    """A file of a format, with the manifest that lists it."""

    prefix: Path
    suffix: str
    built: Built

    @property
    def file(self) -> BuiltFile:
        """The manifest entry of the file."""
        return self.built.files[self.suffix]


def find(name: str) -> Chosen | None:
    """Find the build that a file name or prefix means; None without one.

    A prefix means the first of its formats that QEMU boots.

    Raises InputError if the build is damaged, or not bootable.
    """
    known = sorted({suffix for form in output_formats().values() for suffix in form.files}, key=len, reverse=True)
    for suffix in known:
        if name.endswith(suffix) and Path(name).is_file():
            prefix = Path(name.removesuffix(suffix))
            built = _load(prefix)
            if built and suffix in built.files:
                return _bootable_one(Chosen(prefix, suffix, built))
    built = _load(Path(name))
    if built is None:
        return None
    for suffix, file in built.files.items():
        if file.format in output_formats() and suffix == _main(file.format) and output_formats()[file.format].boots:
            return Chosen(Path(name), suffix, built)
    raise InputError(f"QEMU boots no file of those built as {name}", f"It is: {', '.join(built.files)}")


def _main(name: str) -> str:
    """Return the suffix of the file that is booted: the format's last one."""
    return list(output_formats()[name].files)[-1]


def _bootable_one(chosen: Chosen) -> Chosen:
    name = chosen.file.format
    if name not in output_formats() or not output_formats()[name].boots:
        raise InputError(f"{chosen.prefix}{chosen.suffix} is of the format {name}, which QEMU cannot boot directly")
    main = _main(name)
    if main not in chosen.built.files:
        raise InputError(f"{chosen.prefix}{BUILT} does not list {chosen.prefix}{main}, the file to boot", AGAIN)
    return Chosen(chosen.prefix, main, chosen.built)


def _load(prefix: Path) -> Built | None:
    path = prefix.with_name(prefix.name + BUILT)
    if not prefix.name or not path.is_file():
        return None
    fault = InputError(f"{path}: not what 'bootmatrix build' writes", AGAIN)
    if path.stat().st_size > LIMIT_BYTES:
        raise fault
    try:
        built = Built.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise fault from error
    if built.bootable.reaches_host:  # it may be anybody's, and would name files of the host to QEMU
        raise fault
    return built


def reread(chosen: Chosen, target: str, profiles: dict[str, Profile], builder: Builder) -> tuple[Machine, Bootable]:
    """Return a file's machine and bootable; `target` is the user's target.

    Raises InputError if a file has changed, or is for another architecture.
    """
    profile, board = find_machine(profiles, target)
    if profile.name != chosen.built.arch:
        raise InputError(f"{chosen.prefix} was built for {chosen.built.arch}, not for {profile.name}")
    _, built_for = find_machine(profiles, f"{profile.name}/{chosen.file.machine}")
    machine = profile.machine(board if "/" in target else built_for)
    firmware = board_firmware(machine, profile, builder)
    boots = output_formats()[chosen.file.format].boots
    parts: dict[str, object] = {}
    if boots in {"kernel", "root"}:
        initrd = next(name for name in output_formats()[chosen.file.format].files if name.endswith("-initrd.img"))
        parts |= {"kernel": _file(chosen, "-kernel", "kernel"), "initrd": _file(chosen, initrd, "initrd")}
        parts |= {"dtb": _file(chosen, "-dtb", "dtb")} if machine.dtb else {}
    if boots != "kernel":
        disk = _disk(chosen, builder.store)
        parts |= {"disk": disk, "disk_format": disk_format(disk.file), "disk_is_cd": boots == "cd"}
    return machine, chosen.built.bootable.model_copy(update={**firmware, **parts})


def _file(chosen: Chosen, suffix: str, kind: ArtefactKind) -> Artefact:
    path = chosen.prefix.with_name(chosen.prefix.name + suffix)
    known = chosen.built.files.get(suffix)
    if known is None or not path.is_file() or sha256_of(path) != known.sha256:
        raise InputError(f"{path}: missing, or not the file that was built", AGAIN)
    return Artefact(
        kind=kind, name=path.name, path=str(path.absolute()), sha256=known.sha256, size_bytes=known.size_bytes
    )


def _disk(chosen: Chosen, store: Store) -> Artefact:
    """Return the disk, unpacked into the store if it is in an archive."""
    disk = _file(chosen, chosen.suffix, "disk")
    if chosen.suffix.endswith(".tar.gz"):
        disk = _unpacked(disk, store)
    if refers(disk.file):
        raise InputError(f"{chosen.prefix}{chosen.suffix}: this image refers to another file", AGAIN)
    return disk


class _DiskHeader(PaxHeader):
    limit_bytes = WRITES_BYTES


class _DiskArchive(PaxArchive):
    """An archive that may be anybody's, with a disk."""

    tarinfo = _DiskHeader


def _take_out(archive: tarfile.TarFile, path: Path) -> None:
    """Write the disk at the beginning of an archive, as a sparse file.

    Raises ValueError if the archive begins with something else.
    """
    member = archive.next()
    if member is None or member.name != DISK_IN_TAR or not member.isreg():
        raise ValueError("no such disk")
    source = archive.extractfile(member)
    assert source
    with path.open("wb") as file:
        write_sparse(source, file)
        file.truncate(member.size)


def _unpacked(packed: Artefact, store: Store) -> Artefact:
    with store.workspace() as folder:
        path = folder / DISK_IN_TAR
        try:
            with _DiskArchive.open(packed.path, "r:gz") as archive:
                _take_out(archive, path)
        except (*FAULTS, KeyError, ValueError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno:  # a fault of the host, such as a full disk
                raise
            raise InputError(f"{packed.path}: not an archive with a {DISK_IN_TAR}, or damaged", AGAIN) from error
        digest, size = sha256_of(path), path.stat().st_size
        return packed.model_copy(update={"path": str(store.keep(path, digest)), "sha256": digest, "size_bytes": size})

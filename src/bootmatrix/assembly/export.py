"""Export of one cell in output formats, with a manifest of the bootable ones."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bootmatrix.assembly.assemble import gather, without_initrd
from bootmatrix.assembly.build_context import BuildContext, fetch_kernel
from bootmatrix.assembly.formats import Format, output_formats
from bootmatrix.assembly.formats.media import copy_sparse
from bootmatrix.assembly.formats.sbom import sbom
from bootmatrix.assembly.formats.source import Source
from bootmatrix.errors import InputError
from bootmatrix.fsio import is_stream
from bootmatrix.load.expand import has_kernel
from bootmatrix.load.validate import suggest
from bootmatrix.model import Bootable, Built, BuiltFile, Cell, Profile
from bootmatrix.operating_system import is_portable
from bootmatrix.qemu.command import kernel_cmdline

BUILT = "-bootable.json"
SBOM = ".spdx.json"
COPY_BYTES = 1 << 20
EMPTY: Mapping[str, object] = {
    "kernel": None,
    "initrd": None,
    "dtb": None,
    "firmware": None,
    "flash": (),
    "disk": None,
    "forkable": None,
}
"""A Bootable's fields that are files."""


def machine_of(name: str, profile: Profile, chosen: str, is_named: bool) -> str:
    """Return the machine for a format: the named one, or that of its boot method.

    Raises InputError if the format is unknown, or not available for this architecture.
    """
    form = output_formats().get(name)
    if form is None:
        known = suggest(name, output_formats())
        raise InputError(f"unknown format {name!r}.{known}", "'--format list' prints all of them.")
    if not form.start:
        return chosen
    starts = {"efi": profile.efi, "bios": profile.bios, "card": profile.card}
    boot_settings = starts[form.start]
    if boot_settings is None:
        raise InputError(
            f"{profile.name} has no format {name}: {profile.without_disk or _lack(form)}",
            f"Formats that it has: {', '.join(formats_of(profile))}.",
        )
    return chosen if is_named else boot_settings.machine


def _lack(form: Format) -> str:
    words = {
        "efi": "BootMatrix knows no UEFI for it",
        "bios": "it has no BIOS",
        "card": "none of its boards takes such a card",
    }
    return words[form.start]


def formats_of(profile: Profile) -> list[str]:
    """List the formats of an architecture."""
    starts = {"": True, "efi": profile.efi, "bios": profile.bios, "card": profile.card}
    return [name for name, form in output_formats().items() if starts[form.start]]


def check(names: Iterable[str]) -> None:
    """Check that formats do not write one file with different contents.

    Raises InputError if two do.
    """
    owners: dict[str, str] = {}
    for name in names:
        for suffix in output_formats()[name].files:
            other = owners.setdefault(suffix, name)
            if other != name and suffix not in {"-kernel", "-cmdline"}:
                raise InputError(f"{other} and {name} would both be NAME{suffix}", "Build them one after the other.")


def check_stream(request: ExportRequest) -> None:
    """Raises InputError if a request writes more than one file to a stream."""
    several = [name for name in request.formats if len(output_formats()[name].files) > 1]
    if several or len(request.formats) > 1 or request.sbom:
        names = ", ".join((*request.formats, *(("an SBOM",) if request.sbom else ())))
        single = ", ".join(name for name, form in output_formats().items() if len(form.files) == 1)
        raise InputError(
            f"{names}: several files, and the standard output takes one",
            f"Give -o PREFIX, or one of these formats alone: {single}.",
        )


@dataclass(frozen=True)
class ExportRequest:
    """An export: formats, the path prefix of all files, and whether to write an SBOM.

    `is_named`: the cell's machine was named, and counts for every format.
    """

    formats: tuple[str, ...]
    prefix: Path
    is_named: bool = False
    sbom: bool = False
    stream: BinaryIO | None = None


def write(request: ExportRequest, cell: Cell, context: BuildContext) -> list[Path]:
    """Build a cell in some formats and write their files; return the paths.

    Raises InputError if a format is unknown, or not available for this architecture; BuildError if the spec cannot be
    built in this format.
    """
    profile = context.profiles[cell.arch]
    machines = {name: machine_of(name, profile, cell.machine, request.is_named) for name in request.formats}
    check(machines)
    if request.stream:
        check_stream(request)
    if request.prefix.name in {"", ".."}:
        raise InputError(f"{request.prefix} is a folder, expected the beginning of file names", "Give FOLDER/NAME.")
    if is_stream(request.prefix) and not request.prefix.is_dir():
        hint = "Names of files begin with it; '-o -' writes to the standard output."
        raise InputError(f"{request.prefix} is a device, a pipe or a descriptor", hint)
    if context.specs[cell.spec].own:
        raise InputError(f"{cell.spec} describes a guest that is built already")
    sources = {machine: _source(cell, machine, context) for machine in dict.fromkeys(machines.values())}
    made: dict[str, tuple[Path, BuiltFile]] = {}
    for name, machine in machines.items():
        files_of = _made(name, sources[machine], machine)
        made |= {suffix: file for suffix, file in files_of.items() if suffix not in made}
    if request.stream:
        ((path, _),) = made.values()
        with path.open("rb") as file:
            shutil.copyfileobj(file, request.stream, COPY_BYTES)
        return []
    paths = [_put(path, request.prefix, suffix) for suffix, (path, _) in made.items()]
    first = next(iter(sources.values()))
    if request.sbom:
        paths.append(_put(_kept(sbom(first), first), request.prefix, SBOM))
    files = {suffix: file for suffix, (_, file) in made.items()}
    boots = any(output_formats()[name].boots for name in machines)
    bootable = _without_files(first.bootable if boots else first.described)
    built = Built(arch=cell.arch, bootable=bootable, files=files)
    return [*paths, _put(_kept(built.model_dump_json(indent=1).encode() + b"\n", first), request.prefix, BUILT)]


def _kept(data: bytes, source: Source) -> Path:
    return source.store.verified(source.store.add_bytes(data))


def _made(name: str, source: Source, machine: str) -> dict[str, tuple[Path, BuiltFile]]:
    """Build the files by name suffix, with their manifest entries."""
    form = output_formats()[name]
    made = {suffix: maker(source) for suffix, maker in form.files.items()}
    if form.boots in {"kernel", "root"}:
        parts = source.described.parts().items()
        made |= {f"-{part}": artefact.file for part, artefact in parts if part != "kernel"}
    return {
        suffix: (path, BuiltFile(format=name, machine=machine, sha256=path.name, size_bytes=path.stat().st_size))
        for suffix, path in made.items()
    }


def _source(cell: Cell, board: str, context: BuildContext) -> Source:
    spec, profile = context.specs[cell.spec], context.profiles[cell.arch]
    machine = profile.machine(board)
    cell = cell.model_copy(update={"machine": board})
    if not has_kernel(cell, context.profiles):
        raise InputError(f"{profile.name}/{board} has no kernel {cell.kernel!r}")
    kernel = fetch_kernel(cell, context)
    assert kernel
    assembly = gather(spec, profile, machine, kernel, context.builder)
    described = without_initrd(assembly)
    return Source(assembly, described, kernel_cmdline(machine, described, "auto"))


def _without_files(bootable: Bootable) -> Bootable:
    images = tuple(image.model_copy(update={"path": ""}) for image in bootable.images)
    return bootable.model_copy(update={**EMPTY, "images": images})


def _put(source: Path, prefix: Path, suffix: str) -> Path:
    """Copy a file of the store atomically."""
    target = prefix.with_name(prefix.name + suffix)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{target}: {error.filename} is not a folder", "Name another --output.") from error
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        with _unnamed(beside) as out:
            copy_sparse(source, out)
            out.truncate()
            if not beside.exists():
                # A descriptor beside an absolute path has Python call linkat(2), which alone follows this link.
                os.link(f"/proc/self/fd/{out.fileno()}", beside, src_dir_fd=out.fileno(), follow_symlinks=True)
        beside.replace(target)
    except OSError as error:  # a failed write does not name its file
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        beside.unlink(missing_ok=True)
    return target


def _unnamed(beside: Path) -> BinaryIO:
    """Open an unnamed file, gone if killed; `beside` if that is unsupported."""
    if is_portable():
        return beside.open("xb")
    try:
        handle = os.open(beside.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError:  # unsupported by the file system, such as NFS
        return beside.open("xb")
    return os.fdopen(handle, "w+b")

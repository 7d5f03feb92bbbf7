"""`bootmatrix kernels`: resolve kernel names; add and remove custom kernels."""

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bootmatrix.assembly.build_context import open_builder
from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.kernel.custom import add_custom_kernel, find_kernel
from bootmatrix.assembly.kernel.options import fragment, parse_purposes, summarize
from bootmatrix.cli import catalogues, options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.cli.output import say
from bootmatrix.cli.tables import print_rows
from bootmatrix.errors import BootmatrixError, BuildError, InputError
from bootmatrix.fsio import DESCRIPTORS
from bootmatrix.load.data_paths import arch_folders, named_files
from bootmatrix.load.images import find_source
from bootmatrix.load.kernels import check_new, kernels_file, load_custom_kernels, save_custom_kernels
from bootmatrix.load.profile import find_machine
from bootmatrix.load.recipe import PACKAGE
from bootmatrix.load.validate import suggest
from bootmatrix.model import CustomKernel, KernelPart, KernelSource, Profile
from bootmatrix.redact import RedactedUrl, redacted_reference
from bootmatrix.source.image_sources import find_type
from bootmatrix.source.kernel_formats import kernel_formats, tree

Row = tuple[str, str, str, str]


def run(args: argparse.Namespace) -> int:
    """Print the table of kernels; return status 3 if a name does not resolve."""
    if args.facts:
        return catalogues.run_facts(args)
    if args.distro:
        return catalogues.run_distro(args)
    profiles = options.profiles()
    selected = [find_machine(profiles, name)[0] for name in args.arch] or list(profiles.values())
    entries = [entry for profile in selected for entry in _sources(profile)]
    sources = options.workspace(args).sources()
    with download_progress() as downloads, open_builder(sources, downloads) as builder, ThreadPoolExecutor() as pool:
        rows = list(pool.map(lambda entry: _row(builder, *entry), entries))
    print_rows(("arch", "kernel", "release", "package"), rows)
    return EXPECTED if all(row[3] for row in rows) else OUR_FAULT


def _sources(profile: Profile) -> Iterator[tuple[str, Profile, str, KernelSource | CustomKernel]]:
    """Yield target, profile, kernel name and source of each kernel."""
    by_target: dict[str, dict[str, KernelSource | CustomKernel]] = {profile.name: {**profile.kernels, **profile.own}}
    for name, machine in profile.machines.items():
        by_target[f"{profile.name}/{name}"] = {**(machine.kernels or {})}
    for target, kernels in by_target.items():
        for kernel, source in kernels.items():
            yield target, profile, kernel, source


def _row(builder: Builder, target: str, profile: Profile, name: str, source: KernelSource | CustomKernel) -> Row:
    try:
        kernel = find_kernel(name, source, profile, builder)
    except BootmatrixError as error:
        return target, name, f"({error.message})", ""
    return target, name, kernel.release, kernel.origin


def run_add(args: argparse.Namespace) -> int:
    """Add a kernel to kernels.yml."""
    profiles, file = options.profiles(), kernels_file()
    if not file.parent.is_dir():
        raise InputError(f"{file}: no such folder: {file.parent}")
    candidates = [find_machine(profiles, args.one_arch)[0]] if args.one_arch else _shipped_first(profiles)
    kernels = load_custom_kernels(file, profiles)
    try:
        with download_progress() as downloads, open_builder(options.workspace(args).sources(), downloads) as builder:
            profile, kernel, lacking = add_custom_kernel(
                args.name, tuple(_parts(args, builder, file.parent)), file.parent, candidates, builder
            )
    except BuildError as error:
        raise InputError(error.message, error.hint) from error
    check_new(args.name, profile)
    kernels.setdefault(args.name, {})[profile.name] = _followed(kernel) if args.follow else kernel
    save_custom_kernels(kernels, file)
    say(f"{args.name} for {profile.name}: Linux {kernel.release}, in {file}")
    for source in map(Path, args.sources):
        if source.is_dir() and tree.recognises(source) and tree.is_outdated(source):
            say(f"note: {source / tree.CONFIG} is newer than the kernel: run make, or this is not what it configures")
    if lacking:
        say(f"note: its configuration lacks {summarize(lacking)}")
        say(f"      bootmatrix kernels fragment {profile.name}   prints what guests need, for merge_config.sh")
    return EXPECTED


def _shipped_first(profiles: Mapping[str, Profile]) -> list[Profile]:
    """Sort profiles: one's own boards after their architectures."""
    shipped = named_files(arch_folders()[:1])
    return sorted(profiles.values(), key=lambda profile: profile.name not in shipped)


def _followed(kernel: CustomKernel) -> CustomKernel:
    """Return a kernel without the digests of local files."""
    parts = tuple(part if part.url else part.model_copy(update={"sha256": None}) for part in kernel.parts)
    return kernel.model_copy(update={"parts": parts})


def _parts(args: argparse.Namespace, builder: Builder, folder: Path) -> Iterator[KernelPart]:
    if args.sha256 and len(args.sha256) != len(args.sources):
        raise InputError("--sha256 must be repeated for each SOURCE, in order, or omitted")
    digests: list[str | None] = [*map(_digest, args.sha256)] or [None] * len(args.sources)
    for source, sha256 in zip(args.sources, digests, strict=True):
        if source.startswith(PACKAGE) or find_type(source):
            yield _image_part(source, sha256, folder)
        else:
            yield _url_part(source, sha256, builder) if "://" in source else _file_part(Path(source), sha256, folder)
    for kind, path in (("modules", args.modules), ("config", args.config)):
        if path is not None:
            yield KernelPart(kind=kind, path=_relative(path, folder))


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text.lower()):
        raise InputError(f"--sha256: expected 64 hexadecimal digits, found {text!r}")
    return text.lower()


def _file_part(path: Path, sha256: str | None, folder: Path) -> KernelPart:
    return KernelPart(kind=_kind(path, str(path)), path=_relative(path, folder), sha256=sha256)


def _image_part(source: str, sha256: str | None, folder: Path) -> KernelPart:
    """Make the part for a container image, relative to `folder`."""
    image = find_source(source, Path("image"), ())
    if image.is_made_here:
        text = f"@pkg:{os.path.relpath(image.path, folder)}"
    else:
        text = str(image.model_copy(update={"path": _relative(Path(image.path), folder)}) if image.path else image)
    return KernelPart(kind="oci", image=text, sha256=sha256)


def _url_part(url: str, sha256: str | None, builder: Builder) -> KernelPart:
    if not url.startswith(("http://", "https://")):
        raise InputError(
            f"{RedactedUrl(url)}: a kernel's URL must start with http:// or https://", "Give a file by its path."
        )
    if sha256 is None:
        raise InputError(f"{RedactedUrl(url)}: a kernel from a URL needs its SHA-256", "Add --sha256.")
    size_bytes, kept = builder.archive.length(url), str(RedactedUrl(url))
    if kept != url:
        print(f"note: {kept} is saved without its password and query; after emptying the cache, add the kernel again")
    return KernelPart(
        kind=_kind(builder.archive.download(url, sha256, size_bytes), kept),
        url=kept,
        sha256=sha256,
        size_bytes=size_bytes,
    )


def _kind(path: Path, label: str) -> str:
    if str(path).startswith(DESCRIPTORS):
        raise InputError(f"{label}: not a file that stays, and each build reads it", "Save it, and name that file.")
    if not path.exists():  # perhaps it was meant as a URL
        raise InputError(f"{redacted_reference(label) if ':' in label else label}: no such file or folder")
    for name, kind in kernel_formats().items():
        if kind.recognises(path):
            return name
    supported = ", ".join(kind.DESCRIPTION for kind in kernel_formats().values())
    raise InputError(f"{label}: not a kernel", f"Supported: {supported}.")


def _relative(path: Path, folder: Path) -> str:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return os.path.relpath(path, folder)


def run_fragment(args: argparse.Namespace) -> int:
    """Print a fragment of a kernel's configuration."""
    profile, board = find_machine(options.profiles(), args.machine)
    say(fragment(profile.machine(board), *parse_purposes(args.purposes)).rstrip("\n"))
    return EXPECTED


def run_remove(args: argparse.Namespace) -> int:
    """Remove a kernel from kernels.yml."""
    profiles, file = options.profiles(), kernels_file()
    kernels = load_custom_kernels(file, profiles)
    if args.name not in kernels:
        raise InputError(f"{file} has no kernel {args.name!r}.{suggest(args.name, kernels)}")
    arch = find_machine(profiles, args.one_arch)[0].name if args.one_arch else None
    remaining = {name: kernel for name, kernel in kernels[args.name].items() if arch not in {None, name}}
    if len(remaining) == len(kernels[args.name]):
        raise InputError(f"{file} has no kernel {args.name!r} for {arch}")
    save_custom_kernels({**kernels, args.name: remaining}, file)
    return EXPECTED

"""Kernel catalogues, `kernels/<name>.yml`: those of other distributions."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from bootmatrix.errors import Fault, FileError, InputError
from bootmatrix.load.data_paths import catalogue_folders, named_files
from bootmatrix.load.document import Document, Location, read_document
from bootmatrix.load.facts import ALL, ANY_KERNEL
from bootmatrix.load.validate import suggest, validate
from bootmatrix.model import Catalogue, CatalogueEntry, Profile, RepositoryKernel
from bootmatrix.model.distribution import RepositoryKeys

DEFAULT_ADDRESS = "default"
_WORDS = re.compile(r"\{([^}]*)\}")
_ADDRESS_WORDS = ("arch", "address")
_SNAPSHOT_WORDS = (*_ADDRESS_WORDS, "time")
_NAME_WORDS = ("release", "arch")


def load_catalogues(folders: Iterable[Path] | None = None) -> dict[str, Catalogue]:
    """Load all catalogues by name.

    Raises InputError if one is invalid, or two have a kernel of the same name.
    """
    files = named_files(catalogue_folders() if folders is None else folders)
    catalogues = {name: load_catalogue(file) for name, file in sorted(files.items())}
    owners: dict[str, str] = {}
    faults = []
    for name, catalogue in catalogues.items():
        for kernel in catalogue.kernels:
            if owners.setdefault(kernel, name) != name:
                line = read_document(files[name]).line(("kernels", kernel))
                faults.append(Fault(str(files[name]), line, f"{kernel!r} is a kernel of {owners[kernel]}, too"))
    if faults:
        raise FileError(faults)
    return catalogues


def load_catalogue(path: Path) -> Catalogue:
    """Load a catalogue, named as its file. Raises InputError if the file is invalid."""
    document = read_document(path)
    catalogue = validate(document, Catalogue, name=path.stem, folder=str(path.parent))
    for name, entry in catalogue.kernels.items():
        _check_entry(document, name, entry, catalogue)
    places: list[tuple[Location, RepositoryKeys | None]] = [((), catalogue.keys)]
    places += [(("kernels", name), entry.keys) for name, entry in catalogue.kernels.items()]
    for place, keys in places:
        if keys and keys.package and not keys.suites:
            document.complain((*place, "keys"), "'keys' has a package, and no suites in which it is looked up")
    document.raise_faults()
    return catalogue


def _check_entry(document: Document, name: str, entry: CatalogueEntry, catalogue: Catalogue) -> None:
    place = ("kernels", name)
    if name in {ALL, ANY_KERNEL, "spec", "own", "user"}:
        document.complain(place, f"{name!r} is a reserved kernel name. Choose another")
    if not (entry.image or catalogue.image):
        document.complain(place, f"'{name}' has no 'image', and the catalogue has none")
    if not entry.repositories:
        document.complain(place, f"'{name}' has no 'repositories'")
    for arch in entry.architectures:
        if arch not in catalogue.architectures:
            message = f"unknown architecture {arch!r} of the catalogue.{suggest(arch, catalogue.architectures)}"
            document.complain((*place, "architectures"), message)
    for index, text in enumerate(entry.repositories):
        words = _SNAPSHOT_WORDS if catalogue.snapshots else _ADDRESS_WORDS
        _check_words(document, (*place, "repositories", index), text, words)
        if catalogue.format in {"apt", "pacman"} and " " not in text:
            what = "SUITE" if catalogue.format == "apt" else "DATABASE"
            document.complain((*place, "repositories", index), f"{text!r} must be of the form 'ADDRESS {what}'")
        if "{address}" in text and not catalogue.addresses:
            document.complain((*place, "repositories", index), "the catalogue has no 'addresses' for {address}")
    for text in filter(None, (entry.image, *(entry.parts or ()), *(entry.optional or ()))):
        _check_words(document, place, text, _NAME_WORDS)


def _check_words(document: Document, place: tuple[str | int, ...], text: str, known: Collection[str]) -> None:
    for word in _WORDS.findall(text):
        if word not in known:
            document.complain(place, f"unknown placeholder {{{word}}}.{suggest(word, known)}")


def kernels_for(catalogue: Catalogue, arch: str) -> Iterator[tuple[str, RepositoryKernel]]:
    """Yield a catalogue's kernels for an architecture, by name."""
    if arch not in catalogue.architectures:
        return
    for name, entry in catalogue.kernels.items():
        if not entry.architectures or arch in entry.architectures:
            yield name, _resolved(catalogue, entry, arch)


def _resolved(catalogue: Catalogue, entry: CatalogueEntry, arch: str) -> RepositoryKernel:
    words = {
        "{arch}": catalogue.architectures[arch],
        "{address}": catalogue.addresses.get(arch) or catalogue.addresses.get(DEFAULT_ADDRESS, ""),
    }

    def filled(text: str) -> str:
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    repositories = tuple(map(filled, entry.repositories))
    snapshots = catalogue.snapshots
    if snapshots:
        snapshots = snapshots.model_copy(update={"sources": tuple(map(filled, snapshots.sources))})
    return RepositoryKernel(
        distribution=catalogue.name,
        folder=catalogue.folder,
        format=catalogue.format,
        signed=entry.signed or catalogue.signed,
        keys=entry.keys or catalogue.keys,
        architecture=catalogue.architectures[arch],
        repositories=tuple(text.replace("{time}", f"{datetime.now(UTC):%Y%m%dT000000Z}") for text in repositories),
        image=filled(entry.image or catalogue.image or ""),
        parts=tuple(map(filled, catalogue.parts if entry.parts is None else entry.parts)),
        optional=tuple(map(filled, catalogue.optional if entry.optional is None else entry.optional)),
        version=entry.version,
        archived=entry.archived,
        page_kib=entry.page_kib,
        va_bits=entry.va_bits,
        flavour=entry.flavour,
        snapshots=snapshots,
        states=tuple(text for text in repositories if "{time}" in text),
    )


def with_catalogues(profiles: Mapping[str, Profile], names: Iterable[str]) -> dict[str, Profile]:
    """Add these kernels to profiles, unless the archive or user has them.

    Catalogues are loaded only for other names.

    Raises InputError if a catalogue is invalid.
    """
    known = {name for profile in profiles.values() for board in profile.machines for name in profile.kernels_of(board)}
    wanted = set(names) - known - {ALL, ANY_KERNEL}
    if not wanted:
        return dict(profiles)
    catalogues = load_catalogues().values()
    return {name: _with_kernels(profile, catalogues, wanted) for name, profile in profiles.items()}


def _with_kernels(profile: Profile, catalogues: Iterable[Catalogue], wanted: Collection[str]) -> Profile:
    kernels = {
        name: kernel
        for catalogue in catalogues
        for name, kernel in kernels_for(catalogue, profile.name)
        if name in wanted
    }
    return profile.model_copy(update={"catalogue": {**profile.catalogue, **kernels}}) if kernels else profile


def find_catalogue(name: str) -> Catalogue:
    """Find a distribution's catalogue. Raises InputError if it is unknown."""
    catalogues = load_catalogues()
    if name not in catalogues:
        raise InputError(f"unknown distribution {name!r}.{suggest(name, catalogues)}")
    return catalogues[name]

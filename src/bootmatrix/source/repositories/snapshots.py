"""Old kernels, by a service that keeps all states of an archive."""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, TypeVar
from urllib.parse import quote

from debian.debian_support import Version
from pydantic import AfterValidator, BaseModel, StringConstraints, ValidationError

from bootmatrix.errors import InputError, UntrustedError
from bootmatrix.model.distribution import RepositoryKernel, SnapshotService
from bootmatrix.source.kernels import matches
from bootmatrix.source.replies import NotFound
from bootmatrix.source.repositories.index_cache import IndexCache

REQUESTS = 4
"""Requests at once: the service is for everybody."""
TIME = "%Y%m%dT%H%M%SZ"
DELAY = timedelta(days=1)
"""A package may be in the pool before an index names it; a day later the index has it."""


def _is_version(text: str) -> str:
    Version(text)
    return text


def _is_time(text: str) -> str:
    _moment(text)
    return text


def _moment(text: str) -> datetime:
    return datetime.strptime(f"{text}+0000", f"{TIME}%z")


PackageVersion = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+~:-]{1,100}$"), AfterValidator(_is_version)]
PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.~_-]{1,150}$")]


T = TypeVar("T", bound=BaseModel)


class _Named(BaseModel):
    name: PackageName = ""
    version: PackageVersion


class _Versions(BaseModel):
    result: tuple[_Named, ...]


class _File(BaseModel):
    architecture: str
    hash: str


class _Sighting(BaseModel):
    archive_name: str
    first_seen: Annotated[str, StringConstraints(pattern=r"^[0-9]{8}T[0-9]{6}Z$"), AfterValidator(_is_time)]


class _Files(BaseModel):
    result: tuple[_File, ...]
    fileinfo: dict[str, tuple[_Sighting, ...]]


@dataclass(frozen=True)
class OldKernel:
    """A kernel's image, and the first time at which the archive had it."""

    name: str
    version: str
    first_seen: datetime

    def repositories(self, states: Iterable[str]) -> tuple[str, ...]:
        """Return the states of the archive that may have it, the earliest first."""
        times = (self.first_seen, self.first_seen + DELAY)
        return tuple(state.replace("{time}", f"{time:{TIME}}") for state in states for time in times)


def old_kernels(
    source: RepositoryKernel, image: re.Pattern[str], one: str, other: str, indexes: IndexCache
) -> list[OldKernel]:
    """List kernels of such images between versions, oldest first.

    Raises InputError if a prefix is not a version, InfraError if the service is unavailable, or its answers are
    invalid.
    """
    _check_versions(one, other)
    service = source.snapshots
    assert service, "a source with a service"
    asked = _SnapshotRequests(service, indexes)
    with ThreadPoolExecutor(REQUESTS) as pool:
        versions = [(name, version) for name in service.sources for version in asked.versions(name)]
        wanted = [entry for entry in versions if _is_between(entry[1], one, other)]
        images = {
            (binary.name, binary.version)
            for binaries in pool.map(lambda entry: asked.binaries(*entry), wanted)
            for binary in binaries
            if image.fullmatch(binary.name)
        }
        dates = pool.map(lambda entry: asked.first_seen(entry[0], entry[1], source.architecture), sorted(images))
        return sorted(filter(None, dates), key=lambda kernel: Version(kernel.version))


def _check_versions(*prefixes: str) -> None:
    for prefix in prefixes:
        try:
            Version(prefix)
        except ValueError as error:
            raise InputError(f"{prefix!r} is not a version", "Such as 6.1 or 6.12.43.") from error


def _is_between(version: str, one: str, other: str) -> bool:
    """Return whether a version is one of two prefixes, or between them."""
    older, newer = sorted((one, other), key=Version)
    is_end = matches(version, older) or matches(version, newer)
    return is_end or Version(older) < Version(version) < Version(newer)


class _SnapshotRequests:
    """Requests to a service; each answer is kept for a day."""

    def __init__(self, service: SnapshotService, indexes: IndexCache) -> None:
        self._service, self._indexes = service, indexes

    def versions(self, package: str) -> Iterator[str]:
        """Yield the versions of a source package; none if the service does not know it."""
        answer = self._ask(_Versions, "package", package)
        return (entry.version for entry in (answer.result if answer else ()))

    def binaries(self, package: str, version: str) -> tuple[_Named, ...]:
        """Return the binary packages that were built from a source package."""
        answer = self._ask(_Versions, "package", package, version, "binpackages")
        return answer.result if answer else ()

    def first_seen(self, package: str, version: str, architecture: str) -> OldKernel | None:
        """Find when a package came into the archive; None if it never did."""
        answer = self._ask(_Files, "binary", package, version, "binfiles?fileinfo=1")
        files = [file.hash for file in answer.result if file.architecture == architecture] if answer else []
        seen = [entry for name in files for entry in (answer.fileinfo.get(name, ()) if answer else ())]
        times = [entry.first_seen for entry in seen if entry.archive_name == self._service.archive]
        return OldKernel(package, version, _moment(min(times))) if times else None

    def _ask(self, answer: type[T], *words: str) -> T | None:
        *path, last = words
        url = "/".join((self._service.address.rstrip("/"), "mr", *(quote(word, safe="") for word in path), ""))
        url += last if "?" in last else f"{quote(last, safe='')}{'/' if len(words) == 2 else ''}"
        try:
            return self._indexes.read((url,), lambda files: answer.model_validate_json(files[0]))
        except NotFound:
            return None
        except ValidationError as error:
            raise UntrustedError(
                f"{url}: not an answer of a snapshot service", "Correct 'snapshots' in the catalogue."
            ) from error

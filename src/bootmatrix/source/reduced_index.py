"""Lists of packages for guests, without what apt does not need. Pure.

apt reads them in half of the time, which counts under emulation. They are not signed: the host has verified the list
that they are made of, and the guest gets them from the host.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from bootmatrix.model import Package

_FOLDER = "main/binary-"
_KEPT = (
    *(b"Package", b"Version", b"Architecture", b"Multi-Arch", b"Essential", b"Pre-Depends", b"Depends", b"Recommends"),
    *(b"Conflicts", b"Breaks", b"Replaces", b"Provides", b"Priority", b"Installed-Size", b"Filename", b"Size"),
    b"SHA256",
)
"""With those by which apt knows an installed package again: without one of them, it wants to install it anew."""
_FIELD = re.compile(rb"^(?:" + b"|".join(_KEPT) + rb"):.*\n(?:[ \t].*\n)*", re.MULTILINE)


def reduced_list(paragraphs: Iterable[bytes]) -> bytes:
    """Return the paragraphs of a Packages file with the needed fields only."""
    return b"\n".join(b"".join(_FIELD.findall(paragraph.strip(b"\n") + b"\n")) for paragraph in paragraphs if paragraph)


_NEEDS = re.compile(rb"^(?:Pre-)?Depends:(.*(?:\n[ \t].*)*)", re.MULTILINE)
_PROVIDES = re.compile(rb"^Provides:(.*(?:\n[ \t].*)*)", re.MULTILINE)
_ALTERNATIVE = re.compile(rb"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)")


def needed_part(listed: bytes, names: Iterable[str]) -> bytes:
    """Return the reduced list's paragraphs of names and their needs.

    All alternatives and providers are kept, so that apt chooses as from the whole list.
    """
    paragraphs, providers = _by_name(listed)
    pending = {name.encode() for name in names}
    seen: set[bytes] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        pending |= providers.get(name, set())
        for paragraph in paragraphs.get(name, ()):
            pending.update(_alternatives(_NEEDS, paragraph))
    return b"\n".join(text + b"\n" for name in sorted(seen) for text in paragraphs.get(name, ()))


def _by_name(listed: bytes) -> tuple[dict[bytes, list[bytes]], dict[bytes, set[bytes]]]:
    """Return paragraphs by name, and names by what they provide."""
    paragraphs, providers = defaultdict(list), defaultdict(set)
    for text in listed.strip(b"\n").split(b"\n\n"):
        name = text.partition(b"\n")[0].removeprefix(b"Package:").strip()
        paragraphs[name].append(text)
        for provided in _alternatives(_PROVIDES, text):
            providers[provided].add(name)
    return paragraphs, providers


def _alternatives(field: re.Pattern[bytes], paragraph: bytes) -> Iterator[bytes]:
    for line in field.findall(paragraph):
        yield from _ALTERNATIVE.findall(line)


def list_of(packages: Iterable[Package]) -> bytes:
    """Return a Packages file of packages, such as those of a lock."""
    return "\n".join(
        _paragraph(package) for package in sorted(packages, key=lambda package: (package.name, package.version))
    ).encode()


def list_name(debian_arch: str) -> str:
    """Return the path of a list below the suite's folder."""
    return f"{_FOLDER}{debian_arch}/Packages"


def release_of(listed: bytes, suite: str, debian_arch: str) -> bytes:
    """Return a Release file for a list."""
    digest = hashlib.sha256(listed).hexdigest()
    lines = (
        f"Suite: {suite}",
        f"Codename: {suite}",
        f"Architectures: {debian_arch}",
        "Components: main",
        "Date: Thu, 01 Jan 1970 00:00:00 UTC",
        "SHA256:",
        f" {digest} {len(listed)} {list_name(debian_arch)}",
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _paragraph(package: Package) -> str:
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": package.architecture,
        "Depends": ", ".join(package.depends),
        "Provides": ", ".join(package.provides),
        "Filename": package.filename,
        "Size": str(package.size_bytes),
        "SHA256": package.sha256,
    }
    return "".join(f"{name}: {' '.join(text.split())}\n" for name, text in fields.items() if text)

"""Packages that the tests of an unpacked source package may need."""

import re
from pathlib import Path

from debian.deb822 import Deb822

from bootmatrix.errors import InputError
from bootmatrix.load.document import read_bytes

MAX_BYTES = 16 << 20
"""Limit of a control file; that of Linux has 1 MB."""
BUILDING = ("build-essential", "dpkg-dev", "fakeroot", "eatmydata")
"""Packages that autopkgtest installs by itself to build a tree."""
_NAME = re.compile(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)")
_NEEDS = ("Depends", "Pre-Depends")
_ASKED_FOR = {
    "@builddeps@": ("Build-Depends", "Build-Depends-Indep", "Build-Depends-Arch"),
    "build-needed": ("Build-Depends", "Build-Depends-Indep", "Build-Depends-Arch"),
    "recommends": ("Recommends",),  # @recommends@ and needs-recommends
}
"""Words of a tests' control file, and fields of the source's that they add."""


def packages_of(tree: Path) -> tuple[str, ...]:
    """Return the packages of a tree, its tests and its build.

    Raises InputError if it is not the tree of a source package with tests.
    """
    tests, control = _read(tree / "debian" / "tests" / "control"), _read(tree / "debian" / "control")
    fields = (*_NEEDS, *(field for word, added in _ASKED_FOR.items() if word in tests for field in added))
    is_built = (tree / "debian" / "files").is_file() and "build-needed" not in tests
    names = set(() if is_built else BUILDING)
    for paragraph in Deb822.iter_paragraphs(control.splitlines()):
        names |= {paragraph["Package"]} if "Package" in paragraph else set()
        names |= {name for field in fields for name in _NAME.findall(paragraph.get(field, ""))}
    for paragraph in Deb822.iter_paragraphs(tests.splitlines()):
        names |= set(_NAME.findall(paragraph.get("Depends", "")))
    return tuple(sorted(names))


def _read(path: Path) -> str:
    """Read a file of the tree, which may be anybody's, and lead anywhere."""
    try:
        return read_bytes(path, MAX_BYTES).decode("utf-8", "replace")
    except InputError as error:
        raise InputError(error.message, "--tree is the folder of an unpacked source package.") from error

"""Limits of a file tree: a small archive must not cause unbounded memory or work."""

from collections.abc import Iterable

from bootmatrix.errors import BuildError

MAX_LINKS = 40
"""Links followed before a path counts as a loop, as in Linux (path_resolution(7))."""
MAX_TREE_BYTES = 16 << 30
"""Limit of all files: no real image is as large."""
MAX_HOLES_BYTES = 1 << 30
"""Holes are zeros in an initrd, and cost an archive nothing."""
MAX_PATH_BYTES, MAX_NAME_BYTES = 4095, 255
"""Limits of a path or a link's target, and of one name in it, as in Linux (limits.h)."""
MAX_DEPTH = 256
"""Limit of nested folders: each path contains all of their names."""
MAX_NODES, MAX_NAMES_BYTES = 500_000, 256 << 20
"""Limits of files, twice those of the largest packages, and of all paths together, which are held in memory."""
MAX_ENTRIES = 1_000_000
"""Limit of the entries of all layers of an image together, which may replace each other's files."""
MAX_STEPS = 20_000_000
"""Limit of the path components resolved while links are followed, each weighted by its depth."""
MAX_NUMBER = (1 << 32) - 1
"""Owners have 32 bits in a newc archive."""
MAX_DEVICE = (1 << 21) - 1
"""Device numbers have seven octal digits in a tar archive; Linux has 20 bits (kdev_t.h)."""


def clean(path: str) -> str:
    """Normalise a path: no leading slash, `.` or doubled slashes.

    Raises BuildError if the path contains `..` or NUL, or is too long.
    """
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if len(path) > MAX_PATH_BYTES:
        raise BuildError(f"the path {path[:200]!r}… is too long: a path has {MAX_PATH_BYTES} bytes at most")
    if ".." in parts or "\0" in path:
        raise BuildError(f"the path {path!r} leaves the image's root")
    return "/".join(parts)


def check_lengths(where: str, target: str) -> None:
    """Check a path and a link's target. Raises BuildError if they are too long."""
    if len(target) > MAX_PATH_BYTES:
        raise BuildError(f"the link {where[:200]!r} has a target of {len(target)} characters")
    if 4 * len(where) <= MAX_NAME_BYTES:  # the usual case: too short to exceed any limit in UTF-8
        return
    names = [name.encode("utf-8", "replace") for name in where.split("/")]
    if sum(map(len, names)) + len(names) > MAX_PATH_BYTES + 1 or max(map(len, names)) > MAX_NAME_BYTES:
        raise BuildError(
            f"the path {where[:200]!r}… is too long: a path has {MAX_PATH_BYTES} bytes at most, a name {MAX_NAME_BYTES}"
        )
    if len(names) > MAX_DEPTH:
        raise BuildError(f"the path {where[:200]!r}… is in more than {MAX_DEPTH} folders")


def check_numbers(path: str, owners: tuple[int, int], device: Iterable[int]) -> None:
    """Check owners and device numbers against the limits of archives.

    Raises BuildError if a number is negative, or too large.
    """
    numbers = {"uid": owners[0], "gid": owners[1], "device number": max(device, key=abs)}
    for name, number in numbers.items():
        if not 0 <= number <= (MAX_DEVICE if name == "device number" else MAX_NUMBER):
            raise BuildError(f"{path}: {number} cannot be a {name}")

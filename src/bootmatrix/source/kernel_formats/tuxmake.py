"""A folder of tuxmake.

It has the kernel image, `config`, `metadata.json`, and tar archives of modules and device trees.
"""

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.source.kernel_formats.member import Member, checked, of_file, of_tar
from bootmatrix.source.kernel_formats.tree import check_inside
from bootmatrix.source.safe_archive import open_packed_tar

DESCRIPTION = "a folder of tuxmake's"
ORDER = 10
_IMAGES = ("bzImage", "Image*", "zImage*", "vmlinux*", "vmlinuz*")
_ARCHIVES = ("modules.tar*", "dtbs.tar*")


def recognises(path: Path) -> bool:
    """Match its metadata and a kernel image."""
    return (path / "metadata.json").is_file() and bool(_matching_files(path, _IMAGES))


def paths(path: Path) -> list[Path]:
    """List kernels first."""
    return [*_matching_files(path, _IMAGES), *_matching_files(path, ("config",)), *_matching_files(path, _ARCHIVES)]


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    """Iterate over kernel, configuration, archives. Raises BuildError."""
    for file in paths(path):
        if ".tar" in file.name:
            yield from checked(_archive(file), file, "a tar archive")
        else:
            yield of_file(file, f".{file.name}" if file.name == "config" else f"boot/{file.name}")


def _archive(file: Path) -> Iterator[Member]:
    with file.open("rb") as stream, open_packed_tar(stream) as archive:
        yield from of_tar(archive)


def _matching_files(path: Path, patterns: tuple[str, ...]) -> list[Path]:
    files = [file for pattern in patterns for file in sorted(path.glob(pattern)) if file.is_file()]
    for file in files:
        check_inside(file, path)
    return files

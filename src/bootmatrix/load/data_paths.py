"""Paths of shipped files, in the checkout or the installed wheel."""

import os
from collections.abc import Iterable
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.piped import kept

PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT = PACKAGE.parent.parent


def arch_folders() -> tuple[Path, ...]:
    """List the folders of profiles; later profiles replace earlier ones.

    The shipped folder, `arch` in the current folder, then those of `BOOTMATRIX_ARCH`, separated as in PATH.
    """
    return _folders("arch", "BOOTMATRIX_ARCH")


def catalogue_folders() -> tuple[Path, ...]:
    """List the folders of catalogues; later ones replace earlier ones.

    The shipped folder, `kernels` in the current folder, then those of `BOOTMATRIX_CATALOGUES`, separated as in PATH.
    """
    return _folders("kernels", "BOOTMATRIX_CATALOGUES")


def _folders(name: str, variable: str) -> tuple[Path, ...]:
    own = [Path(folder) for folder in os.environ.get(variable, "").split(os.pathsep) if folder]
    if missing := next((folder for folder in own if not folder.is_dir()), None):
        raise InputError(
            f"{variable}: {missing} is not a folder", f"It lists folders such as {name}/, separated as in PATH."
        )
    folders = [_shipped(name), Path(name), *own]
    seen: dict[Path, Path] = {}
    for folder in folders:
        if folder.is_dir():
            seen.setdefault(folder.resolve(), folder)
    return tuple(seen.values())


def specs_folder() -> Path:
    """Return the folder of shipped specs, with images in `images`."""
    return _shipped("specs")


def _shipped(name: str) -> Path:
    """Return a folder of the wheel or checkout, relative if below here."""
    installed = PACKAGE / "data" / name
    folder = installed if installed.is_dir() else CHECKOUT / name
    current = Path.cwd()
    return folder.relative_to(current) if folder.is_relative_to(current) else folder


def is_file(path: Path) -> bool:
    """Return whether a readable file exists; False for names that are too long."""
    try:
        return path.is_file() or kept(path) is not None
    except OSError:
        return False


def named_files(folders: Iterable[Path]) -> dict[str, Path]:
    """List the YAML files of folders by name; later ones replace earlier."""
    return {file.stem: within_project(file) for folder in folders for file in sorted(folder.glob("*.yml"))}


def project_of(folder: Path) -> Path:
    """Return the git work tree around an absolute folder, else the folder."""
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), folder)


def beside(path: Path, suffix: str) -> Path:
    """Return a path beside a file, named like it.

    Raises InputError for a link out of the file's project: nobody has named it.
    """
    other = path.with_suffix(suffix)
    root = project_of(path.parent.resolve())
    if other.is_symlink() and not other.resolve().is_relative_to(root):
        raise InputError(f"{other}: a link out of {root}", "Remove it, or name the file by an option.")
    return other


def within_project(path: Path) -> Path:
    """Return a path; a relative one must not lead out of the project.

    That is the git work tree, or the current folder. It may be somebody else's, and messages quote what a file
    contains.

    Raises InputError for a link out of it.
    """
    root = project_of(Path.cwd())
    if not path.is_absolute() and ".." not in path.parts and not path.resolve().is_relative_to(root):
        raise InputError(f"{path}: a link out of {root}", "Copy the file, or name its folder by an absolute path.")
    return path

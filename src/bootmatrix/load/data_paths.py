"""Where the files are that come with bootmatrix: in the checkout, or in the installed wheel."""

from __future__ import annotations

import os
from pathlib import Path

from bootmatrix.load.piped import kept

PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT = PACKAGE.parent.parent


def arch_folders() -> tuple[Path, ...]:
    """Folders of profiles; a later one's profile replaces an earlier one's of the same name.

    The shipped one, then `arch` in the current folder, then those that `BOOTMATRIX_ARCH` lists as PATH does.
    """
    own = os.environ.get("BOOTMATRIX_ARCH", "").split(os.pathsep)
    folders = [_shipped("arch"), Path("arch"), *(Path(name) for name in own if name)]
    seen: dict[Path, Path] = {}
    for folder in folders:
        if folder.is_dir():
            seen.setdefault(folder.resolve(), folder)
    return tuple(seen.values())


def specs_folder() -> Path:
    """The shipped specs and, in `images`, the images made from packages."""
    return _shipped("specs")


def _shipped(name: str) -> Path:
    """A folder of the wheel, else of the checkout; relative where it is below the current folder."""
    installed = PACKAGE / "data" / name
    folder = installed if installed.is_dir() else CHECKOUT / name
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def is_file(path: Path) -> bool:
    """Whether there is such a file; none has a name that is too long, and none in a forbidden folder is for us."""
    try:
        return path.is_file() or kept(path) is not None
    except OSError:
        return False

"""References to files and folders: `KIND:PATH`, perhaps with the name of an image in it."""

from __future__ import annotations

import re
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.model import ImageSource

_NAMED = re.compile(r"(?P<path>.+?)(?::(?P<name>[A-Za-z0-9][A-Za-z0-9_./:@-]*))?")


def parse_path(text: str, folder: Path, kind: str, *, named: bool = True) -> ImageSource:
    """Parse `PATH` or, if `named`, `PATH:NAME`. A path that is there is taken as a whole, colons and all.

    Raises:
        InputError: there is no such file or folder.
    """
    reference = f"{kind}:{text}"
    found = _NAMED.fullmatch(text)
    whole = folder / text
    try:
        if found is None or "\0" in text:
            raise InputError(f"{reference[:300]!r} should name a file or a folder behind the colon")
        if not named or whole.exists():
            source = ImageSource(kind=kind, path=str(whole))
        else:
            source = ImageSource(kind=kind, path=str(folder / found["path"]), name=found["name"] or "")
        if not Path(source.path).exists():
            raise InputError(f"the image {reference[:300]!r}: {source.path} is not there")
    except OSError as error:
        raise InputError(f"{reference[:100]!r} cannot be the name of a file: {error.strerror}") from error
    return source


def check_is_file(source: ImageSource) -> ImageSource:
    """The same source.

    Raises:
        InputError: it is not a file.
    """
    if not Path(source.path).is_file():
        hint = "A folder with an OCI layout is oci:FOLDER."
        raise InputError(f"the image {str(source)!r}: {source.path} is not a regular file", hint)
    return source

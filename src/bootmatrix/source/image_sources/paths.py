"""References to files and folders: `KIND:PATH`, optionally with an image's name."""

import re
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.model import ImageSource

_NAMED = re.compile(r"(?P<path>.+?)(?::(?P<name>[A-Za-z0-9][A-Za-z0-9_./:@-]*))?")


def parse_path(text: str, folder: Path, kind: str, *, named: bool = True) -> ImageSource:
    """Parse `PATH` or, if `named`, `PATH:NAME`. An existing path may have colons.

    Raises InputError if the file or folder is missing.
    """
    reference = f"{kind}:{text}"
    match = _NAMED.fullmatch(text)
    whole = folder / text
    try:
        if match is None or "\0" in text:
            raise InputError(f"{reference[:300]!r} must name a file or a folder after the colon")
        if not named or whole.exists():
            source = ImageSource(kind=kind, path=str(whole))
        else:
            source = ImageSource(kind=kind, path=str(folder / match["path"]), name=match["name"] or "")
        if not Path(source.path).exists():
            raise InputError(f"the image {reference[:300]!r}: {source.path} not found")
    except OSError as error:
        raise InputError(f"{reference[:100]!r} is not a valid file name: {error.strerror}") from error
    return source


def check_is_file(source: ImageSource) -> ImageSource:
    """Return the source if it is a regular file. Raises InputError if it is not."""
    if not Path(source.path).is_file():
        hint = "A folder with an OCI layout is oci:FOLDER."
        raise InputError(f"the image {str(source)!r}: {source.path} is not a regular file", hint)
    return source

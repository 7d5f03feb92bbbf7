"""Registry settings: `registries.yml`, or BOOTMATRIX_REGISTRIES."""

import os
import re
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import is_file, within_project
from bootmatrix.load.validate import read_model
from bootmatrix.model import Registries
from bootmatrix.redact import RedactedUrl
from bootmatrix.source.images.reference import is_host

_HOST = re.compile(r"[A-Za-z0-9.\[\]_-]+(:[0-9]{1,5}|:[0-9a-fA-F:]+\](:[0-9]{1,5})?)?")


def registries_file() -> Path:
    """Return registries.yml: BOOTMATRIX_REGISTRIES, or of this folder."""
    own = os.environ.get("BOOTMATRIX_REGISTRIES")
    return Path(own) if own else within_project(Path("registries.yml"))


def load_registries(path: Path) -> Registries:
    """Load registries by name; the file may be missing unless it is named.

    Raises InputError if the file is invalid, or the one that the environment names does not exist.
    """
    if not path.exists():
        if os.environ.get("BOOTMATRIX_REGISTRIES"):
            raise InputError(f"{path}: file not found; BOOTMATRIX_REGISTRIES names it")
        return Registries()
    registries, document = read_model(path, Registries)
    for name, registry in registries.registries.items():
        if not (_HOST.fullmatch(name) and is_host(name)):
            host = str(RedactedUrl(name))
            words = f"{host!r} must be the host of a registry, with its port if any"
            document.complain(("registries", name), words)
        for index, mirror in enumerate(registry.mirrors):
            if not is_host(mirror.partition("://")[2]):
                document.complain(("registries", name, "mirrors", index), f"{mirror!r} has no valid host")
        if registry.ca and not is_file(path.parent / registry.ca):
            document.complain(("registries", name, "ca"), f"file not found: {path.parent / registry.ca}")
    document.raise_faults()
    return registries

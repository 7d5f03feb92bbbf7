"""What is to be known of registries: `registries.yml`, beside the matrix or where BOOTMATRIX_REGISTRIES says."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import is_file
from bootmatrix.load.validate import read_model
from bootmatrix.model import Registries
from bootmatrix.redact import RedactedUrl
from bootmatrix.source.images.reference import is_host

_HOST = re.compile(r"[A-Za-z0-9.\[\]_-]+(:[0-9]{1,5}|:[0-9a-fA-F:]+\](:[0-9]{1,5})?)?")


def registries_file() -> Path:
    """The file that BOOTMATRIX_REGISTRIES names, else registries.yml in this folder."""
    return Path(os.environ.get("BOOTMATRIX_REGISTRIES") or "registries.yml")


def load_registries(path: Path) -> Registries:
    """Registries by name; none if there is no such file, unless it was asked for.

    Raises:
        InputError: it is faulty, or not there although the environment names it.
    """
    if not path.exists():
        if os.environ.get("BOOTMATRIX_REGISTRIES"):
            raise InputError(f"{path}: there is no such file, which BOOTMATRIX_REGISTRIES names")
        return Registries()
    registries, document = read_model(path, Registries)
    for name, registry in registries.registries.items():
        if not (_HOST.fullmatch(name) and is_host(name)):
            shown = str(RedactedUrl(name))
            words = f"{shown!r} should be the host of a registry, with its port if any"
            document.complain(("registries", name), words)
        for index, mirror in enumerate(registry.mirrors):
            if not is_host(mirror.partition("://")[2]):
                document.complain(("registries", name, "mirrors", index), f"{mirror!r} is at no host that can be asked")
        if registry.ca and not is_file(path.parent / registry.ca):
            document.complain(("registries", name, "ca"), f"there is no file {path.parent / registry.ca}")
    document.raise_faults()
    return registries

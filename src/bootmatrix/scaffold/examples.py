"""The project of `bootmatrix new`: spec, images, matrix, CI files."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.fsio import write_atomic
from bootmatrix.load.schema import json_schema
from bootmatrix.packaged import packaged
from bootmatrix.scaffold.yaml_text import MODELINE

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
SCHEMAS = ("spec", "matrix", "image")
"""Schemas that are written beside the files, for editors."""
FILES = {
    "{name}.yml": ("spec", "./spec"),
    "{name}.matrix.yml": ("matrix", "./matrix"),
    "images/{name}/build.yml": ("image", "../../image"),
    "ci/github.yml": ("github", ""),
    "ci/gitlab.yml": ("gitlab", ""),
}
"""The written files, with their name in the folder `example` and their schema."""


def write_example(folder: Path, archs: Sequence[str]) -> list[Path]:
    """Write an example project to a new folder; return the files.

    Raises InputError if the folder exists and is not empty, cannot be written, or its name cannot be a spec's.
    """
    name = folder.resolve().name
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be the name of a spec", "Use letters, digits, - and _, at most 40.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists, and is not an empty folder", "Name a new folder.")
    values = {"name": name, "folder": _shown(folder), "archs": ", ".join(archs), "list": ",".join(archs)}
    texts = {target.format(name=name): _filled(source, schema, values) for target, (source, schema) in FILES.items()}
    texts |= {f"{kind}.schema.json": json.dumps(json_schema(kind), indent=1) + "\n" for kind in SCHEMAS}
    try:
        for file, text in texts.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / file, text.encode(), durable=False)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}", "Name a folder that can be.") from error
    return [folder / file for file in texts]


def _shown(folder: Path) -> str:
    """Return the folder as CI files name it, relative to the checkout."""
    path = os.path.relpath(folder)
    return "" if path.startswith("..") or path == "." else f"{path}/"


def _filled(source: str, schema: str, values: Mapping[str, str]) -> str:
    return packaged(f"scaffold/example/{source}.yml", **values, modeline=MODELINE.format(kind=schema))

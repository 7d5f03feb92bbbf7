"""Defaults of options: the table `[tool.bootmatrix]` of pyproject.toml."""

import argparse
import os
import re
import stat
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError

FILE, TABLE = "pyproject.toml", "bootmatrix"
NAMES, FOLDERS, NOTIFY = ("arch", "kernel"), ("cache", "reports"), "notify"
ADDRESS = "BOOTMATRIX_NOTIFY_"
"""Begins the names of variables that a project may name.

Others hold what anybody wrote: in CI a commit's message, for one.
"""
KEYS = frozenset({*NAMES, *FOLDERS, NOTIFY})
EXAMPLES = {"arch": "all", "kernel": "6.1", NOTIFY: f"{ADDRESS}TEAM"}
MATRIX_SUFFIXES = (".matrix.yml", ".matrix.yaml")
VARIABLES = {"cache": "BOOTMATRIX_CACHE", "reports": "BOOTMATRIX_REPORTS"}
"""Environment variables that prevail."""


def apply_defaults(args: argparse.Namespace) -> None:
    """Set options that were not given; a matrix's own axes prevail.

    Raises InputError if the table is invalid.
    """
    path, table = find_table(Path.cwd())
    if not table:
        return
    values = vars(args)
    has_matrix = values.get("resume") or any(str(name).endswith(MATRIX_SUFFIXES) for name in values.get("files") or ())
    for key in NAMES:
        if key in table and values.get(key) == () and not has_matrix:
            values[key] = _names(path, key, table[key])
            values[f"{key}_is_default"] = True
            values[f"{key}_is_from"] = path
    if NOTIFY in table and NOTIFY in values:
        values["notify_variables"] = _variables(path, table[NOTIFY])
    for key in FOLDERS:
        if key in table and key in values and values[key] is None and not os.environ.get(VARIABLES[key]):
            values[key] = _folder(path, key, table[key])


def with_origin(error: InputError, args: argparse.Namespace) -> InputError:
    """Return the error with the file that named what it complains of, if a table did.

    `ARCH/MACHINE` may be told as `'MACHINE'`.
    """
    for key in NAMES:
        path = vars(args).get(f"{key}_is_from")
        if not path or type(error) is not InputError:
            continue
        words = {word for name in getattr(args, key) for word in (name, *re.split("[/@]", name))}
        if any(repr(word) in error.message for word in words):
            return InputError(f"{path}: {key!r} in [tool.{TABLE}]: {error.message}", error.hint)
    return error


def find_table(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Find the table in the folder or the nearest one above it; empty without one.

    A stranger's file in a folder above that everybody can write to, such as /tmp, is nobody's project.

    Raises InputError if the file or the table is invalid.
    """
    for parent in (folder, *folder.parents):
        path = parent / FILE
        if not path.is_file() or (parent != folder and _is_strangers(path)):
            continue
        try:
            text = path.read_text(encoding="utf-8")
            table = _table_of(text) if TABLE in text else None
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from error
        if table is not None:
            return path, _checked(path, table)
    return folder, {}


def _table_of(text: str) -> object:
    import tomllib  # takes 2 ms, and the text as much

    return tomllib.loads(text).get("tool", {}).get(TABLE)


def _is_strangers(path: Path) -> bool:
    is_open = bool(path.parent.stat().st_mode & stat.S_IWOTH)
    return is_open and path.stat().st_uid not in {os.geteuid(), 0}


def _checked(path: Path, table: object) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise InputError(f"{path}: [tool.{TABLE}] must be a table")
    unknown = sorted(set(table) - KEYS)
    if unknown:
        known = ", ".join((*NAMES, *FOLDERS, NOTIFY))
        raise InputError(f"{path}: unknown key {unknown[0]!r} in [tool.{TABLE}]. Known: {known}")
    return table


def _names(path: Path, key: str, value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            f'{path}: {key!r} in [tool.{TABLE}] must be a list of names, such as {key} = ["{EXAMPLES[key]}"]'
        )
    return tuple(names)


def _variables(path: Path, value: object) -> tuple[str, ...]:
    """Return the names of environment variables with addresses of services.

    The addresses themselves hold tokens, which are not for a repository; and a project that is somebody else's chooses
    no address that this host sends something to.
    """
    names = _names(path, NOTIFY, value)
    for name in names:
        if not re.fullmatch(rf"{ADDRESS}\w+", name, re.ASCII):
            hint = f'Put the address into such a variable, and name it: {NOTIFY} = ["{ADDRESS}TEAM"].'
            raise InputError(
                f"{path}: {NOTIFY!r} in [tool.{TABLE}] must be names of environment variables, {ADDRESS}…",
                hint,
            )
    return names


def _folder(path: Path, key: str, value: object) -> Path:
    """Return a folder that the table names.

    The project may be somebody else's. It cannot bring a cache, whose content is trusted, and its reports stay in it.
    """
    if not isinstance(value, str) or not value:
        raise InputError(f"{path}: {key!r} in [tool.{TABLE}] must be a folder")
    root = path.parent.resolve()
    folder = path.parent / Path(value).expanduser()
    is_inside = folder.resolve().is_relative_to(root)
    if key == "reports" and not is_inside:
        raise InputError(f"{path}: 'reports' in [tool.{TABLE}] must be in {root}", _OUTSIDE)
    tree = next((parent for parent in (root, *root.parents) if (parent / ".git").exists()), root)
    if key == "cache" and (not Path(value).expanduser().is_absolute() or folder.resolve().is_relative_to(tree)):
        hint = f"Its content is trusted, and a project could bring it. {_OUTSIDE}"
        raise InputError(f"{path}: 'cache' in [tool.{TABLE}] must be an absolute path outside of the project", hint)
    if key == "cache" and folder.is_dir() and any(folder.iterdir()):
        from bootmatrix.store import is_cache  # slow import, and few projects name a cache

        if not is_cache(folder):
            hint = f"A cache is tidied, and a project could name any folder of yours. {_OUTSIDE}"
            raise InputError(f"{path}: 'cache' in [tool.{TABLE}]: {folder} has files, and is not a cache", hint)
    return folder


_OUTSIDE = "Options (--cache, --reports) and environment variables can name any folder."

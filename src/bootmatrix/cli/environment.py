"""Checks of the environment before a command runs: variables, folders."""

import argparse
import os
from importlib import import_module
from pathlib import Path

from bootmatrix.errors import InputError

READERS = {
    "BOOTMATRIX_ARCH": "load.data_paths:arch_folders",
    "BOOTMATRIX_CATALOGUES": "load.data_paths:catalogue_folders",
    "BOOTMATRIX_CACHE_MAX": "store.trim:limit_bytes",
    "BOOTMATRIX_DOWNLOAD_MIN_RATE": "source.pace:pace_limits",
    "BOOTMATRIX_DOWNLOAD_MAX_TIME": "source.pace:pace_limits",
    "BOOTMATRIX_MAX_AGE_H": "source.settings:max_age_s",
    "BOOTMATRIX_SNAPSHOTS_MIB": "snapshot.cache:limit_bytes",
}
"""Functions that read variables; imported only if one is set."""
FOLDERS = {"cache": "BOOTMATRIX_CACHE", "reports": "BOOTMATRIX_REPORTS"}
"""Options of folders, and their variables."""


def check_environment(args: argparse.Namespace) -> None:
    """Check the variables and folders of a command. Raises InputError."""
    try:
        Path.cwd().stat()
    except OSError as error:
        raise InputError(f"cannot use the current folder: {error.strerror}", "Change to another: cd ~") from error
    for variable, reader in READERS.items():
        if os.environ.get(variable):
            module, _, name = reader.partition(":")
            getattr(import_module(f"bootmatrix.{module}"), name)()
    for option, variable in FOLDERS.items():
        chosen = vars(args).get(option)
        path = chosen or os.environ.get(variable)
        if path and Path(path).exists() and not Path(path).is_dir():
            raise InputError(f"{f'--{option} ' if chosen else f'{variable}='}{path}: expected a folder")

"""`bootmatrix exec` and `shell`: a command in a guest, as if it ran here."""

import argparse
import os
import re
import sys
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from socket import socket
from typing import Any

from bootmatrix.cli.guests import find_one
from bootmatrix.cli.output import complain
from bootmatrix.errors import BootmatrixError, InputError
from bootmatrix.workspace import kept_client

OUR_STATUS = 125
"""Exit status for errors of bootmatrix and of the guest itself, as `docker run` has it."""
USER = re.compile(r"(\d{1,9})(?::(\d{1,9}))?", re.ASCII)


def run(args: argparse.Namespace) -> int:
    """Run a command and return its exit status."""
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words:
        raise InputError("expected a command", "Name it after '--': bootmatrix exec --arch A -- uname -m")
    return run_words(args, words)


def run_words(args: argparse.Namespace, words: list[str]) -> int:
    """Run these words; our errors have a status that no command has by itself.

    Raises InputError if the options are invalid.
    """
    if bool(args.arch) == bool(args.guest):
        raise InputError("expected either --arch or --guest", "--arch starts a guest; --guest names one that is kept.")
    if args.at and not args.guest:
        raise InputError("--at needs --guest")
    job = _job(args, words)
    try:
        return _run(args, job)
    except BootmatrixError as error:
        complain(f"bootmatrix: {error}")
        return OUR_STATUS


def _run(args: argparse.Namespace, job: dict[str, Any]) -> int:
    if args.guest:
        guest = find_one(args.guest)
        if kept_client.is_held(guest):  # it stays as it is at its failure
            job |= {"tree": False, "cwd": args.cwd or "/"}
        return _run_in(kept_client.connect_to(guest), job)
    settings = _settings(args)
    own = {"kernel_files": kernel_files(args.kernel)}
    folder = kept_client.guests_folder() / kept_client.key_of({**settings, **own})
    end = kept_client.connect(folder)
    if end is None and args.keep_alive:
        _check_files(job)
        end = kept_client.connect(_start(args, folder.name, settings))
    return _run_in(end, job) if end else _run_here(args, settings, job, folder.name)


def _run_here(args: argparse.Namespace, settings: Mapping[str, Any], job: dict[str, Any], key: str) -> int:
    """Run in a guest of its own, whose files are read while the rest is imported."""
    from bootmatrix.store import default_cache
    from bootmatrix.workspace import warm_start

    warm_key = warm_start.key_of(key)
    warm = warm_start.find(Path(args.cache or default_cache()), warm_key)
    from bootmatrix.cli.exec_here import OwnGuest, run_here

    _check_files(job)
    if job.get("rows"):  # somebody waits and watches
        complain("bootmatrix: starting a guest")
    return run_here(OwnGuest(args, settings, warm_key, warm, _raw_terminal), job)


def _check_files(job: Mapping[str, Any]) -> None:
    """Refuse files that cannot be copied before a guest is started for them."""
    from bootmatrix.workspace.exec_job import ExecJob, check_files

    check_files(ExecJob.from_json(job))


def _run_in(end: socket, job: Mapping[str, Any]) -> int:
    with end, ExitStack() as terminal:
        return kept_client.run_in(end, job, _say, on_start=lambda: terminal.enter_context(_raw_terminal(job)))


def _start(args: argparse.Namespace, name: str, settings: Mapping[str, Any]) -> Any:
    from bootmatrix.model.durations import duration_s
    from bootmatrix.workspace import kept_server

    keep_s = duration_s(args.keep_alive, "--keep-alive")
    complain("bootmatrix: starting a guest to be kept")
    return kept_server.start(kept_server.KeptSettings(name, keep_s=keep_s, **settings), _say)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that make one guest differ from another, as JSON values."""
    workspace = {"cache": _absolute(args.cache), "archive": args.archive, "offline": args.offline}
    selection = {name: getattr(args, name) for name in ("memory", "cpus", "disk", "append", "network")}
    return {
        "name": args.root_image,
        "arch": args.arch,
        "kernel": args.kernel,
        "workspace": {name: value for name, value in workspace.items() if value},
        "selection": {name: value for name, value in selection.items() if value},
    }


def kernel_files(kernel: str) -> list[str]:
    """Return stamps of a custom kernel's files.

    A kept guest may have those of an earlier build.
    """
    file = Path(os.environ.get("BOOTMATRIX_KERNELS") or "kernels.yml")
    try:
        is_named = kernel in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    if not is_named:
        return []
    from bootmatrix.load.kernels import files_of_kernel  # not light

    return sorted(kept_client.stamp(str(path)) for path in files_of_kernel(file, kernel))


def _absolute(path: Any) -> str | None:
    return os.path.abspath(path) if path else None  # noqa: PTH100


def _job(args: argparse.Namespace, words: list[str]) -> dict[str, Any]:
    """Return the job as JSON values: the fields of ExecJob."""
    user = USER.fullmatch(args.user)
    if user is None:
        raise InputError(f"--user {args.user!r} must be UID or UID:GID")
    folder, has_tree = os.getcwd(), args.tree  # noqa: PTH109
    if args.get:
        _check_places(args.get)
    env = dict(pair for text in args.env for pair in _variables(text))
    job: dict[str, Any] = {
        "words": words,
        "folder": folder,
        "alias": _alias(folder),
        "cwd": args.cwd or (folder if has_tree else "/"),
        "tree": has_tree,
        "get": args.get,
        "record": _absolute(args.record) or "",
        "uid": int(user[1]),
        "gid": int(user[2] or user[1]),
        "privileged": args.privileged,
        "at": args.at,
        "keep": args.keep_alive or "",
    }
    if os.isatty(0) and os.isatty(1):
        size = os.get_terminal_size(0)
        env = {"TERM": os.environ.get("TERM", "linux"), **env}
        job |= {"rows": size.lines or 24, "columns": size.columns or 80}
    return {**job, "env": env}


def _alias(folder: str) -> str:
    """Return the shell's path of the current folder if it has links, or empty."""
    path = os.path.normpath(os.environ.get("PWD", ""))
    with suppress(OSError):
        if path.startswith("/") and path != folder and os.path.samefile(path, folder):  # noqa: PTH121
            return path
    return ""


def _check_places(paths: Sequence[str]) -> None:
    """Refuse to write a guest's files through a link out of the project.

    Raises InputError for such a link.
    """
    from bootmatrix.load.data_paths import within_project  # not light
    from bootmatrix.workspace.exec_job import place_of

    for place in map(place_of, paths):
        within_project(place)
        within_project(place / place.name)  # if the former is a folder


def _variables(text: str) -> Iterator[tuple[str, str]]:
    """Yield what --env sets: `NAME=VALUE`, or what is set here: `CARGO_*`.

    Raises InputError if it is neither.
    """
    name, equals, value = text.partition("=")
    if not name:
        raise InputError(f"--env {text!r} must be NAME=VALUE, or NAME for its value here")
    if equals:
        yield name, value
        return
    yield from ((known, os.environ[known]) for known in sorted(os.environ) if fnmatchcase(known, name))


@contextmanager
def _raw_terminal(job: Mapping[str, Any]) -> Iterator[None]:
    """Pass typed input on unchanged, if the command has a terminal."""
    if not job.get("rows"):
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _say(text: str) -> None:
    sys.stdout.flush()
    complain(f"bootmatrix: {text}")


SHELL = ["/bin/sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi"]


def run_shell(args: argparse.Namespace) -> int:
    """Open a shell, and return its exit status."""
    return run_words(args, SHELL)

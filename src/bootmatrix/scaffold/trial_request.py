"""The request of `bootmatrix try`, and its checks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.packaged import packaged_table
from bootmatrix.scaffold.thing import Thing

DEFAULT_IMAGE, PREPARED_IMAGE = "debian-small", "debian"
"""The roots of trials: the second one has the packages' database, so that scripts of packages can run."""


MAX_PORT = 65535

PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]+")

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class TrialRequest:
    """Everything that `bootmatrix try` takes. `keys` are further keys of the matrix.

    `arch` are targets; if `is_explicit`, the thing must be for each of them. Otherwise those that it is not for are
    skipped, or left out if no architecture was named (`is_open`) and the path has no placeholder. `reports` are left
    out of a folder's copy, and what .gitignore names, unless `no_ignore` is set.
    """

    thing: Thing
    words: tuple[str, ...] = ()
    arch: tuple[str, ...] = ()
    is_explicit: bool = False
    is_open: bool = False
    kernel: tuple[str, ...] = ()
    image: str = DEFAULT_IMAGE
    packages: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    service: str = ""
    systemd: bool = False
    stays: str = ""
    port: int | None = None
    path: str = ""
    timeout: str = ""
    outbound: bool = False
    no_ignore: bool = False
    reports: Path | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_service(self) -> bool:
        """True if a program is to stay, and not to end."""
        asks = bool(self.stays or self.port or self.path or self.service)
        return asks or (self.thing.kind == "image" and not self.words)


def with_packages(request: TrialRequest) -> tuple[TrialRequest, tuple[str, ...]]:
    """Add the packages of a known command to a request without any; return them too."""
    is_bare = request.thing.kind in {"folder", "none"} and request.image == DEFAULT_IMAGE
    if not is_bare or request.packages or request.prepare or not request.words:
        return request, ()
    packages = tuple(packaged_table("scaffold/commands.toml").get(request.words[0], ()))
    return replace(request, packages=packages), packages


def check_request(request: TrialRequest) -> None:
    """Check that a request fits together. Raises InputError if it does not."""
    kind = request.thing.kind
    if kind in {"folder", "none"} and not (request.words or request.is_service):
        example = "make check" if kind == "folder" else "uname -m"
        raise InputError("there is nothing to run: a command is missing", f"Give it after '--': -- {example}")
    if kind in {"folder", "none"} and not request.words:
        raise InputError("--stays, --port and --http need a command that stays", "Give it after '--'.")
    if kind == "packages" and not (request.words or request.service):
        raise InputError("there is nothing to run: packages need a command or --service", "Such as: -- tool --version")
    if request.service and kind != "packages":
        raise InputError("--service is for packages, whose unit it names")
    if request.service and request.words:
        raise InputError(
            "--service starts what its unit says, and runs no other command",
            "Give either. To look at the running service: --port or --http.",
        )
    if request.no_ignore and kind != "folder":
        raise InputError("--no-ignore is for a folder")
    if kind == "image":
        _check_image(request)
    if request.systemd and not request.service:
        raise InputError("--systemd needs --service: the unit that must be active")
    if request.systemd and request.results:
        raise InputError(
            "--get cannot be combined with --systemd: a system that systemd runs is turned off with its files",
            "The journal is in the report. Without --systemd, the program of the unit is started alone.",
        )
    _check_words(request)


def _check_image(request: TrialRequest) -> None:
    for option, value in (("--packages", request.packages), ("--run", request.prepare)):
        if value:
            raise InputError(f"{option} cannot be combined with an image", "Use --image debian, or change the image.")


def _check_words(request: TrialRequest) -> None:
    for name in request.packages:
        if not PACKAGE_NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot be the name of a package")
    for text in request.env:
        if not VARIABLE.fullmatch(text.partition("=")[0]) or "=" not in text:
            raise InputError(f"--env {text!r} must be NAME=VALUE")
    if request.port is not None and not 1 <= request.port <= MAX_PORT:
        raise InputError(f"--port {request.port}: must be a number from 1 to {MAX_PORT}")
    if request.path and not re.fullmatch(r"/[!-~]*", request.path):
        raise InputError(f"--http {request.path!r} must be a path such as /ping")
    for path in request.results:
        if path.startswith("/") and path.split() != [path]:
            pattern = re.sub(r"\s", "?", path)
            raise InputError(f"--get {path!r} cannot have spaces", f"Name it by a pattern: '{pattern}'.")
        if not re.fullmatch(r"/.*[^/].*", path) or ".." in path.split("/"):
            raise InputError(f"--get {path!r} must be the absolute path of a file or folder in the guest")

"""A command that is given again while nothing has changed: answered before anything heavy is imported.

While a command works, Python's audit events (PEP 578) tell every file that it opens, every folder that it lists and
every program that it starts, so that no part of it can forget to declare one. What is kept is how these looked when
they were first met. Whatever asked a network has no such answer: what is behind it may change unseen.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bootmatrix.store import Store

FORMAT = 1
"""Changes whenever what is kept does."""
KIND = "again"
SETTLED_NS = 50_000_000
"""A file changed so shortly before it was read may change once more within the same tick of the file system's clock."""
OPENED, LISTED, STARTED = "open", {"os.listdir", "os.scandir"}, "subprocess.Popen"
ASKED = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}
STATE = ("memo/suite", "memo/tag", "memo/newest-release")
"""What the cache knows of the world outside. All else in it hangs on what it was made from."""
ENVIRONMENT = ("BOOTMATRIX_", "XDG_", "DOCKER_", "APT_")
NAMED = {"HOME", "PATH"}
CODE = (".py", ".pyc", ".so")
Stamp = list[int] | None
"""Number, mode, size and times of a file; None where there is none."""

_watching: list[Watch] = []
_hooks: list[object] = []


class Watch:
    """One command, by its words: what is kept of it, and what it reads while it is entered.

    `until_s` is the time, in seconds since 1970, from which on the answer may be another although no file changed.
    """

    def __init__(self, store: Store, words: Mapping[str, object]) -> None:
        self._store, self._key = store, _key(words)
        self._stamps: dict[str, Stamp] = {}
        self._is_whole = True
        self._began = time.time()
        self.until_s = float("inf")

    def answer(self) -> list[str] | None:
        """What the command printed when it was last given, if all that it came from is as it was then."""
        kept = self._store.memo(KIND, self._key)
        if kept is None:
            return None
        known = json.loads(kept)
        if not known["since_s"] <= self._began < known["until_s"]:
            return None
        if any(_stamp(path) != stamp for path, stamp in known["stamps"].items()):
            return None
        lines: list[str] = known["lines"]
        return lines

    def __enter__(self) -> Watch:
        if not _hooks:  # a hook stays until the process ends
            sys.addaudithook(_hook)
            _hooks.append(_hook)
        _watching.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _watching.remove(self)

    @property
    def paths(self) -> list[str]:
        """What was met so far."""
        return list(self._stamps)

    def see(self, *paths: str | os.PathLike[str]) -> None:
        """Note paths of which it matters that they are there, or are not, without their being opened."""
        for path in map(_absolute, paths):
            self._meet(path)

    def keep(self, lines: Sequence[str], written: Iterable[str | os.PathLike[str]]) -> None:
        """Keep what the command prints, unless something that it read has changed meanwhile, or cannot be seen to."""
        self._is_whole &= all(_stamp(path) == stamp for path, stamp in self._stamps.items())
        code = _code()
        newest_s = max(stamp[3] for stamp in code.values() if stamp) / 1e9
        if not self._is_whole or newest_s > self._began:
            return
        outputs = {path: _stamp(path) for path in map(_absolute, written)}
        stamps = {**self._stamps, **code, **outputs}
        value = {"since_s": self._began, "until_s": self.until_s, "stamps": stamps, "lines": list(lines)}
        self._store.set_memo(KIND, self._key, json.dumps(value).encode())

    def met(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event."""
        if event in ASKED:
            # Of programs on this host a socket's path is told, and what they answer may change as well.
            self._is_whole = False
        elif event == STARTED:
            program = os.fsdecode(arguments[0])
            self._meet(shutil.which(program) or _absolute(program))
        elif isinstance(arguments[0], str | bytes | os.PathLike):
            path = _absolute(os.fsdecode(arguments[0]))
            if not path.endswith(CODE) and not self._is_ours(path):
                self._meet(path)

    def _is_ours(self, path: str) -> bool:
        """Whether it is a file of the cache that says nothing of the world outside; or the kernel's, or a device."""
        folder = f"{self._store.folder}/"
        if path.startswith(folder):
            return not path[len(folder) :].startswith(STATE)
        return path.startswith(("/proc/", "/sys/", "/dev/"))

    def _meet(self, path: str) -> None:
        if path not in self._stamps:
            stamp = self._stamps[path] = _stamp(path)
            self._is_whole &= stamp is None or time.time_ns() - stamp[3] > SETTLED_NS


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == OPENED:
        is_read = not isinstance(arguments[2], int) or not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        for watch in _watching if is_read else ():
            watch.met(event, arguments)
    elif event in LISTED or event in ASKED or event == STARTED:
        for watch in _watching:
            watch.met(event, arguments)


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path)  # noqa: PTH100  (links stay: where they lead may change)


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)  # noqa: PTH116  (a thousand times, in a tenth of the time)
    except (OSError, ValueError):
        return None
    return [found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _code() -> dict[str, Stamp]:
    """The files of all modules that are loaded, but for Python's own, whose version is in the key."""
    files = (
        getattr(module, "__file__", None)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in sys.stdlib_module_names
    )
    return {file: _stamp(file) for file in files if file}


def _key(words: Mapping[str, object]) -> str:
    """The command, where it is given, and all of the environment that it may heed."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT) or name in NAMED}
    known = {name: str(value) for name, value in words.items()}
    return json.dumps([FORMAT, sys.version, str(Path.cwd()), known, environment], sort_keys=True)

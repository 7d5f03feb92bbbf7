"""Guests kept for the next command, and how it reaches them.

Light: only the standard library is imported, since a command in a kept guest takes less than a tenth of a second.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from bootmatrix import __version__
from bootmatrix.errors import AgentError, HostError

SOCKET, NEW_SOCKET, INFO = "socket", "socket.new", "guest.json"
LENGTH = struct.Struct(">I")
MAX_MESSAGE_BYTES = 4 << 20
STOP_S = 15.0
NEARBY = ("arch", "kernels", "kernels.yml", "registries.yml")
"""Files and folders of the current folder that decide kernels, machines and images."""
VARIABLES = tuple(
    f"BOOTMATRIX_{name}" for name in ("ARCH", "ARCHIVE", "CACHE", "CATALOGUES", "KERNELS", "KEYRING", "REGISTRIES")
)
"""Those that decide the same."""
FILES = tuple(f"BOOTMATRIX_{name}" for name in ("ARCH", "CATALOGUES", "KERNELS", "KEYRING", "REGISTRIES"))
"""Of them, those that name files and folders."""
HELD = "failed"
"""Key in the selection of a guest that has failed and is held; its value is the container."""


class KeptGuest(NamedTuple):
    """A kept guest: its folder and description."""

    folder: Path
    info: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its name for the user."""
        return self.folder.name


def is_held(guest: KeptGuest) -> bool:
    """Return whether a kept guest is one that has failed."""
    return HELD in guest.info["selection"]


def key_of(settings: Mapping[str, Any]) -> str:
    """Return the id of a guest with these settings, of this version of bootmatrix.

    The same words may mean another guest in another folder, which may be somebody else's, and after a change of the
    files that they name.
    """
    own = {"version": __version__, "package": str(Path(__file__).parent), **_surroundings(str(settings["name"]))}
    text = json.dumps({**settings, **own}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _surroundings(name: str) -> dict[str, Any]:
    """Return what else decides a guest: variables, the folder of its files."""
    files = (*NEARBY, name, name.partition(":")[2], *name.split("+"))
    there = [file for file in dict.fromkeys(files) if file and os.path.exists(file)]  # noqa: PTH110
    variables = {name: os.environ.get(name, "") for name in VARIABLES}
    named = (path for name in FILES for path in variables[name].split(os.pathsep) if path)
    deciding = (file for file in there if file in NEARBY or "/" in file or os.path.isfile(file))  # noqa: PTH113
    found = sorted(line for top in (*deciding, *named) for line in stamps(top, is_deep=False))
    return {"folder": os.getcwd() if there else "", "files": found, "variables": variables}  # noqa: PTH109


def stamps(path: str, *, is_deep: bool = True) -> Iterator[str]:
    """Yield a line for each file of a folder, or for a file.

    Another content changes it. The current folder may be anybody's: links in it lead to files, and into no further
    folder.
    """
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if is_deep and entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        yield from stamps(entry.path)
                else:
                    yield stamp(entry.path)
    except OSError:
        yield stamp(path)


def stamp(path: str) -> str:
    """Return a line for a file, or for its absence."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return f"{path}\n"
    return f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}\n"


def guests_folder() -> Path:
    """Return the folder of kept guests, which nobody else can enter.

    Raises HostError if it belongs to somebody else.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    is_ours = bool(runtime) and Path(runtime).is_dir() and Path(runtime).stat().st_uid == os.getuid()  # not after `su`
    parent = Path(runtime) if is_ours else Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108
    folder = parent / (f"bootmatrix-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise HostError(f"{folder}: not a private folder of this user", "Remove it, or set XDG_RUNTIME_DIR.")
    return folder


def is_alive(folder: Path) -> bool:
    """Return whether the process of a kept guest lives: it locks its folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def kept_guests() -> Iterator[KeptGuest]:
    """Yield all kept guests of this user; leftovers of killed processes are removed."""
    for folder in sorted(guests_folder().iterdir()):
        if not is_alive(folder):
            _remove(folder)
            continue
        with suppress(OSError, ValueError):
            yield KeptGuest(folder, json.loads((folder / INFO).read_bytes()))


def _remove(folder: Path) -> None:
    from bootmatrix.store.locks import remove_abandoned  # not light

    remove_abandoned(folder)


@contextmanager
def socket_folder(folder: Path) -> Iterator[str]:
    """Yield a folder's short path, for Unix sockets (unix(7): 107 bytes).

    Raises OSError if the folder is not there.
    """
    number = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def connect(folder: Path) -> socket.socket | None:
    """Connect to a kept guest, or None; remove a killed one's rest."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_folder(folder) as place:
            end.connect(f"{place}/{SOCKET}")
    except OSError:
        end.close()
        if folder.exists():
            _remove(folder)
        return None
    return end


def connect_to(guest: KeptGuest) -> socket.socket:
    """Connect to a kept guest that is there. Raises AgentError if it has ended."""
    end = connect(guest.folder)
    if end is None:
        raise AgentError(f"the kept guest {guest.id} has ended")
    return end


def send_message(end: socket.socket, message: Mapping[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """Send a message, with open files."""
    data = json.dumps(message).encode("utf-8", "surrogateescape")
    socket.send_fds(end, [LENGTH.pack(len(data))], list(descriptors))
    end.sendall(data)


def receive_message(end: socket.socket) -> dict[str, Any] | None:
    """Receive a message; None at the end."""
    head = _receive(end, LENGTH.size)
    size = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 0
    data = _receive(end, size) if 0 < size <= MAX_MESSAGE_BYTES else b""
    return dict(json.loads(data)) if data else None


def _receive(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = end.recv(size - len(data))
        if not part:
            return b""
        data += part
    return bytes(data)


def run_in(
    end: socket.socket,
    job: Mapping[str, Any],
    say: Callable[[str], None],
    fault_status: int | None = None,
    on_start: Callable[[], object] = lambda: None,
) -> int:
    """Run a job in a kept guest on our streams; return its exit status.

    `fault_status` replaces the status of a fault that is not the command's. `on_start` is called when the job's files
    are there; a signal before that interrupts this process.

    Raises AgentError if the guest has ended.
    """
    with _PassedOn(end) as passed_on:
        send_message(end, {"job": job}, (0, 1, 2))
        while message := receive_message(end):
            for text in message.get("messages", ()):
                say(text)
            if "started" in message:
                passed_on.has_started = True
                on_start()
            if "status" in message:
                return int(message["status"] if fault_status is None or not message.get("fault") else fault_status)
    raise AgentError("the kept guest has ended")


def follow(guest: KeptGuest, message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Send a request, and yield the answers until the guest closes the connection."""
    with connect_to(guest) as end:
        send_message(end, message)
        while answer := receive_message(end):
            yield answer


def request(guest: KeptGuest, message: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request; return its answer. Raises AgentError at the end."""
    for answer in follow(guest, message):
        return answer
    raise AgentError(f"the kept guest {guest.id} has ended")


class _PassedOn:
    """Pass signals and sizes on; the second Ctrl-C interrupts us."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self, end: socket.socket) -> None:
        self.has_started = False
        self._end, self._interrupts = end, 0

    def __enter__(self) -> _PassedOn:
        self._before = {number: signal.signal(number, self._pass_signal) for number in self.SIGNALS}
        self._before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._pass_size)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _pass_signal(self, number: int, _frame: object) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1 or not self.has_started:
            raise KeyboardInterrupt
        with suppress(OSError):
            send_message(self._end, {"signal": number})

    def _pass_size(self, _number: int, _frame: object) -> None:
        with suppress(OSError):
            size = os.get_terminal_size(0)
            send_message(self._end, {"rows": size.lines, "columns": size.columns})


def stop(guest: KeptGuest) -> None:
    """Stop a kept guest, and wait for its end. Raises HostError if it does not end."""
    end = connect(guest.folder)
    if end is None:
        return
    with end:
        end.settimeout(STOP_S)
        try:
            send_message(end, {"stop": True})
            while receive_message(end):
                pass
        except OSError:
            pass  # it is ending
    until_s = time.monotonic() + STOP_S
    while is_alive(guest.folder):
        if time.monotonic() > until_s:
            raise HostError(f"the kept guest {guest.id} does not end")
        time.sleep(0.02)

"""The line protocol of autopkgtest: README.virtualisation-server there."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import quote, unquote

from bootmatrix.errors import BuildError, InputError

MAX_LINE_BYTES = 1 << 20
Reply = Sequence[str]


class ProtocolTestbed(Protocol):
    """The testbed that a server serves."""

    @property
    def is_open(self) -> bool: ...

    @property
    def capabilities(self) -> tuple[str, ...]: ...

    def open(self) -> str: ...

    def close(self) -> None: ...

    def command(self) -> list[str]: ...

    def copy(self, direction: str, here: str, there: str) -> None: ...


class ProtocolServer:
    """Answers the commands of one caller, one after the other, on unbuffered streams.

    `shell` runs a shell in the open testbed, in a folder and with variables.
    """

    def __init__(self, testbed: ProtocolTestbed, shell: Callable[[Sequence[str]], None]) -> None:
        self._testbed, self._shell = testbed, shell
        self._commands: dict[str, tuple[Callable[[Sequence[str]], Reply], int, int]] = {
            "capabilities": (lambda _: self._testbed.capabilities, 0, 0),
            "open": (self._open, 0, 0),
            "close": (self._close, 0, 0),
            "revert": (self._revert, 0, 0),
            "print-execute-command": (self._print_command, 0, 0),
            "copydown": (lambda words: self._copy("put", words[0], words[1]), 2, 2),
            "copyup": (lambda words: self._copy("get", words[1], words[0]), 2, 2),
            "shell": (self._run_shell, 1, 1000),
            "auxverb_debug_fail": (lambda _: (), 0, 0),
        }

    def serve(self, requests: BinaryIO, replies: BinaryIO) -> None:
        """Serve until `quit`. The testbed is closed in the end, whatever happens.

        Raises InputError for a command that breaks the protocol, or an end without `quit`; BootmatrixError if the
        testbed cannot do it.
        """
        try:
            _reply(replies, ())
            while (words := _words(requests)) != ["quit"]:
                _reply(replies, self._answer(words))
        finally:
            self._testbed.close()
        with suppress(BrokenPipeError):  # autopkgtest does not read the answer to `quit`
            _reply(replies, ())

    def _answer(self, words: Sequence[str]) -> Reply:
        name, *arguments = words
        if name not in self._commands:
            reason = "guests keep nothing over a reboot" if name == "reboot" else "see README.virtualisation-server"
            raise InputError(f"the command {name[:100]!r} is not supported: {reason}")
        work, least, most = self._commands[name]
        if not least <= len(arguments) <= most:
            raise InputError(f"{name}: got {len(arguments)} arguments, expected {least}")
        return work(arguments)

    def _open(self, _: Sequence[str]) -> Reply:
        if self._testbed.is_open:
            raise InputError("'open' although the testbed is open: close it first")
        return (quote(self._testbed.open()),)

    def _close(self, _: Sequence[str]) -> Reply:
        self._check_open("close")
        self._testbed.close()
        return ()

    def _revert(self, _: Sequence[str]) -> Reply:
        self._check_open("revert")
        self._testbed.close()
        return (quote(self._testbed.open()),)

    def _print_command(self, _: Sequence[str]) -> Reply:
        self._check_open("print-execute-command")
        return (",".join(quote(word) for word in self._testbed.command()),)

    def _copy(self, direction: str, here: str, there: str) -> Reply:
        self._check_open("copydown" if direction == "put" else "copyup")
        is_folder = here.endswith("/")
        if is_folder != there.endswith("/"):
            raise InputError(f"{here!r} and {there!r} must both end in '/', for folders, or neither, for files")
        if not there.startswith("/"):
            raise InputError(f"{there!r}: must be an absolute path of the guest")
        source = Path(here).absolute()
        kind = "folder" if is_folder else "file"
        if direction == "put" and not _is_kind(source, is_folder):
            raise InputError(f"{here}: not a {kind} of this host")
        # A slash behind a file's name is an error in the guest, too.
        self._testbed.copy(direction, str(source), there)
        if direction == "get" and not _is_kind(source, is_folder):
            raise BuildError(f"{there}: not a {kind} of the guest")
        return ()

    def _run_shell(self, words: Sequence[str]) -> Reply:
        self._check_open("shell")
        self._shell(words)
        return ()

    def _check_open(self, name: str) -> None:
        if not self._testbed.is_open:
            raise InputError(f"{name!r} although the testbed is not open")


def _is_kind(path: Path, is_folder: bool) -> bool:
    return path.is_dir() if is_folder else path.is_file()


def _words(requests: BinaryIO) -> list[str]:
    line = requests.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise InputError("the caller's input ended without 'quit'" if len(line) < MAX_LINE_BYTES else "a line of 1 MiB")
    words = [unquote(word, errors="surrogateescape") for word in line.decode("utf-8", "surrogateescape").split()]
    if not words:
        raise InputError("an empty command")
    if any("\0" in word for word in words):
        raise InputError("a NUL in a command")
    return words


def _reply(replies: BinaryIO, words: Reply) -> None:
    replies.write(" ".join(("ok", *words)).encode() + b"\n")

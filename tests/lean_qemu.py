"""A QEMU that emulates nothing, and starts fast: its guest is a list of steps. For thousands of ends; see ends.py.

It is started as `python -I -S` with as few imports as it can do with, which is what makes it fast.
"""

import _socket
import _thread
import hashlib
import itertools
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import
    from collections.abc import Callable, Iterator

VERSION = b'{"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}'
GREETING = b'{"QMP": {"version": ' + VERSION + b', "capabilities": []}}\r\n'
LIMIT_S = 600
"""It ends by then, whoever forgot it."""
fds: dict[str, int] = {}
started = _thread.allocate_lock()


def write(name: str, data: bytes) -> None:
    while data:
        data = data[os.write(fds[name], data) :]


def event(name: str, data: str) -> None:
    stamp = '{"seconds": 1, "microseconds": 0}'
    write("monitor", f'{{"event": "{name}", "data": {data}, "timestamp": {stamp}}}\r\n'.encode())


def serve(deaf: bool) -> None:
    """QEMU's side of QMP, as far as it is needed: every request is answered with nothing, and `quit` ends it all."""
    write("monitor", GREETING)
    for request in requests(lambda: os.read(fds["monitor"], 4096)):
        quits = is_command(request, b"quit")
        if quits and deaf:
            continue
        write("monitor", answer(request))
        if is_command(request, b"cont"):
            started.release()
        if quits:
            event("SHUTDOWN", '{"guest": false, "reason": "host-qmp-quit"}')
            os._exit(0)


def requests(receive: "Callable[[], bytes]") -> "Iterator[bytes]":
    """Requests of QMP, with whatever blanks between them, or none."""
    text = b""
    while data := receive():
        text += data
        while end := whole(text):
            request, text = text[:end], text[end:]
            yield request


def is_command(request: bytes, name: bytes) -> bool:
    return b'"' + name + b'"' in request


def answer(request: bytes) -> bytes:
    """A success that returns nothing."""
    _, named, number = request.partition(b'"id":')
    return b'{"return": {}' + (b', "id": "' + number.split(b'"')[1] + b'"' if named else b"") + b"}\r\n"


def whole(text: bytes) -> int:
    """Length of the first value, to its last brace; 0 if it is not whole."""
    depth = 0
    for place, byte in enumerate(text):
        depth += {123: 1, 125: -1}.get(byte, 0)
        if byte == 125 and depth == 0:
            return place + 1
    return 0


class Guest:
    """Runs steps, which are tuples of a method's name and its arguments."""

    def __init__(self) -> None:
        self.channel = "result" if "result" in fds else "console"
        self.line_end = b"\n" if self.channel == "result" else b"\r\n"
        self.nonce = ""
        self.number = 0
        self.digest = hashlib.sha256()
        self.held = b""

    def show(self, data: bytes, size: int) -> None:
        """On the console, in pieces."""
        for start in range(0, len(data), size):
            write("console", data[start : start + size])

    def file(self, path: str, size: int) -> None:
        with open(path, "rb") as file:  # noqa: PTH123  (pathlib is slow to import)
            self.show(file.read() + b"\r\n", size)

    def greet(self) -> None:
        write(self.channel, b"bootmatrix hello 1" + self.line_end)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += os.read(0 if self.channel == "console" else fds["result"], 100)
        self.nonce = answer.decode().strip()

    def line(self, text: str) -> bytes:
        self.number += 1
        mac = hashlib.sha256(f"{self.nonce} {self.number} {text}\n".encode()).hexdigest()[:16]
        line = f"bootmatrix {self.number} {mac} {text}".encode()
        self.digest.update(line + b"\n")
        return line

    def say(self, text: str) -> None:
        write(self.channel, self.line(text) + self.line_end)

    def twice(self, text: str) -> None:
        line = self.line(text) + self.line_end
        write(self.channel, line + line)

    def torn(self, text: str, at: float, by: bytes) -> None:
        """With a line of the kernel's in it."""
        line = self.line(text) + self.line_end
        place = int(at * len(line))
        write(self.channel, line[:place] + by + line[place:])

    def spoilt(self, text: str, at: float, removed: int, inserted: bytes) -> None:
        """With some bytes of it changed."""
        line = self.line(text)
        place = int(at * len(line))
        changed = line[:place] + inserted + line[place + removed :]
        if changed == line:
            changed = line[:-1]
        write(self.channel, changed + self.line_end)

    def hold(self, text: str) -> None:
        """It is overtaken by the next one."""
        self.held = self.line(text) + self.line_end

    def overtakes(self, text: str) -> None:
        self.say(text)
        write(self.channel, self.held)

    def forget(self, text: str) -> None:
        """It is lost on the way."""
        self.line(text)

    def forged(self, text: str) -> None:
        """By someone who does not know the secret."""
        nonce, self.nonce = self.nonce, "0" * 32
        self.say(text)
        self.nonce = nonce

    def end(self, verdict: str) -> None:
        self.say(f"end {verdict} {self.digest.hexdigest()}")

    def wrong_end(self) -> None:
        self.say(f"end pass {'0' * 64}")

    def leave(self, reason: str) -> None:
        event("SHUTDOWN", f'{{"guest": true, "reason": "{reason}"}}')
        event("STOP", "{}")

    def event(self, name: str, data: str) -> None:
        event(name, data)

    def monitor(self, data: bytes) -> None:
        write("monitor", data)

    def complain(self, text: str) -> None:
        os.write(2, text.encode() + b"\n")

    def hang_up(self) -> None:
        _socket.socket(fileno=fds["monitor"]).shutdown(2)

    def flood(self, name: str, data: bytes) -> None:
        while True:
            write(name, data)

    def noise(self) -> None:
        while True:
            write("console", b"still here\r\n")
            time.sleep(0.05)

    def exit(self, status: int) -> None:
        os._exit(status)

    def die(self, number: int) -> None:
        signal.signal(number, signal.SIG_DFL) if number not in (9, 19) else None
        os.kill(os.getpid(), number)

    def wait(self) -> None:
        time.sleep(LIMIT_S)
        os._exit(97)


def main() -> None:
    arguments = sys.argv[1:]
    for option, value in itertools.pairwise(arguments):
        if option == "-chardev":
            fields = dict(part.partition("=")[::2] for part in value.split(","))
            fds[fields["id"]] = int(fields.get("fd", 1))  # the console is standard input and output
    steps = eval(arguments[arguments.index("-fake") + 1])
    if steps[0][0] in ("exit", "complain", "die", "monitor"):
        at_once, steps = steps, ()
    else:
        at_once = ()
    guest = Guest()
    for name, *values in at_once:
        getattr(guest, name)(*values)
    started.acquire()
    _thread.start_new_thread(serve, (("deaf",) in steps,))
    if not started.acquire(timeout=LIMIT_S):
        os._exit(97)
    for name, *values in steps:
        if name != "deaf":
            getattr(guest, name)(*values)
    guest.wait()


if __name__ == "__main__":
    main()

"""A QEMU that emulates nothing: a real child process with a real monitor, whose guest is a script.

It is started as QEMU is, with `-fake SCENARIO` or `-prom-env fake=SCENARIO` among its arguments, for faults that a real
one will not show on demand.
Of `-fake ONE,OTHER` each start takes the next one, and all later ones the last.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from lean_qemu import GREETING, LIMIT_S, answer, is_command, requests

RELEASE = os.environ.get("FAKE_QEMU_RELEASE", "6.1.0-50-test")
MARK = "01234567-89ab-cdef-0123-456789abcdef"
"""Stands in the line up to which init read the kernel's log."""
KERNEL = f"kernel 0 7 7 {MARK} 0 0 0"
"""The account of a kernel without a fault."""
TEXTS = (
    f"ready {RELEASE}",
    "onboot prepare start",
    "onboot prepare exit 0",
    "onboot prepare start",
    "onboot prepare exit 0",
    "service server start",
    "services up",
    "check ping start",
    "check write start",
    "check write exit 0",
    "check ping exit 0",
    "shutdown",
    "onshutdown sweep start",
    "onshutdown sweep exit 0",
    KERNEL,
)
"""What init says of `guests.make_bootable()` when all is well, but for the last message."""


class Monitor:
    """QEMU's side of QMP, as far as it is needed."""

    def __init__(self, wire: socket.socket) -> None:
        self.started = threading.Event()
        self.deaf = False
        self.held_up: list[Callable[[], None]] = []
        self._wire = wire
        self._lock = threading.Lock()

    def say(self, message: dict[str, Any]) -> None:
        self._send(json.dumps(message).encode() + b"\r\n")

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._wire.sendall(data)

    def event(self, name: str, **data: Any) -> None:
        stamp = {"seconds": int(time.time()), "microseconds": 0}
        self.say({"event": name, "data": data, "timestamp": stamp})

    def serve(self) -> None:
        self._send(GREETING)
        for request in requests(lambda: self._wire.recv(4096)):
            if is_command(request, b"quit") and self.deaf:
                continue
            if self.held_up:
                self.held_up.pop(0)()
            self._send(answer(request))
            if is_command(request, b"cont"):
                self.started.set()
            if is_command(request, b"quit"):
                self.event("SHUTDOWN", guest=False, reason="host-qmp-quit")
                os._exit(0)


class Console:
    """Standard input and output, used as sockets are."""

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(1, left) :]

    def recv(self, most: int) -> bytes:
        return os.read(0, most)


class Guest:
    """The guest's side: a console, a result channel, and an init that knows the protocol."""

    def __init__(self, wires: dict[str, socket.socket], monitor: Monitor) -> None:
        self.monitor = monitor
        self.console = Console()
        self.result: socket.socket | Console = wires.get("result", self.console)
        self.nonce = ""
        self.sent: list[bytes] = []
        self.number = 0

    def show(self, text: str) -> None:
        self.console.sendall(text.encode())

    def write(self, data: bytes) -> None:
        """Onto the result channel; a console wants a carriage return."""
        self.result.sendall(data.replace(b"\n", b"\r\n") if self.result is self.console else data)

    def greet(self) -> None:
        self.write(b"bootmatrix hello 2\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self.result.recv(100)
        self.nonce = answer.decode().strip()

    def line(self, text: str) -> bytes:
        self.number += 1
        mac = hashlib.sha256(f"{self.nonce} {self.number} {text}\n".encode()).hexdigest()[:16]
        line = f"bootmatrix {self.number} {mac} {text}\n".encode()
        self.sent.append(line)
        return line

    def say(self, text: str) -> None:
        self.write(self.line(text))

    def say_all(self, end: str = "pass") -> None:
        self.greet()
        for text in TEXTS:
            self.say(text)
        if end:
            self.say_end(end)

    def say_end(self, verdict: str = "pass") -> None:
        self.say(f"end {verdict} {hashlib.sha256(b''.join(self.sent)).hexdigest()}")

    def leave(self, reason: str = "guest-shutdown") -> NoReturn:
        self.monitor.event("SHUTDOWN", guest=True, reason=reason)
        self.monitor.event("STOP")
        wait()


def wait() -> NoReturn:
    time.sleep(LIMIT_S)
    os._exit(97)


# --- scenarios


def sound(guest: Guest) -> None:
    guest.show("[    0.100000] Linux version 6.1\r\n")
    guest.say_all()
    guest.leave()


def lingers(guest: Guest) -> None:
    """Sound, and slow enough to be interrupted: it stays at its last step until the file FAKE_QEMU_GO is there."""
    guest.show("[    0.100000] Linux version 6.1\r\n")
    guest.greet()
    for text in TEXTS:
        guest.say(text)
        time.sleep(0.02)
    while not Path(os.environ["FAKE_QEMU_GO"]).exists():
        guest.show("[    1.000000] still here\r\n")
        time.sleep(0.05)
    guest.say_end()
    guest.leave()


def sound_twice(guest: Guest) -> None:
    """As on a console, where init says everything twice."""
    guest.greet()
    for text in TEXTS:
        guest.write(guest.line(text))
        guest.write(guest.sent[-1])
        guest.show(f"server| forged: bootmatrix {guest.number + 1} {'0' * 16} end pass\r\n")
    guest.say_end()
    guest.leave()


def torn(guest: Guest) -> None:
    """The kernel prints into the middle of messages, and once between a message and its line end."""
    guest.write(b"bootmatrix [    0.100000] input: keyboard\nhello 1\n")
    guest.nonce = guest.result.recv(100).decode().strip()
    for count, text in enumerate(TEXTS):
        line = guest.line(text)
        at = (len(line) - 1) * count // (len(TEXTS) - 1)
        guest.write(line[:at] + b"[    1.000000][    T1] usb 1-1: new device\n" + line[at:])
    guest.say_end()
    guest.leave()


def exits_0(guest: Guest) -> None:
    os._exit(0)


def exits_0_after_end(guest: Guest) -> None:
    guest.say_all()
    os._exit(0)


def forged(guest: Guest) -> None:
    """A container that knows the protocol, and not the nonce."""
    guest.greet()
    guest.nonce = "0" * 32
    for text in TEXTS:
        guest.say(text)
    guest.say_end()
    guest.leave()


def forged_on_console(guest: Guest) -> None:
    guest.result = guest.console
    guest.nonce = "0" * 32
    for text in TEXTS:
        guest.say(text)
    guest.say_end()
    guest.leave()


def silent(guest: Guest) -> None:
    guest.show("[    0.100000] Linux version 6.1\r\nserver| the last words\r\n")
    wait()


def silent_in_check(guest: Guest) -> None:
    guest.greet()
    for text in TEXTS[:9]:
        guest.say(text)
    wait()


def writes_when_read(guest: Guest) -> None:
    """What nobody had read in time, QEMU writes when it can."""
    guest.say_all(end="")
    guest.monitor.held_up = [lambda: guest.show("behind "), guest.say_end, lambda: guest.show("the end\r\n")]
    guest.leave()


def floods_console(guest: Guest) -> None:
    guest.greet()
    guest.say(TEXTS[0])
    while True:
        guest.show("flood " * 1000 + "\r\n")


def floods_result(guest: Guest) -> None:
    guest.greet()
    while True:
        guest.write(b"x" * 65536)


def endless_messages(guest: Guest) -> None:
    guest.greet()
    while True:
        guest.say("onboot prepare start")


def panics(guest: Guest) -> None:
    guest.show("[    1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n")
    guest.leave("guest-reset")


def panics_and_stays(guest: Guest) -> None:
    guest.show("[    1.000000] Kernel pan")
    time.sleep(0.1)
    guest.show("ic - not syncing: Attempted to kill init!\r\n")
    while True:
        guest.show("[    2.000000] still here\r\n")
        time.sleep(0.1)


def panics_by_event(guest: Guest) -> None:
    guest.monitor.event("GUEST_PANICKED", action="pause")
    wait()


def killed(guest: Guest) -> None:
    guest.say_all()
    os.kill(os.getpid(), signal.SIGKILL)


def stopped(guest: Guest) -> None:
    """Somebody stops QEMU, all of it."""
    guest.greet()
    guest.say(TEXTS[0])
    os.kill(os.getpid(), signal.SIGSTOP)
    wait()


def takes_memory(guest: Guest) -> None:
    """More than its machine has; where nothing keeps it from that, it ends all the same."""
    guest.greet()
    guest.say(TEXTS[0])
    taken = b"x" * (400 << 20)
    sys.exit(f"qemu-system-fake: took {len(taken)} bytes")


HOSTILE = (
    "</script></style></title></pre><script>document.title='owned';window.owned=1</script>"
    "<img src=x onerror=\"document.title='owned';window.owned=1\"><iframe src=javascript:window.owned=1></iframe>"
    '" onmouseover="window.owned=1" autofocus onfocus=\'window.owned=1\' <a href=javascript:window.owned=1>x</a>'
    "{{ 7*7 }} \x1b[31mred\x1b[2J\x1b]0;owned\x07\x1b]8;;javascript:window.owned=1\x07link\x9b31m\u202e | =1+1"
)
"""What a container says that is after whoever reads of it: a browser, a terminal, a spreadsheet."""


def packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data)).decode()


def hostile(guest: Guest) -> None:
    """Says this by every way that there is."""
    text = HOSTILE.encode()
    for line in (b"ping| " + text, b"\xff\xfe\xc0\x80 \0 \x9b2J", b"<h1>" * (1 << 18), b"ping| =cmd " + text):
        guest.console.sendall(line + b"\r\n")
    guest.greet()
    for said in TEXTS:
        if said == "check ping exit 0":
            guest.say(f"tap ping {packed(b'1..2' + chr(10).encode() + b'not ok 1 - ' + text + b' # TODO ' + text)}")
            path = base64.b64encode(b"/../../etc/" + text).decode()
            guest.say(f"file ping {path} {len(text)} {packed(text)}")
        guest.say(said.replace("ping exit 0", "ping exit 7"))
    guest.say(f"error {base64.b64encode(text).decode()}")
    guest.say_end("fail")
    guest.leave()


FLOOD_BYTES = 40 << 20
"""Five times what is kept of a console."""


def floods_its_console(guest: Guest) -> None:
    """Sound, but for what it prints, which is all one line."""
    guest.greet()
    for text in TEXTS:
        guest.say(text)
    block = b"flood " * 11000
    for _ in range(FLOOD_BYTES // len(block) + 1):
        guest.console.sendall(block)
    guest.say_end()
    guest.leave()


def told_to_stop(guest: Guest) -> None:
    guest.monitor.event("SHUTDOWN", guest=False, reason="host-signal")
    os._exit(0)


def disk_full(guest: Guest) -> None:
    guest.monitor.event("BLOCK_IO_ERROR", action="report", nospace=False, reason="Input/output error")
    guest.monitor.event("BLOCK_IO_ERROR", action="stop", nospace=True, reason="No space left on device")
    wait()


def fails_late(guest: Guest) -> None:
    sys.stderr.write("qemu-system-fake: it all went wrong\n")
    sys.stderr.flush()
    os._exit(1)


def garbage_later(guest: Guest) -> None:
    guest.monitor._wire.sendall(b"\x00garbage\n")
    wait()


def monitor_closes(guest: Guest) -> None:
    guest.monitor._wire.shutdown(socket.SHUT_RDWR)
    wait()


def no_end(guest: Guest) -> None:
    guest.say_all(end="")
    guest.leave()


def gap(guest: Guest) -> None:
    guest.greet()
    for number, text in enumerate(TEXTS):
        line = guest.line(text)
        if number != 5:
            guest.write(line)
    guest.say_end()
    guest.leave()


def changed(guest: Guest) -> None:
    """A status that somebody changed on the way."""
    guest.greet()
    for text in TEXTS:
        guest.write(guest.line(text.replace("write exit 0", "write exit 1")).replace(b"write exit 1", b"write exit 0"))
    guest.say_end()
    guest.leave()


def replayed(guest: Guest) -> None:
    guest.greet()
    for text in TEXTS:
        guest.say(text)
        guest.write(guest.sent[0])
    guest.say_end()
    guest.leave()


def wrong_digest(guest: Guest) -> None:
    guest.say_all(end="")
    guest.say(f"end pass {'0' * 64}")
    guest.leave()


def talks_after_end(guest: Guest) -> None:
    guest.say_all()
    guest.say("check ping exit 0")
    guest.leave()


def check_fails(guest: Guest) -> None:
    guest.show("ping| PING\r\nping| connection refused\r\n")
    guest.greet()
    for text in TEXTS:
        guest.say(text.replace("ping exit 0", "ping exit 7"))
    guest.say_end("fail")
    guest.leave()


def tap_fails(guest: Guest) -> None:
    guest.greet()
    for text in TEXTS:
        if text == "check ping exit 0":
            guest.say("tap ping " + base64.b64encode(gzip.compress(b"1..1\nnot ok 1 - pong\n")).decode())
        guest.say(text)
    guest.say_end()
    guest.leave()


def tests_skip(guest: Guest) -> None:
    guest.greet()
    for text in TEXTS:
        if text == "check ping exit 0":
            guest.say(f"tap ping {packed(b'1..0 # SKIP no such device')}")
        guest.say(text.replace("ping exit 0", "ping exit 4"))
    guest.say_end("fail")
    guest.leave()


def stubborn(guest: Guest) -> None:
    """Leaves and passes, but its QEMU will not quit."""
    guest.monitor.deaf = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    guest.say_all()
    guest.leave()


def echoes(guest: Guest) -> None:
    """Gives the nonce away, in two halves."""
    guest.greet()
    guest.show(f"first {guest.nonce} ")
    guest.show(guest.nonce[:16])
    time.sleep(0.1)
    guest.show(f"{guest.nonce[16:]} last {guest.nonce[:9]}")
    guest.nonce = "0" * 32
    guest.leave()


def resets(guest: Guest) -> None:
    guest.say_all()
    guest.leave("guest-reset")


def shows_a_text(guest: Guest) -> None:
    guest.show("hello\r\nall is we")
    time.sleep(0.1)
    guest.show("ll\r\n")
    guest.leave()


def shows_a_text_and_stays(guest: Guest) -> None:
    guest.show("all is well\r\n")
    wait()


def leaves_by_status(guest: Guest) -> None:
    guest.say_all()
    os._exit(80)


def leaves_by_status_after_a_warning(guest: Guest) -> None:
    guest.say_all()
    os.write(2, b"qemu-system-fake: warning: nic fake.0 has no peer\n")
    os._exit(80)


def leaves_by_status_early(guest: Guest) -> None:
    """As any container can where there is semihosting."""
    guest.greet()
    guest.say(TEXTS[0])
    os._exit(80)


def leaves_by_a_status_of_its_own(guest: Guest) -> None:
    os._exit(1)


def says_nothing(guest: Guest) -> None:
    guest.leave()


# --- the process


def wires_of(arguments: list[str]) -> dict[str, socket.socket]:
    """Sockets by the names of their chardevs."""
    wires = {}
    for option, value in itertools.pairwise(arguments):
        if option == "-chardev":
            fields = dict(part.partition("=")[::2] for part in value.split(","))
            if "fd" in fields:
                wires[fields["id"]] = socket.socket(fileno=int(fields["fd"]))
    return wires


def turn_of(scenarios: list[str]) -> str:
    """The scenario whose turn it is, counted in the file FAKE_QEMU_TURNS."""
    if len(scenarios) == 1:
        return scenarios[0]
    turns = Path(os.environ["FAKE_QEMU_TURNS"])
    done = len(turns.read_text()) if turns.exists() else 0
    with turns.open("a") as file:
        file.write(".")
    return scenarios[min(done, len(scenarios) - 1)]


def main(arguments: list[str]) -> None:
    if "--version" in arguments:
        sys.stdout.write("QEMU emulator version 7.2.22 (Fake 1:7.2)\n")
        return
    option = "-fake" if "-fake" in arguments else "-prom-env"
    scenario = turn_of(arguments[arguments.index(option) + 1].removeprefix("fake=").split(","))
    if "FAKE_QEMU_PIDFILE" in os.environ:
        Path(os.environ["FAKE_QEMU_PIDFILE"]).write_text(str(os.getpid()))
    if "FAKE_QEMU_PIDS" in os.environ:
        with Path(os.environ["FAKE_QEMU_PIDS"]).open("a") as file:
            file.write(f"{os.getpid()} {scenario}\n")
    if scenario == "refuses":
        sys.exit("qemu-system-fake: -device nonsense: 'nonsense' is not a valid device model name")
    wires = wires_of(arguments)
    if scenario == "garbage_at_once":
        wires["monitor"].sendall(b"this is no JSON\n")
        wait()
    monitor = Monitor(wires["monitor"])
    threading.Thread(target=monitor.serve, daemon=True).start()
    if not monitor.started.wait(LIMIT_S):
        os._exit(97)
    run: Callable[[Guest], None] = globals()[scenario]
    run(Guest(wires, monitor))


if __name__ == "__main__":
    main(sys.argv[1:])

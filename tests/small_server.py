"""A real HTTP server on the loopback that can be made to misbehave."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote


@dataclass
class Fault:
    """What the server does wrong, on paths that end so, for the first `times` requests.

    `status` instead of the file; only `cut_bytes` of what was announced; the file with its last byte changed; the file
    with `more_bytes` behind it; a pause of `stall_s` before each 4 KiB.
    """

    path: str
    times: int = 1_000_000
    status: int = 0
    cut_bytes: int = -1
    corrupt: bool = False
    more_bytes: int = 0
    stall_s: float = 0


@dataclass
class Server:
    """A running server. `requests` are paths, with the first byte asked for where it was a part.

    `ranges` and `lengths` say whether it knows of Range and tells sizes.
    """

    root: Path
    address: str = ""
    requests: list[tuple[str, int]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ranges: bool = True
    lengths: bool = True
    guard: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)

    def count(self, end: str) -> int:
        """How often a path with this end was asked for."""
        return sum(path.endswith(end) for path, _ in self.requests)

    def begin(self, path: str, start: int) -> Fault:
        """Note a request, and say what goes wrong with it."""
        with self.guard:
            self.requests.append((path, start))
            fault = next((one for one in self.faults if path.endswith(one.path) and one.times > 0), Fault(path))
            fault.times -= 1
            return fault


class QuietHandler(BaseHTTPRequestHandler):
    """Sends whole answers, and logs nothing."""

    def send_whole(self, status: int, body: bytes = b"", headers: Mapping[str, str] = MappingProxyType({})) -> None:
        """Send status, headers and body; no body upon HEAD."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that go away."""

    daemon_threads = True

    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = server
        server.address = f"http://127.0.0.1:{self.server_address[1]}/debian"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class Handler(QuietHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Quiet

    def do_GET(self) -> None:
        """Answer a request."""
        path = unquote(self.path).removeprefix("/debian/")
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        fault = self.server.plan.begin(path, start)
        file = self.server.plan.root / path
        file = file / "index.html" if file.is_dir() else file
        if fault.status:
            self.reply(fault.status, b"", Fault(path))
        elif not file.is_file():
            self.reply(404, b"no such file", Fault(path))
        else:
            self.file(file.read_bytes(), start if self.server.plan.ranges else 0, fault)

    def file(self, data: bytes, start: int, fault: Fault) -> None:
        """Send a file, or its end."""
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        if fault.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        body = data[start:] + bytes(fault.more_bytes)
        if self.headers.get("If-None-Match") == tag:
            self.reply(304, b"", fault, ETag=tag)
        elif start:
            content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.reply(206, body, fault, **{"Content-Range": content_range})
        else:
            self.reply(200, body, fault, ETag=tag)

    def reply(self, status: int, body: bytes, fault: Fault, **headers: str) -> None:
        """Send headers, and as much of the body as the fault lets through."""
        self.send_response(status)
        if self.server.plan.lengths or status != 200:
            headers["Content-Length"] = str(len(body))
        else:
            headers["Connection"] = "close"
            self.close_connection = True
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = body if fault.cut_bytes < 0 else body[: fault.cut_bytes]
        for place in range(0, len(sent), 4096):
            if fault.stall_s and self.server.plan.stopping.wait(fault.stall_s):
                break
            self.wfile.write(sent[place : place + 4096])
        if len(sent) < len(body):
            self.close_connection = True


@contextmanager
def serve(root: Path) -> Iterator[Server]:
    """Serve a folder below /debian on a port of the loopback."""
    server = Server(root)
    with Quiet(server) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            http.shutdown()
            thread.join(60)

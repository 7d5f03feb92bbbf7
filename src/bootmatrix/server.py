"""HTTP server of the reports, on loopback only; follows running runs.

Uses the standard library's server: one user, one machine, files and one JSON response. Files from guests are served as
sandboxed plain text. Only regular files in a run's folder are served, by their plain path, never through a link.
Requests with a Host header other than loopback's, or that of the address behind a proxy, are refused, against DNS
rebinding.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

from bootmatrix.errors import InputError
from bootmatrix.fsio import open_below
from bootmatrix.history.discover import is_run
from bootmatrix.history.index import LATEST, ask
from bootmatrix.history.reference import newest_run, tags_of
from bootmatrix.model import Run
from bootmatrix.report import REPORT_FILE
from bootmatrix.report.cell_view import PAGE_FILE
from bootmatrix.report.html import render_page
from bootmatrix.report.index_page import INDEX_PAGE, view_index
from bootmatrix.report.sanitize import one_line
from bootmatrix.runs.run_json import read_value
from bootmatrix.runs.run_store import CELLS_FOLDER, CONSOLE_FILE, STARTED_FILE, unfinished

LOOPBACK = "127.0.0.1"
HOSTS = ("localhost", LOOPBACK, "[::1]")
LIVE_PAGE, LIVE_FILE = "live", "live.json"
IDLE_S = 30
MAX_THREADS = 64
INDEX_S = 1.0
"""Time for which a rendered index page is served."""
TAIL_BYTES, LAST_CHARS = 4096, 120
"""Bytes read from the end of a running cell's console, and the length of the displayed line."""
CELL_DEPTH = 6
"""Path components of a file beside a record: cells/SPEC/ARCH/MACHINE/KERNEL/FILE."""
SANDBOX = "default-src 'none'; sandbox"
PAGE_SANDBOX = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "sandbox allow-scripts allow-popups allow-downloads"
)
"""Policy of saved pages, in addition to their own: a run may come from elsewhere, and its page may be somebody else's.
Its script has no origin, so that it can read no other run, and no network."""
TYPES = {".html": "text/html", ".json": "application/json", ".xml": "application/xml", ".pdf": "application/pdf"}
"""Content types of our own files; all others are plain text."""


class Server(ThreadingHTTPServer):
    """Server of the runs in one folder. `port` 0 picks a free port.

    `base_url` is the address that a proxy gives it, such as https://ci.example.org/bootmatrix/. The proxy may keep the
    path or cut it off.

    Raises InputError for an invalid base URL, OSError if the port cannot be used.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, reports: Path, port: int, base_url: str = "") -> None:
        self.reports = reports.resolve()
        self.hosts, self.prefix = _host_and_path(base_url) if base_url else (HOSTS, "")
        self._base_url = base_url
        self._slots = threading.BoundedSemaphore(MAX_THREADS)
        self._index_lock = threading.Lock()
        self._index = (float("-inf"), b"")
        super().__init__((LOOPBACK, port), Handler)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._base_url or f"http://{LOOPBACK}:{self.server_address[1]}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a request when there are few enough."""
        self._slots.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Respond, in a thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def index(self) -> bytes:
        """Return the index page, rendered again once in a while."""
        with self._index_lock:
            rendered_at, page = self._index
            if time.monotonic() - rendered_at > INDEX_S:
                tags = tags_of(self.reports)
                view = ask(self.reports, lambda rows: view_index(rows, self.reports, tags))
                page = render_page("index.html.j2", ("index.css",), view=view)
                self._index = (time.monotonic(), page)
            return page

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect during a request."""


class Handler(BaseHTTPRequestHandler):
    """Handler of one request."""

    server: Server
    server_version = "bootmatrix"
    sys_version = ""
    timeout = IDLE_S
    common: ClassVar[dict[str, str]] = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }

    def do_GET(self) -> None:
        """Respond with a page, a file or the state of a run."""
        with suppress(ConnectionError):
            try:
                self._answer()
            except (OSError, ValueError):  # an invalid name, or a file removed meanwhile
                self._refuse(HTTPStatus.NOT_FOUND, "no such file")

    def _answer(self) -> None:
        host = self.headers.get("Host", "").lower()
        if host.rpartition(":")[0] not in self.server.hosts and host not in self.server.hosts:
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this server is for loopback only")
        path = urlsplit(self.path).path
        if path.startswith(f"{self.server.prefix}/"):
            path = path.removeprefix(self.server.prefix)
        parts = [unquote(part) for part in path.split("/")[1:]] or ["*"]
        if parts in ([""], [INDEX_PAGE]):
            return self._send(self.server.index(), "text/html")
        if parts[0] == LATEST and (newest := newest_run(self.server.reports)):
            return self._redirect(newest, *parts[1:])
        if not _is_plain(parts) or not is_run(self.server.reports / parts[0]):
            return self._refuse(HTTPStatus.NOT_FOUND, "no such run")
        return self._in_run(parts[0], parts[1:])

    def do_HEAD(self) -> None:
        """Respond like GET, without a body."""
        self.do_GET()

    def _in_run(self, name: str, parts: list[str]) -> None:
        folder = self.server.reports / name
        if parts in ([], [""]):
            page = REPORT_FILE if (folder / REPORT_FILE).is_file() else LIVE_PAGE
            return self._redirect(name, page)
        if parts == [LIVE_PAGE]:
            page_bytes = render_page("live.html.j2", ("index.css",), ("live.js",), connect=True, name=name)
            return self._send(page_bytes, "text/html")
        if parts == [LIVE_FILE]:
            return self._send(json.dumps(state_of(self.server.reports, name)).encode(), "application/json")
        with open_below(self.server.reports, [name, *parts]) as file:
            self._headers(HTTPStatus.OK, _type(parts), os.fstat(file.fileno()).st_size, _policy(parts))
            if self.command == "GET":
                shutil.copyfileobj(file, self.wfile)
        return None

    def _send(self, data: bytes, kind: str) -> None:
        self._headers(HTTPStatus.OK, kind, len(data))
        if self.command == "GET":
            self.wfile.write(data)

    def _headers(self, status: HTTPStatus, kind: str, length: int, policy: str = "") -> None:
        self.send_response(status)
        for name, value in self.common.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind if kind == TYPES[".pdf"] else f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(length))
        if policy:
            self.send_header("Content-Security-Policy", policy)
        self.end_headers()

    def _redirect(self, *parts: str) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", f"{self.server.prefix}/{'/'.join(map(quote, parts))}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        data = f"{words}\n".encode()
        self._headers(status, "text/plain", len(data), SANDBOX)
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: only `cli` prints."""


def _host_and_path(base_url: str) -> tuple[tuple[str, ...], str]:
    """Return the hosts and the path that requests may name.

    Raises InputError if it is not an address of a server.
    """
    with suppress(ValueError):  # an invalid port
        parts = urlsplit(base_url)
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme in {"http", "https"} and parts.hostname and plain and parts.port != 0:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return (*HOSTS, host), unquote(parts.path).rstrip("/")
    raise InputError(f"--base-url {base_url}: invalid address", "Such as https://ci.example.org/bootmatrix/")


def _is_plain(parts: list[str]) -> bool:
    """Return whether all components are visible file names; the last may be empty."""
    *folders, last = parts
    names = [*folders, *([last] if last else [])]
    return all(name and name[0] != "." and not set(name) & set("/\\\0") for name in names)


def _policy(parts: list[str]) -> str:
    """Return a file's policy: it may be a guest's, or another's page."""
    policies = {TYPES[".html"]: PAGE_SANDBOX, TYPES[".pdf"]: ""}
    return policies.get(_type(parts), SANDBOX)


def _type(parts: list[str]) -> str:
    """Return a file's content type. Below `cells`, only the cell page is ours."""
    if parts[0] == CELLS_FOLDER and not (len(parts) == CELL_DEPTH and parts[-1] == PAGE_FILE):
        return "text/plain"
    return TYPES.get(Path(parts[-1]).suffix, "text/plain")


def state_of(reports: Path, name: str) -> dict[str, Any]:
    """Return the current state of a run, for the live page."""
    results = ask(reports, lambda rows: rows.results(name))
    line = results.line if results else None
    return {
        "title": one_line(line.title) if line else name,
        "started_at": line.started_at if line else "",
        "planned": _planned(reports / name),
        "ended": bool(line and line.ended_at),
        "interrupted": bool(line and line.interrupted and line.ended_at),
        "fault": one_line(line.fault) if line else "",
        "report": (reports / name / REPORT_FILE).is_file(),
        "under_way": [] if line and line.ended_at else list(_under_way(reports / name)),
        "cells": [
            {
                "id": cell.id,
                "verdict": cell.verdict,
                "standing": cell.standing.value,
                "seconds": round(cell.seconds, 1),
                "reason": one_line(cell.reason),
            }
            for cell in (results.cells if results else ())
        ],
    }


def _planned(folder: Path) -> int:
    """Return the number of planned cells, skipped ones included; 0 if unknown."""
    with suppress(OSError, InputError):
        file = folder / STARTED_FILE
        return _planned_in(file, file.stat().st_mtime_ns)
    return 0


@lru_cache(maxsize=16)
def _planned_in(file: Path, _written: int) -> int:
    """Read the number of planned cells, cached: the live page asks every second."""
    order = read_value(file, Run).order
    return len(order.plan.cells) + len(order.plan.skips) if order else 0


def _under_way(folder: Path) -> Iterator[dict[str, Any]]:
    """List running cells, with the console's last line and its age in s."""
    for cell in unfinished(folder):
        last, quiet_s = _last_words(folder, [CELLS_FOLDER, *cell.split("/"), CONSOLE_FILE])
        yield {"id": cell, "last": last, "quiet_s": quiet_s}


def _last_words(folder: Path, console: list[str]) -> tuple[str, int]:
    """Return a console's last line, and the seconds since its last write."""
    try:
        with open_below(folder, console) as file:
            status = os.fstat(file.fileno())
            file.seek(max(status.st_size - TAIL_BYTES, 0))
            lines = file.read(TAIL_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return "", 0
    texts = (text for line in reversed(lines) if (text := one_line(line, LAST_CHARS)))
    return next(texts, ""), max(int(time.time() - status.st_mtime), 0)

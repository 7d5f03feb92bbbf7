"""A small server that answers as the APIs of GitHub and GitLab do, with their faults."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "ghs_secretsecretsecret"
OWN_ID = 42
"""The token's user on GitLab."""
PER_PAGE = 2
"""Entries of a page, whatever was asked for."""


@dataclass
class Forge:
    """Requests received, and objects kept. `faults`: part of a path, status and headers of the next answers.

    `odd`: method, part of a path, and what answers the next such request; None keeps its value, and closes.
    """

    address: str = ""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    comments: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    faults: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    odd: list[tuple[str, str, Callable[[Handler], None] | None]] = field(default_factory=list)

    def sent(self, method: str, end: str) -> list[Any]:
        return [value for verb, path, value in self.requests if verb == method and path.endswith(end)]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    forge: Forge

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length", "0"))
        value = json.loads(self.rfile.read(length)) if length else None
        is_ours = TOKEN in (self.headers.get("Authorization", ""), self.headers.get("PRIVATE-TOKEN", "")) or (
            self.headers.get("Authorization") == f"Bearer {TOKEN}"
        )
        self.forge.requests.append((self.command, path, value))
        fault = next((entry for entry in self.forge.faults if entry[0] in path), None)
        if fault:
            self.forge.faults.remove(fault)
            is_list = fault[1] == 200 and "Link" in fault[2]
            return self.reply(fault[1], [] if is_list else {"message": "no, not so"}, fault[2])
        odd = next((entry for entry in self.forge.odd if entry[0] == self.command and entry[1] in path), None)
        if odd:
            self.forge.odd.remove(odd)
            self.close_connection = True
            if odd[2]:
                return odd[2](self)
            self.wfile = io.BytesIO()  # kept, and nothing is heard of it
        if not is_ours:
            return self.reply(401, {"message": "Bad credentials"})
        if path.endswith("/user"):
            return self.reply(200, {"id": OWN_ID})
        entries = self.forge.comments if re.search("comments|notes", path) else self.forge.issues
        return self.entries(entries, path, query, value)

    def entries(self, entries: list[dict[str, Any]], path: str, query: str, value: Any) -> None:
        if self.command == "GET":
            entries = [entry for entry in entries if entry.get("state") != "closed"]
            page = int((re.findall(r"\bpage=(\d+)", query) or ["1"])[0])
            part = entries[(page - 1) * PER_PAGE : page * PER_PAGE]
            more = page * PER_PAGE < len(entries)
            link = f'<{self.forge.address}{path}?per_page=100&page={page + 1}>; rel="next"'
            return self.reply(200, part, {"Link": link} if more else {})
        if self.command in {"PATCH", "PUT"}:
            number = int(path.rpartition("/")[2])
            found = next(entry for entry in entries if entry["id"] == number)
            found.update(value)
            if found.pop("state_event", "") == "close":  # GitLab's way
                found["state"] = "closed"
            return self.reply(200, found)
        if re.search("check-runs|statuses", path):
            return self.reply(201, {})
        number = len(entries) + 1
        own = {"user": {"type": "Bot"}, "author": {"id": OWN_ID}, "author_association": "NONE"}
        entries.append({"id": number, "number": number, "iid": number, "state": "open", **own, **value})
        return self.reply(201, entries[-1])

    do_GET = do_POST = do_PATCH = do_PUT = answer

    def reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def serve_forge() -> Iterator[Forge]:
    forge = Forge()
    handler = type("OwnHandler", (Handler,), {"forge": forge})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        forge.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield forge
        finally:
            server.shutdown()
            thread.join(60)

"""Clouds of the tests' own: moto's AWS and a small Compute Engine, whose instances are real guests in QEMU."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bootmatrix.cloud.blocks import BLOCK_BYTES
from small_server import QuietHandler

QEMU = ("qemu-system-x86_64", "-M", "q35", "-m", "512", "-nodefaults", "-no-reboot", "-display", "none", "-cpu", "max")


@dataclass
class Instances:
    """Guests by the name of their instance. Without `boots`, an instance says what `console` has, and ends."""

    folder: Path
    boots: bool = False
    console: bytes = b""
    guests: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, disk: Path) -> None:
        """Start a guest from a copy of a disk."""
        if self.boots:
            serial = self._serial(name)
            command = [*QEMU, "-drive", f"file={disk},format=raw,if=virtio,snapshot=on", "-serial", f"file:{serial}"]
            self.guests[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def read(self, name: str) -> bytes:
        """Read what a guest has printed."""
        return self._serial(name).read_bytes() if name in self.guests else self.console

    def has_ended(self, name: str) -> bool:
        """Return whether a guest has left."""
        return name not in self.guests or self.guests[name].poll() is not None

    def close(self) -> None:
        """End all guests."""
        for guest in self.guests.values():
            guest.kill()
            guest.wait()

    def _serial(self, name: str) -> Path:
        return self.folder / f"{name}.log"


@dataclass
class Faults:
    """Answers to spoil: how many requests are throttled, by a part of their body or path; which answer is lost,
    and which requests are refused with which code.
    """

    throttled: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def takes(self, what: dict[str, int], request: str) -> bool:
        """Return whether a fault is for this request, and count it."""
        for words, count in what.items():
            if words in request and count > 0:
                what[words] = count - 1
                return True
        return False


class Server(ThreadingHTTPServer):
    """A server with instances and faults."""

    instances: Instances
    faults: Faults
    state: Any
    daemon_threads = True

    @property
    def address(self) -> str:
        """The URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler], folder: Path, state: Any) -> Iterator[Server]:
    """Run a server."""
    server = Server(("127.0.0.1", 0), handler)
    server.instances, server.faults, server.state = Instances(folder), Faults(), state
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        server.instances.close()


class Handler(QuietHandler):
    """Read a request, and answer."""

    server: Server
    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        """Read the body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        self.send_whole(status, data, headers or {})

    def lose(self) -> None:
        """Close the connection instead of an answer."""
        self.close_connection = True
        self.connection.close()

    def do_GET(self) -> None:
        """Handle a request."""
        self.handle_request()

    do_POST = do_PUT = do_DELETE = do_GET

    def handle_request(self) -> None:
        """Answer a request."""
        raise NotImplementedError


class Aws(Handler):
    """A proxy before moto (`state`: its address, and a boto3 session for it)."""

    def handle_request(self) -> None:
        """Answer a request: of the console itself, all others by moto."""
        body, faults = self.body(), self.server.faults
        request = f"{self.command} {self.path} {body[:4000].decode('latin-1')}"
        faults.requests.append(request)
        if faults.takes(faults.throttled, request):
            code = "RequestLimitExceeded"
            self.send(503, f"<Response><Errors><Error><Code>{code}</Code></Error></Errors></Response>".encode())
            return
        if code := next((code for words, code in faults.refused.items() if words in request), ""):
            self.send(400, f"<Response><Errors><Error><Code>{code}</Code></Error></Errors></Response>".encode())
            return
        query = urllib.parse.parse_qs(body.decode("latin-1")) if b"Action=" in body[:4000] else {}
        action = query.get("Action", [""])[0]
        if action == "GetConsoleOutput":
            self._console(query["InstanceId"][0])
            return
        if action == "DescribeInstances":
            self._end_instances()
        status, data, headers = self._moto(body)
        if action == "RunInstances" and status == 200:
            self._start(data, query)
        if action == "RegisterImage" and status == 200:
            self._tag_image(data, query)
        if faults.takes(faults.lost, request):
            self.lose()
            return
        self.send(status, data.replace(b"Client.UserInitiatedShutdown", b"Client.InstanceInitiatedShutdown"), headers)

    def _moto(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {"content-length"}}
        headers.setdefault("Content-Type", "application/octet-stream")  # else urllib calls it a form
        url = self.server.state["moto"] + self.path
        request = urllib.request.Request(url, data=body or None, method=self.command, headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                status, data, found = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, data, found = error.code, error.read(), error.headers
        return status, data, {name: found[name] for name in found if name.lower().startswith(("content-type", "x-amz"))}

    def _console(self, instance: str) -> None:
        text = base64.b64encode(self.server.instances.read(instance)[-65536:]).decode()
        self.send(
            200,
            f"<GetConsoleOutputResponse xmlns='http://ec2.amazonaws.com/doc/2016-11-15/'><instanceId>{escape(instance)}"
            f"</instanceId><output>{text}</output></GetConsoleOutputResponse>".encode(),
        )

    def _start(self, answer: bytes, _query: dict[str, list[str]]) -> None:
        (instance,) = re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", answer)
        name, disk = instance.decode(), self.server.instances.folder / "disk.raw"
        self.server.state["started"].append(name)
        if self.server.instances.boots:
            _download(self.server.state["session"], disk)
        self.server.instances.start(name, disk)

    def _tag_image(self, answer: bytes, query: dict[str, list[str]]) -> None:
        """Give an image the tags of its request, which moto leaves out."""
        (image,) = re.findall(rb"<imageId>(ami-[0-9a-f]+)</imageId>", answer)
        tag = {name: query[f"TagSpecification.1.Tag.1.{name}"][0] for name in ("Key", "Value")}
        ec2 = self.server.state["session"].client("ec2", endpoint_url=self.server.state["moto"])
        ec2.create_tags(Resources=[image.decode()], Tags=[tag])

    def _end_instances(self) -> None:
        ec2 = self.server.state["session"].client("ec2", endpoint_url=self.server.state["moto"])
        for name in list(self.server.state["started"]):
            if self.server.instances.has_ended(name):
                self.server.state["started"].remove(name)
                ec2.terminate_instances(InstanceIds=[name])


def _download(session: Any, disk: Path) -> None:
    """Write the newest snapshot to a file, by the same API."""
    ebs, ec2 = session.client("ebs"), session.client("ec2")
    (snapshot,) = ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "tag-key", "Values": ["bootmatrix"]}])[
        "Snapshots"
    ]
    with disk.open("wb") as file:
        file.truncate(snapshot["VolumeSize"] << 30)
        for block in ebs.list_snapshot_blocks(SnapshotId=snapshot["SnapshotId"])["Blocks"]:
            got = ebs.get_snapshot_block(
                SnapshotId=snapshot["SnapshotId"], BlockIndex=block["BlockIndex"], BlockToken=block["BlockToken"]
            )
            file.seek(block["BlockIndex"] * BLOCK_BYTES)
            file.write(got["BlockData"].read())


@dataclass
class Project:
    """State of a project of Compute Engine."""

    images: dict[str, Any] = field(default_factory=dict)
    instances: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    preempted: bool = False
    requests: set[str] = field(default_factory=set)


NOW = "2020-01-01T00:00:00.000-08:00"


class Gcp(Handler):
    """The calls of Compute Engine and of a bucket (`state`: a Project) that a run makes."""

    def handle_request(self) -> None:
        """Answer a request."""
        body, faults = self.body(), self.server.faults
        faults.requests.append(f"{self.command} {self.path}")
        if self.headers["Authorization"] != "Bearer good":
            self.send(401, b'{"error": "no such token"}')
        elif faults.takes(faults.throttled, f"{self.command} {self.path}"):
            self.send(429, b"{}")
        else:
            status, answer, headers = self._answer(body)
            if faults.takes(faults.lost, f"{self.command} {self.path}"):
                self.lose()
            else:
                self.send(status, json.dumps(answer).encode(), headers)

    def _answer(self, body: bytes) -> tuple[int, Any, dict[str, str]]:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if "/storage/v1/" in url.path or "/session/" in url.path:
            return self._bucket(url.path, query, body)
        kind, _, name = url.path.partition("/global/" if "/global/" in url.path else "/zones/z/")[2].partition("/")
        return self._compute(kind, name, query, body)

    def _bucket(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        objects = self.server.state.objects
        if self.command == "POST":
            return 200, {}, {"Location": f"{self.server.address}/session/{query['name']}"}
        name = path.rpartition("/")[2]
        if self.command == "DELETE":
            return (204 if objects.pop(name, None) is not None else 404), {}, {}
        if self.command == "GET":
            items = [{"name": name, "timeCreated": NOW, "metadata": {"bootmatrix": "x"}} for name in objects]
            return 200, {"items": items}, {}
        first, _, total = map(int, re.findall(r"\d+", self.headers["Content-Range"]))
        have = objects.get(name, b"")
        if first == len(have):
            objects[name] = have = have + body
        if len(have) < total:
            return 308, {}, {"Range": f"bytes=0-{len(have) - 1}"}
        return 200, {"md5Hash": base64.b64encode(hashlib.md5(have).digest()).decode()}, {}

    def _compute(  # noqa: PLR0911
        self, kind: str, name: str, query: dict[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        project = self.server.state
        things = {"images": project.images, "instances": project.instances}.get(kind, {})
        done = {"name": "operation-1", "status": "DONE", "operationType": kind}
        if kind == "operations":
            kinds = ["compute.instances.preempted"] if project.preempted else ["compute.instances.guestTerminate"]
            return 200, done if name else {"items": [{"operationType": one} for one in kinds]}, {}
        if self.command == "POST":
            thing = json.loads(body)
            if thing["name"] in things:
                return (200, done, {}) if query["requestId"] in project.requests else (409, {}, {})
            project.requests.add(query["requestId"])
            things[thing["name"]] = {**thing, "creationTimestamp": NOW, "id": "7"}
            self._made(kind, thing)
            return 200, {**done, "status": "RUNNING"}, {}
        if self.command == "DELETE":
            return (200 if things.pop(name, None) else 404), done, {}
        if not name:
            return 200, {"items": list(things.values())}, {}
        name, _, part = name.partition("/")
        if part == "serialPort":
            return 200, {"contents": self.server.instances.read(name).decode()}, {}
        if name not in things:
            return 404, {}, {}
        has_ended = project.preempted or self.server.instances.has_ended(name)
        return 200, {**things[name], "status": "TERMINATED" if has_ended else "RUNNING"}, {}

    def _made(self, kind: str, thing: dict[str, Any]) -> None:
        if kind == "images":
            packed = self.server.state.objects[thing["rawDisk"]["source"].rpartition("/")[2]]
            with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
                archive.extract("disk.raw", self.server.instances.folder, filter="data")
        else:
            self.server.instances.start(thing["name"], self.server.instances.folder / "disk.raw")

"""A registry with the referrers API (OCI distribution 1.1), in memory.

Docker's of the archive lacks it. This one refuses what a strict registry refuses: wrong digests, unknown blobs, another
media type than the request's. `GET /v2/NAME/referrers/DIGEST` lists manifests by subject, and by `artifactType`.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from image_maker import OCI, sha256
from registry_fixtures import serving
from small_server import QuietHandler

INDEX = f"{OCI}.index.v1+json"
ROUTE = re.compile(r"/v2/(?P<name>[a-z0-9/._-]+)/(?P<kind>manifests|blobs/uploads|blobs|referrers)/(?P<rest>[^/]*)")


@dataclass
class ReferrersRegistry:
    """A running registry and what it holds, by repository and digest or tag."""

    host: str = ""
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: set[tuple[str, str]] = field(default_factory=set)

    def referrers(self, name: str, subject: str) -> list[dict[str, Any]]:
        """Describe the manifests of a repository that refer to a subject, each once."""
        found = {}
        for (repository, _), (media_type, data) in self.manifests.items():
            value = json.loads(data)
            if repository == name and value.get("subject", {}).get("digest") == subject:
                kind = value.get("artifactType") or value["config"]["mediaType"]
                described = {"mediaType": media_type, "digest": sha256(data), "size": len(data), "artifactType": kind}
                found[sha256(data)] = {**described, "annotations": value.get("annotations", {})}
        return list(found.values())

    def unknown(self, name: str, data: bytes) -> list[str]:
        """Return the digests that a manifest names and its repository lacks; a subject may come later."""
        value = json.loads(data)
        blobs = [part["digest"] for part in (*value.get("layers", ()), value.get("config")) if part]
        lacking = [digest for digest in blobs if (name, digest) not in self.blobs]
        members = [entry["digest"] for entry in value.get("manifests", ())]
        return lacking + [digest for digest in members if (name, digest) not in self.manifests]


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    registry: ReferrersRegistry

    def do_GET(self) -> None:
        name, kind, rest = self._route()
        if kind == "referrers":
            self._referrers(name, rest)
        elif kind == "blobs" and (name, rest) in self.registry.blobs:
            self._reply(200, self.registry.blobs[name, rest])
        elif kind == "manifests" and (name, rest) in self.registry.manifests:
            media_type, data = self.registry.manifests[name, rest]
            self._reply(200, data, **{"Content-Type": media_type, "Docker-Content-Digest": sha256(data)})
        else:
            self._reply(200 if urlsplit(self.path).path == "/v2/" else 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        name, kind, _ = self._route()
        session = uuid.uuid4().hex
        self.registry.uploads.add((name, session))
        self._reply(202 if kind == "blobs/uploads" else 404, Location=f"/v2/{name}/blobs/uploads/{session}")

    def do_PUT(self) -> None:
        name, kind, rest = self._route()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if kind == "manifests":
            self._put_manifest(name, rest, data)
            return
        (digest,) = parse_qs(urlsplit(self.path).query)["digest"]
        is_right = (name, rest) in self.registry.uploads and digest == sha256(data)
        self.registry.uploads.discard((name, rest))
        if is_right:
            self.registry.blobs[name, digest] = data
        self._reply(201 if is_right else 400, Location=f"/v2/{name}/blobs/{digest}")

    def _put_manifest(self, name: str, version: str, data: bytes) -> None:
        value, media_type = json.loads(data), self.headers["Content-Type"]
        is_named = not version.startswith("sha256:") or version == sha256(data)
        if not is_named or value.get("mediaType", media_type) != media_type or self.registry.unknown(name, data):
            self._reply(400)
            return
        for key in {version, sha256(data)}:
            self.registry.manifests[name, key] = media_type, data
        subject = {"OCI-Subject": value["subject"]["digest"]} if "subject" in value else {}
        self._reply(201, Location=f"/v2/{name}/manifests/{sha256(data)}", **subject)

    def _referrers(self, name: str, subject: str) -> None:
        wanted = parse_qs(urlsplit(self.path).query).get("artifactType", [])
        found = self.registry.referrers(name, subject)
        if wanted:
            found = [entry for entry in found if entry["artifactType"] in wanted]
        applied = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        self._reply(200, json.dumps(index).encode(), **{"Content-Type": INDEX}, **applied)

    def _route(self) -> tuple[str, str, str]:
        found = ROUTE.fullmatch(urlsplit(self.path).path)
        return (found["name"], found["kind"], found["rest"]) if found else ("", "", "")

    def _reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_whole(status, body if status < 400 else b'{"errors": []}', headers)


@contextmanager
def referrers_registry() -> Iterator[ReferrersRegistry]:
    """Run the registry on the loopback, without TLS."""
    registry = ReferrersRegistry()
    with serving(type("Handler", (_Handler,), {"registry": registry})) as address:
        registry.host = address
        yield registry

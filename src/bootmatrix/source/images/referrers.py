"""Artifacts that refer to an image, put beside it into its repository.

OCI distribution 1.1, "Pushing Manifests with Subject": a manifest with a `subject`. A registry without the API of
referrers gets the tag `sha256-…`, an index of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx

from bootmatrix.errors import InputError, NetworkError, UntrustedError
from bootmatrix.source.connection import in_words, origin_of, read_bounded
from bootmatrix.source.images.blobs import parsed
from bootmatrix.source.images.client import open_client
from bootmatrix.source.images.endpoint import Endpoint
from bootmatrix.source.images.pull import check_unambiguous
from bootmatrix.source.images.reference import Reference

MANIFEST, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
EMPTY_TYPE, EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
TITLE = "org.opencontainers.image.title"
MAX_REFERRERS_BYTES = 4 << 20


@dataclass(frozen=True)
class ArtifactFile:
    """A file of an artifact."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class Artifact:
    """An artifact of a kind (a media type), with its files."""

    kind: str
    files: Sequence[ArtifactFile]
    annotations: Mapping[str, str]


def attach(endpoint: Endpoint, image: Reference, artifact: Artifact, tested: Collection[str]) -> str:
    """Attach an artifact to an image; return the artifact's digest.

    Args:
        endpoint: the image's registry.
        image: the image, by tag or digest.
        artifact: the artifact.
        tested: digests (SHA-256) of which the image, or one of its platforms, must be one.

    Raises InputError if the image does not exist, or it was not tested; NetworkError if the registry does not answer,
    or refuses; UntrustedError if it answers with another image, or sends the upload elsewhere; BuildError if the image
    may also be an index.
    """
    with closing(_Uploads(endpoint, image.repository)) as uploads:
        document, media_type = uploads.manifest(image.version) or (b"", "")
        if not document:
            raise InputError(f"the registry {image.registry} has no image {image}")
        sha256 = hashlib.sha256(document).hexdigest()
        if image.digest not in {"", f"sha256:{sha256}"}:
            raise UntrustedError(f"SHA-256 mismatch of {image}: got {sha256}")
        check_unambiguous(parsed(document, str(image)), str(image), media_type)
        if not {sha256, *_platforms(document)} & set(tested):
            raise InputError(
                f"{image}: the run did not test this image, sha256:{sha256}",
                "Push the sign-off of a run whose spec names the image by this digest or its tag.",
            )
        return _attach(uploads, _descriptor(media_type, document), artifact)


def _attach(uploads: _Uploads, subject: dict[str, Any], artifact: Artifact) -> str:
    for data in (EMPTY, *(file.data for file in artifact.files)):
        uploads.blob(data)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact.kind,
        "config": _descriptor(EMPTY_TYPE, EMPTY),
        "layers": [
            {**_descriptor(file.media_type, file.data), "annotations": {TITLE: file.name}} for file in artifact.files
        ],
        "subject": subject,
        "annotations": dict(artifact.annotations),
    }
    data = json.dumps(manifest).encode()
    entry = {**_descriptor(MANIFEST, data), "artifactType": artifact.kind, "annotations": dict(artifact.annotations)}
    if not uploads.put(str(entry["digest"]), MANIFEST, data):
        _list(uploads, str(subject["digest"]).replace(":", "-"), entry)
    return str(entry["digest"])


def _list(uploads: _Uploads, tag: str, entry: dict[str, Any]) -> None:
    """Add an entry to the index of a registry that keeps none by itself."""
    document, _ = uploads.manifest(tag) or (b"{}", "")
    try:
        entries = [other for other in json.loads(document).get("manifests", []) if other["digest"] != entry["digest"]]
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise NetworkError(f"{tag}: not an index of artifacts") from error
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, entry]}
    uploads.put(tag, INDEX, json.dumps(index).encode())


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _platforms(document: bytes) -> set[str]:
    """Return the digests of an index's images."""
    try:
        return {entry["digest"].removeprefix("sha256:") for entry in json.loads(document).get("manifests", [])}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return set()


class _Uploads:
    """Uploads into a repository."""

    def __init__(self, endpoint: Endpoint, repository: str) -> None:
        self._endpoint, self._base = endpoint, f"{endpoint.url}/{repository}"
        self._client = open_client(endpoint, repository, "pull,push")

    def close(self) -> None:
        self._client.close()

    def manifest(self, version: str) -> tuple[bytes, str] | None:
        """Fetch a manifest and its media type; None if the repository lacks it."""
        reply, content = self._send("GET", f"{self._base}/manifests/{version}", {200, 404})
        if reply.status_code == 404:
            return None
        return content, reply.headers.get("Content-Type", MANIFEST).partition(";")[0]

    def blob(self, data: bytes) -> None:
        """Upload a blob, unless the repository has it."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        known, _ = self._send("HEAD", f"{self._base}/blobs/{digest}", {200, 404})
        if known.status_code == 200:
            return
        begun, _ = self._send("POST", f"{self._base}/blobs/uploads/", {202})
        try:
            place = begun.url.join(begun.headers.get("Location", "")).copy_merge_params({"digest": digest})
        except (httpx.InvalidURL, UnicodeError) as error:
            raise NetworkError(f"the registry {self._endpoint.name} sends the upload to no URL") from error
        if origin_of(place) != origin_of(begun.url):
            raise UntrustedError(f"the registry {self._endpoint.name} sends the upload to {place.host}: refused")
        self._send("PUT", place, {201}, "application/octet-stream", data)

    def put(self, version: str, media_type: str, data: bytes) -> bool:
        """Upload a manifest; return whether the registry lists it by its subject."""
        reply, _ = self._send("PUT", f"{self._base}/manifests/{version}", {201}, media_type, data)
        return "OCI-Subject" in reply.headers

    def _send(
        self, method: str, url: str | httpx.URL, expected: set[int], media_type: str = "", data: bytes = b""
    ) -> tuple[httpx.Response, bytes]:
        """Send a request; return the reply and its body."""
        name = self._endpoint.name
        headers = {"Accept-Encoding": "identity", **({"Content-Type": media_type} if media_type else {})}
        try:
            with self._client.stream(method, url, content=data, headers=headers) as reply:
                body = read_bounded(reply, MAX_REFERRERS_BYTES)
        except (httpx.RequestError, UnicodeError) as error:  # the last: not a DNS name
            raise NetworkError(f"the registry {name} does not answer: {in_words(error)}") from error
        if reply.status_code in expected:
            return reply, body
        hint = (
            f"Log in with an account that may write: `docker login {name}`." if reply.status_code in {401, 403} else ""
        )
        raise NetworkError(f"the registry {name} answered {reply.status_code} to {method} {reply.url.path}", hint)

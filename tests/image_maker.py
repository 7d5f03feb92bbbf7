"""Container images of the tests' own, good and evil, and what they are kept in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import zstandard

from packages import entry, make_tar

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker.distribution.manifest"
Json = dict[str, Any]
Pack = Callable[[bytes], bytes]


def gzipped(data: bytes) -> bytes:
    """As most layers are."""
    return gzip.compress(data, mtime=0)


def zstd(data: bytes) -> bytes:
    """As some are today."""
    return zstandard.ZstdCompressor(level=3).compress(data)


def sha256(data: bytes) -> str:
    """A digest as images write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def files(**contents: str) -> bytes:
    """A layer of files; two `_` in a name stand for a slash."""
    return make_tar(entry(name.replace("__", "/"), text.encode()) for name, text in contents.items())


@dataclass
class Made:
    """Blobs by digest, and the document that is the way into them."""

    root: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)
    media_type: str = f"{OCI}.manifest.v1+json"
    manifests: dict[str, str] = field(default_factory=dict)
    """Media types of those blobs that are manifests."""

    @property
    def digest(self) -> str:
        return sha256(self.root)

    def described(self, **more: object) -> Json:
        """The descriptor of the document."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.root), **more}


def make_image(
    *layers: bytes,
    platform: str = "linux/amd64",
    config: Mapping[str, object] | None = None,
    pack: Pack = gzipped,
    docker: bool = False,
    **more: object,
) -> Made:
    """An image of these layers, each a tar archive. `more` replaces what its manifest says."""
    packed = [pack(layer) for layer in layers]
    root = {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]}
    system = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    body = json.dumps({**system, "config": config or {}, "rootfs": root}).encode()
    kind = "tar+zstd" if pack is zstd else "tar+gzip"
    layer_type = "application/vnd.docker.image.rootfs.diff.tar.gzip" if docker else f"{OCI}.layer.v1.{kind}"
    config_type = "application/vnd.docker.container.image.v1+json" if docker else f"{OCI}.config.v1+json"
    media_type = f"{DOCKER}.v2+json" if docker else f"{OCI}.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config_type, "digest": sha256(body), "size": len(body)},
        "layers": [{"mediaType": layer_type, "digest": sha256(one), "size": len(one)} for one in packed],
        **more,
    }
    return Made(json.dumps(manifest).encode(), {sha256(one): one for one in (*packed, body)}, media_type)


def make_index(images: Mapping[str, Made], docker: bool = False) -> Made:
    """An index of images by platform."""
    media_type = f"{DOCKER}.list.v2+json" if docker else f"{OCI}.index.v1+json"
    entries = [one.described(platform=_platform(name)) for name, one in images.items()]
    root = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode()
    blobs = {digest: data for one in images.values() for digest, data in one.blobs.items()}
    blobs |= {one.digest: one.root for one in images.values()}
    manifests = {digest: kind for one in images.values() for digest, kind in one.manifests.items()}
    return Made(root, blobs, media_type, manifests | {one.digest: one.media_type for one in images.values()})


def _platform(name: str) -> Json:
    return dict(zip(("os", "architecture", "variant"), name.split("/"), strict=False))


def write_layout(folder: Path, made: Made | Mapping[str, Made]) -> Path:
    """An OCI layout of one image, or of several by tag."""
    named = {"": made} if isinstance(made, Made) else made
    target = folder / "layout"
    entries = []
    for tag, one in named.items():
        for digest, data in {**one.blobs, one.digest: one.root}.items():
            path = target / "blobs" / digest.replace(":", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        notes = {"annotations": {"org.opencontainers.image.ref.name": tag}} if tag else {}
        entries.append(one.described(**notes))
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return target


def write_archive(folder: Path, made: Made | Mapping[str, Made]) -> Path:
    """The same in a tar archive."""
    layout = write_layout(folder, made)
    parts = sorted(file for file in layout.rglob("*") if file.is_file())
    path = folder / "image.tar"
    path.write_bytes(make_tar(entry(str(file.relative_to(layout)), file.read_bytes()) for file in parts))
    return path


def write_saved(folder: Path, layers: Sequence[bytes], config: Json, tags: Iterable[str] = ("mine:1",)) -> Path:
    """What an older `docker save` writes."""
    root = {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]}
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": list(tags), "Layers": names}]
    members = [
        entry("manifest.json", json.dumps(manifest).encode()),
        entry("config.json", json.dumps({**config, "rootfs": root}).encode()),
        *(entry(name, layer) for name, layer in zip(names, layers, strict=True)),
    ]
    path = folder / "saved.tar"
    path.write_bytes(make_tar(members))
    return path


@dataclass(frozen=True)
class Pusher:
    """Puts images into a registry, as the distribution specification says."""

    url: str
    user: str = ""
    password: str = ""
    ca: Path | None = None
    token: str = ""

    def push(self, name: str, made: Made, tag: str = "1") -> str:
        """All blobs, then manifests, those of an index before it; the digest."""
        basic = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        login = f"Bearer {self.token}" if self.token else f"Basic {basic}" if self.user else ""
        verify = ssl.create_default_context(cafile=self.ca) if self.ca else False
        with httpx.Client(verify=verify, headers={"Authorization": login} if login else {}) as client:
            for digest, data in made.blobs.items():
                if digest not in made.manifests:
                    started = client.post(f"{self.url}/v2/{name}/blobs/uploads/").raise_for_status()
                    place = started.url.join(started.headers["Location"]).copy_merge_params({"digest": digest})
                    octets = {"Content-Type": "application/octet-stream"}
                    client.put(place, content=data, headers=octets).raise_for_status()
            for digest, kind in made.manifests.items():
                self._manifest(client, name, digest, made.blobs[digest], kind)
            self._manifest(client, name, tag, made.root, made.media_type)
        return made.digest

    def _manifest(self, client: httpx.Client, name: str, version: str, data: bytes, kind: str) -> None:
        url = f"{self.url}/v2/{name}/manifests/{version}"
        client.put(url, content=data, headers={"Content-Type": kind}).raise_for_status()

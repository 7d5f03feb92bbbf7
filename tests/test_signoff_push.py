"""A sign-off as a referrer of the tested image, in a real registry."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx
import pytest

from bootmatrix.errors import UntrustedError
from bootmatrix.model import Artefact, ImageContents
from bootmatrix.signoff.manifest import MANIFEST_FILE
from bootmatrix.signoff.published import _artifact
from bootmatrix.signoff.sent_report import REPORT_FILE
from bootmatrix.signoff.verify import PAGE_FILE, STATEMENT_FILE
from bootmatrix.source.images.referrers import INDEX, MANIFEST
from image_maker import Made, Pusher, files, make_image, make_index
from referrers_registry import referrers_registry
from registry_fixtures import Running, has_registry, plain
from samples import green_records
from signoff_fixtures import RELEASE, Tool, signing, write_keys, written

__all__ = ["has_registry", "plain", "signing"]

KINDS: tuple[Literal["kernel", "image"], ...] = ("kernel", "image")


@pytest.fixture
def made() -> Made:
    return make_index({"amd64": make_image(files(hello="hello"))})


def signed(signing: Tool, sha256: str, *more: str | Path) -> Path:
    """A run that tested an image, signed off."""
    image = Artefact(kind="image", name="shop", path="/cache/shop", sha256=sha256, size_bytes=1)
    records = [one.model_copy(update={"artefacts": (*one.artefacts, image)}) for one in green_records()]
    folder = written(signing, records)
    signing.make(folder, *more)
    return folder


@pytest.mark.parametrize("name", [MANIFEST_FILE, PAGE_FILE, REPORT_FILE])
def test_what_is_pushed_is_what_was_verified(signing: Tool, name: str) -> None:
    """Somebody replaces a file between the two."""
    place = signed(signing, "1" * 64) / "signoff" / RELEASE
    attested = json.loads((place / STATEMENT_FILE).read_bytes())
    assert {file.name for file in _artifact(place, attested).files} >= {name, STATEMENT_FILE}
    data = (place / name).read_bytes()
    (place / name).write_bytes(data.replace(b"a", b"b", 1))
    with pytest.raises(UntrustedError, match="has changed since it was verified"):
        _artifact(place, attested)


def test_an_index_must_list_an_image_of_the_product(signing: Tool, plain: Running, made: Made) -> None:
    """Not the kernel's digest, nor that of the init image, both of which the sign-off names too."""
    digest = plain.pusher.push("shop", made)
    sha256 = next(one for one in made.manifests if one != digest).removeprefix("sha256:")
    first, *others = green_records()
    assert first.bootable
    contents = (ImageContents(image="init", sha256=sha256, roles=("init",)),)
    kernel, image = (Artefact(kind=kind, name="x", path="/x", sha256=sha256, size_bytes=1) for kind in KINDS)
    records = (
        first.model_copy(update={"artefacts": (kernel,)}),
        first.model_copy(
            update={"artefacts": (image,), "bootable": first.bootable.model_copy(update={"contents": contents})}
        ),
    )
    for record in records:
        folder = written(signing, [record, *others])
        signing.make(folder)
        attested = json.loads((folder / "signoff" / RELEASE / STATEMENT_FILE).read_bytes())
        assert sha256 in json.dumps(attested["predicate"]["configuration"])
        said = signing("push", folder, "--release", RELEASE, "--image", f"{plain.host}/shop@{digest}", status=2)
        assert "the run did not test this image" in said


def get(url: str, status: int = 200) -> Any:
    reply = httpx.get(url, headers={"Accept": f"{INDEX}, {MANIFEST}"})
    assert reply.status_code == status, reply.text
    return reply.json()


def test_a_sign_off_is_found_by_the_image_s_digest(signing: Tool, plain: Running, made: Made, tmp_path: Path) -> None:
    digest = plain.pusher.push("shop", made)
    platform = next(one for one in made.manifests if one != digest)
    private, public = write_keys(tmp_path)
    folder = signed(signing, platform.removeprefix("sha256:"), "--sign-key", private)
    image = f"{plain.host}/shop@{digest}"
    for _ in range(2):  # the second time changes nothing
        told = signing("push", folder, "--release", RELEASE, "--image", image, "--key", public)
        assert f"{image}: {RELEASE} attached as sha256:" in told
    index = get(f"{plain.pusher.url}/v2/shop/manifests/{digest.replace(':', '-')}")
    (entry,) = index["manifests"]
    assert entry["artifactType"] == "application/vnd.dsse.envelope.v1+json"
    assert entry["digest"] in told
    manifest = get(f"{plain.pusher.url}/v2/shop/manifests/{entry['digest']}")
    assert manifest["subject"]["digest"] == digest
    place = folder / "signoff" / RELEASE
    for layer in manifest["layers"]:
        data = httpx.get(f"{plain.pusher.url}/v2/shop/blobs/{layer['digest']}").content
        assert data == (place / layer["annotations"]["org.opencontainers.image.title"]).read_bytes()
    assert len(manifest["layers"]) == len(list(place.iterdir()))


def test_a_registry_that_lists_referrers_is_left_to_it(signing: Tool, made: Made, tmp_path: Path) -> None:
    """Its answer names the subject, so no tag is written. Each release is an artifact of its own."""
    digest, platform = made.digest, next(one for one in made.manifests if one != made.digest)
    private, public = write_keys(tmp_path)
    folder = signed(signing, platform.removeprefix("sha256:"), "--sign-key", private)
    later = "influxdb-1.6.8"
    signing(folder, "--release", later, "--no-pdf", "--sign-key", private)
    with referrers_registry() as registry:
        url, image = f"http://{registry.host}/v2/shop", f"{registry.host}/shop@{digest}"
        assert Pusher(f"http://{registry.host}").push("shop", made) == digest
        assert get(f"{url}/referrers/{digest}")["manifests"] == []
        for release in (RELEASE, RELEASE, later):  # the second time changes nothing
            signing("push", folder, "--release", release, "--image", image, "--key", public)
        kind = "application/vnd.dsse.envelope.v1+json"
        entries = get(f"{url}/referrers/{digest}?artifactType={quote(kind)}")["manifests"]
        names = [entry["annotations"]["org.opencontainers.image.version"] for entry in entries]
        assert names == [RELEASE, later]
        assert get(f"{url}/referrers/{digest}?artifactType=application/spdx%2Bjson")["manifests"] == []
        get(f"{url}/manifests/{digest.replace(':', '-')}", status=404)
        for entry, release in zip(entries, names, strict=True):
            manifest = get(f"{url}/manifests/{entry['digest']}")
            assert (manifest["artifactType"], manifest["subject"]["digest"]) == (kind, digest)
            taken = tmp_path / f"taken-{release}"
            taken.mkdir()
            for layer in manifest["layers"]:
                name = layer["annotations"]["org.opencontainers.image.title"]
                (taken / name).write_bytes(httpx.get(f"{url}/blobs/{layer['digest']}").content)
            assert "unchanged; signed by" in signing("verify", taken / "report.html", "--key", public)


def test_only_a_valid_sign_off_of_this_image_is_pushed(
    signing: Tool, plain: Running, made: Made, tmp_path: Path
) -> None:
    digest = plain.pusher.push("other", made)
    folder = signed(signing, hashlib.sha256(b"another image").hexdigest())
    push = ("push", folder, "--release", RELEASE, "--image")
    assert "the run did not test this image" in signing(*push, f"{plain.host}/other:1", status=2)
    assert "has no image" in signing(*push, f"{plain.host}/other:9", status=2)
    assert "does not answer" in signing(*push, "127.0.0.1:9/other:1", status=3)
    assert "needs --image" in signing(*push[:-1], status=2)
    _, public = write_keys(tmp_path)
    assert "not signed" in signing(*push, f"{plain.host}/other:1", "--key", public, status=1)
    (folder / "junit.xml").write_text("changed")
    assert "junit.xml: changed" in signing(*push, f"{plain.host}/other:1", status=1)
    get(f"{plain.pusher.url}/v2/other/manifests/{digest.replace(':', '-')}", status=404)


def test_an_image_that_may_be_an_index(signing: Tool) -> None:
    """It names the tested image as one of its platforms, and is another one."""
    tested = make_image(files(hello="hello"))
    other = make_image(files(hello="other"), manifests=[tested.described()])
    folder = signed(signing, tested.digest.removeprefix("sha256:"))
    with referrers_registry() as registry:
        registry.manifests["shop", "1"] = other.media_type, other.root
        said = signing("push", folder, "--release", RELEASE, "--image", f"{registry.host}/shop:1", status=3)
    assert "ambiguous" in said

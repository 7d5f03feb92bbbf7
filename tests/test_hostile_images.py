"""Images that want out, or want too much: each is refused with a word, and nothing is written outside of the store."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_client import Listener, files_of
from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.tree import Tree, write_tar
from bootmatrix.errors import BootmatrixError, BuildError, InputError, NetworkError, UntrustedError
from bootmatrix.model import ImageSource, Registry, StoredImage
from bootmatrix.source import safe_archive
from bootmatrix.source.images import blobs, pull
from bootmatrix.source.images.auth import Authorization
from bootmatrix.source.images.credentials import Credentials
from bootmatrix.source.images.endpoint import Endpoint
from bootmatrix.source.images.images import Images
from bootmatrix.source.images.layout import open_layout
from bootmatrix.source.images.reference import Reference
from bootmatrix.source.images.referrers import Artifact, attach
from bootmatrix.source.images.registry_access import Access
from bootmatrix.source.images.www_authenticate import belong_together, challenges
from bootmatrix.source.lock_recorder import Used
from bootmatrix.store import Store
from image_maker import Made, files, gzipped, make_image, make_index, sha256, write_layout, write_saved, zstd
from packages import entry, folder, hard_link, link, make_tar
from registry_fixtures import Authority, serving
from small_server import QuietHandler

pytest_plugins = ("registry_fixtures",)

AMD64 = "linux/amd64"


def images(tmp_path: Path, **access: Any) -> Images:
    return Images(Store(tmp_path / "cache"), Listener(), Used(), Access(folder=tmp_path, **access))


def taken(tmp_path: Path, made: Made, platform: str = AMD64) -> StoredImage:
    """An image out of an OCI layout."""
    layout = write_layout(tmp_path, made)
    return images(tmp_path).image(ImageSource(kind="oci", path=str(layout)), platform)


def tree_of(tmp_path: Path, *layers: bytes) -> Tree:
    return image_tree(taken(tmp_path, make_image(*layers)), Store(tmp_path / "cache"))


def contents(tree: Tree) -> dict[str, str]:
    return {path: node.read().decode() for path, node in tree.items() if node.kind == "file"}


def refusal(act: Callable[[], object], kind: type[BootmatrixError] = BuildError) -> str:
    with pytest.raises(kind) as caught:
        act()
    return str(caught.value)


# ---- paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([entry("../evil", b"x")], "leaves the image's root"),
        ([entry("a/../../evil", b"x")], "leaves the image's root"),
        ([hard_link("a", "../../../etc/passwd")], "leaves the image's root"),
        ([hard_link("a", "/etc/passwd")], "which does not exist"),
        ([link("l", "/etc"), hard_link("a", "l/passwd")], "which does not exist"),
        ([link("a", "b"), link("b", "a"), entry("a/x", b"x")], "form a loop"),
        ([entry("a", kind=b"7")], "forbidden tar type b'7'"),
        ([entry("dev/x", kind=tarfile.CHRTYPE, major=1 << 20, minor=1 << 33)], "cannot be a device number"),
        ([entry("dev/x", kind=tarfile.CHRTYPE, major=1 << 21, minor=0)], "cannot be a device number"),
        ([entry("../.wh.evil")], "leaves the image's root"),
    ],
)
def test_what_leads_out_is_refused(tmp_path: Path, members: list[tarfile.TarInfo], message: str) -> None:
    (tmp_path / "evil").write_text("untouched")
    layer = make_tar(members)
    said = refusal(lambda: tree_of(tmp_path, layer))
    assert said.startswith(f"the image {tmp_path / 'layout'}: ")
    assert message in said
    assert (tmp_path / "evil").read_text() == "untouched"
    outside = [name for name in files_of(tmp_path) if not name.startswith(("cache/", "layout/"))]
    assert outside == ["evil"]


def test_what_stays_inside_is_kept_as_it_is(tmp_path: Path) -> None:
    """Absolute names, links to anywhere, devices and setuid mean something in the guest, and nothing on the host."""
    layer = make_tar(
        [
            entry("/etc/name", b"absolute"),
            link("out", "../../../../tmp"),
            entry("out/x", b"through a link"),
            entry("bin/su", b"su", mode=0o4755),
            entry("dev/null", kind=tarfile.CHRTYPE, major=1, minor=3),
            hard_link("bin/same", "bin/su"),
        ]
    )
    tree = tree_of(tmp_path, layer)
    assert contents(tree) == {"etc/name": "absolute", "tmp/x": "through a link", "bin/su": "su", "bin/same": "su"}
    assert tree.nodes["bin/su"].mode == 0o4755
    assert tree.nodes["bin/su"] is tree.nodes["bin/same"]
    assert tree.nodes["dev/null"].device == (1, 3)
    assert all(not path.stat().st_mode & 0o6111 for path in (tmp_path / "cache/blobs").rglob("*") if path.is_file())


PIECES = st.sampled_from(["..", ".", "", "a", "b", ".wh.a", ".wh..wh..opq", ".wh...", "/"])
ENTRIES = st.lists(
    st.tuples(st.sampled_from("fdlh"), st.lists(PIECES, min_size=1, max_size=4), st.lists(PIECES, max_size=4)),
    max_size=6,
)


@given(st.lists(ENTRIES, min_size=1, max_size=3))
def test_no_layer_ever_has_a_path_that_leads_out(
    tmp_path_factory: pytest.TempPathFactory, layers: Sequence[Any]
) -> None:
    makers = {"f": lambda n, t: entry(n, b"x"), "d": lambda n, t: folder(n), "l": link, "h": hard_link}
    tree = Tree()
    path = tmp_path_factory.getbasetemp() / "layer"
    for layer in layers:
        path.write_bytes(make_tar(makers[kind]("/".join(name), "/".join(to)) for kind, name, to in layer))
        try:
            tree.add_layer(path)
        except BuildError:
            continue
    for name in tree.nodes:
        assert name
        assert not {"", ".", ".."} & set(name.split("/"))


# ---- layers upon each other ---------------------------------------------------------------------------------------


def test_what_a_layer_takes_away_is_gone(tmp_path: Path) -> None:
    below = files(a="1", b="1", d__x="1", d__y="1", o__x="1", o__s__y="1")
    above = make_tar(
        [
            entry("new", b"2"),
            entry(".wh.a"),
            entry("d/.wh.x"),
            entry("o/new", b"2"),  # stands before what makes the folder opaque, and stays
            entry("o/.wh..wh..opq"),
            entry(".wh.not-there"),
        ]
    )
    tree = tree_of(tmp_path, below, above)
    assert contents(tree) == {"b": "1", "d/y": "1", "new": "2", "o/new": "2"}
    assert not any(".wh." in path for path in tree.nodes)


def test_a_layer_takes_nothing_of_its_own_away(tmp_path: Path) -> None:
    assert contents(tree_of(tmp_path, make_tar([entry("a", b"1"), entry(".wh.a")]))) == {"a": "1"}


def test_kinds_change_from_layer_to_layer(tmp_path: Path) -> None:
    below = make_tar(
        [link("l", "d"), folder("d"), entry("d/x", b"1"), entry("f", b"1"), folder("g"), entry("g/x", b"1")]
    )
    above = make_tar([folder("l"), entry("l/y", b"2"), folder("f"), entry("f/z", b"2"), entry("g", b"2")])
    assert contents(tree_of(tmp_path, below, above)) == {"d/x": "1", "l/y": "2", "f/z": "2", "g": "2"}


def test_capabilities_of_files_are_kept_and_nothing_that_steers_an_overlay(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("ping")
        capability = b"\1\0\0\2\0\x20\xff\0".decode("utf-8", "surrogateescape")
        member.pax_headers = {
            "SCHILY.xattr.security.capability": capability,
            "SCHILY.xattr.user.note": "mine",
            "SCHILY.xattr.trusted.overlay.redirect": "/etc",
            "SCHILY.xattr.security.selinux": "x",
        }
        archive.addfile(member)
    tree = tree_of(tmp_path, buffer.getvalue())
    assert tree.nodes["ping"].xattrs == (("security.capability", capability), ("user.note", "mine"))
    again = io.BytesIO()
    with tarfile.open(fileobj=again, mode="w", format=tarfile.PAX_FORMAT) as archive:
        write_tar(tree, archive, 0)
    again.seek(0)
    with tarfile.open(fileobj=again) as archive:
        found = archive.getmembers()[0].pax_headers
    assert found["SCHILY.xattr.security.capability"] == capability


# ---- too much -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [gzipped, zstd])
def test_a_layer_that_unpacks_to_too_much(
    tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_archive, "FREE_BYTES", 1 << 20)
    made = make_image(make_tar([entry("zeros", bytes(8 << 20))]), pack=pack)
    assert "unpacks to more than 200 times its size" in refusal(lambda: taken(tmp_path, made))
    assert not list((tmp_path / "cache/temp").iterdir())


def test_layers_that_are_too_much_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "IMAGE_LIMIT_BYTES", 30 << 10)
    made = make_image(files(a="1"), files(b="1"), files(c="1"), files(d="1"))
    assert "unpacks to more than" in refusal(lambda: taken(tmp_path, made))


def test_too_many_layers(tmp_path: Path) -> None:
    one = make_image(files(a="1"))
    manifest = json.loads(one.root)
    manifest["layers"] *= blobs.MAX_LAYERS + 1
    huge = Made(json.dumps(manifest).encode(), one.blobs)
    assert "at most 512" in refusal(lambda: taken(tmp_path, huge))


def test_a_manifest_that_is_huge(tmp_path: Path) -> None:
    made = make_image(files(a="1"), annotations={"x": "x" * (5 << 20)})
    assert "too large" in refusal(lambda: taken(tmp_path, make_index({AMD64: made})))


def test_what_is_said_to_be_too_much_is_not_even_fetched(tmp_path: Path) -> None:
    made = changed(GOOD, layers=[{**LAYER, "size": 9 << 30}])
    assert "is larger than 8 GiB" in refusal(lambda: taken(tmp_path, made))


def test_too_many_layers_of_dockers(tmp_path: Path) -> None:
    config = {"os": "linux", "architecture": "amd64"}
    path = write_saved(tmp_path, [files(a="1")] * (blobs.MAX_LAYERS + 1), config, ["mine:1"])
    source = ImageSource(kind="docker-archive", path=str(path))
    assert "more than 512 layers" in refusal(lambda: images(tmp_path).image(source, AMD64))


def test_a_file_that_is_named_many_times_is_digested_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_saved(tmp_path, [files(a="1")] * 100, {"os": "linux", "architecture": "amd64"}, ["mine:1"])
    digested: list[int] = []
    sha256_of = blobs.BlobLocation.sha256
    monkeypatch.setattr(blobs.BlobLocation, "sha256", lambda it: digested.append(it.offset) or sha256_of(it))  # type: ignore[func-returns-value]
    layout = open_layout(path)
    for _ in range(3):
        layout.document("mine:1")
    assert len(digested) == len(set(digested))


def test_an_index_that_names_others_thousands_of_times(tmp_path: Path) -> None:
    documents: dict[str, bytes] = {}

    def entry_of(document: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(document).encode()
        documents[f"blobs/{sha256(data).replace(':', '/')}"] = data
        return {"digest": sha256(data), "size": len(data), "platform": {"architecture": "amd64"}}

    entry = entry_of({"config": {"digest": f"sha256:{'1' * 64}", "size": 2}, "layers": []})
    for _ in range(2):
        entry = entry_of({"manifests": [entry] * 3000})
    documents["index.json"] = json.dumps({"manifests": [entry]}).encode()
    documents["manifest.json"] = json.dumps([{"Config": "c", "Layers": [], "RepoTags": ["a:1"]}]).encode()
    (tmp_path / "x.tar").write_bytes(files(c="{}", **{name: data.decode() for name, data in documents.items()}))
    begun = time.process_time()
    assert "describe different images" in refusal(lambda: open_layout(tmp_path / "x.tar").document(""))
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "9" * 30},
        {"size": "-1"},
        {"GNU.sparse.size": "x"},
        {"GNU.sparse.map": "a,b"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
    ],
)
def test_extended_headers_that_say_nonsense(tmp_path: Path, headers: dict[str, str]) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member("index.json", headers), io.BytesIO(b"{}"))
    source = ImageSource(kind="oci-archive", path=str(tmp_path / "x.tar"))
    assert "x.tar is not an image, or damaged" in refusal(lambda: images(tmp_path).image(source, AMD64))


def header(kind: bytes, data: bytes, name: str = "x") -> bytes:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, len(data)
    return made.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


@pytest.mark.parametrize("records", [b"1" * 65536, b"9 a=bcde", b"99 path=a\n", b"10 path=ab\n", b"12 path=ab\n"])
def test_extended_headers_of_another_form(tmp_path: Path, records: bytes) -> None:
    layer = header(tarfile.XHDTYPE, records) + header(tarfile.REGTYPE, b"") + bytes(1024)
    assert "an extended header of its tar archive is corrupt" in refusal(lambda: tree_of(tmp_path, layer))


def test_extended_headers_that_nobody_reads_are_not_kept_for_each_file(tmp_path: Path) -> None:
    records = b"".join(b"7 %s=\n" % chr(code).encode() for code in range(0x1000, 0x3000))
    layer = header(tarfile.XGLTYPE, records) + b"".join(header(tarfile.REGTYPE, b"", f"f{i}") for i in range(50))
    (tmp_path / "layer").write_bytes(layer + bytes(1024))
    with safe_archive.PaxArchive.open(tmp_path / "layer", mode="r:") as archive:
        assert [len(file.pax_headers) for file in archive] == [0] * 50
        assert not archive.pax_headers


def test_extended_attributes_and_extents_that_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_archive, "HEADERS_BYTES", 200_000)
    names = b"".join(b"21 SCHILY.xattr.%03d=\n" % number for number in range(1000))
    attributes = header(tarfile.XGLTYPE, names) + header(tarfile.REGTYPE, b"") + header(tarfile.REGTYPE, b"")
    extents = "".join(f"{2 * number}\n1\n" for number in range(2000))
    data = f"2000\n{extents}".encode()
    data += bytes(-len(data) % tarfile.BLOCKSIZE) + bytes(2000)
    sparse = pax_record("GNU.sparse.major", "1") + pax_record("GNU.sparse.minor", "0")
    sparse += pax_record("GNU.sparse.realsize", "4000")
    for layer in (attributes, header(tarfile.XHDTYPE, sparse) + header(tarfile.REGTYPE, data)):
        assert "headers exceed" in refusal(lambda layer=layer: tree_of(tmp_path, layer + bytes(1024)))  # type: ignore[misc]


def pax_record(name: str, value: str) -> bytes:
    size = len(name) + len(value) + 5  # of two digits
    return f"{size} {name}={value}\n".encode()


def member(name: str, headers: dict[str, str]) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.pax_headers = 2, headers
    return made


def test_a_part_that_cannot_be_read(tmp_path: Path) -> None:
    layout = open_layout(write_layout(tmp_path, GOOD))
    for blob in (tmp_path / "layout/blobs/sha256").iterdir():
        blob.unlink()
    assert "cannot be read: No such file" in refusal(lambda: layout.document(""), InputError)


@pytest.mark.parametrize(
    "config", [{"Entrypoint": "sh"}, {"Env": {"A": "1"}}, {"User": "\ud800"}, {"Labels": {"a": 1}}]
)
def test_a_configuration_of_something_else_than_texts(tmp_path: Path, config: dict[str, object]) -> None:
    made = make_image(files(a="1"), config=config)
    assert "expected text" in refusal(lambda: taken(tmp_path, made))


# ---- other than announced -----------------------------------------------------------------------------------------


def changed(made: Made, **more: object) -> Made:
    """The same with another manifest."""
    return Made(json.dumps({**json.loads(made.root), **more}).encode(), made.blobs)


GOOD = make_image(files(a="1"))
LAYER = json.loads(GOOD.root)["layers"][0]


@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        (changed(GOOD, layers=[{**LAYER, "size": LAYER["size"] + 1}]), UntrustedError, "size mismatch"),
        (Made(GOOD.root, {**GOOD.blobs, LAYER["digest"]: gzipped(b"other")}), UntrustedError, "size mismatch"),
        (Made(GOOD.root, {**GOOD.blobs, LAYER["digest"]: bytes(LAYER["size"])}), UntrustedError, "SHA-256 mismatch"),
        (changed(GOOD, layers=[]), BuildError, "must have 0 diff_ids"),
        (changed(GOOD, layers="x"), BuildError, "must have a list of at most 512 layers"),
        (
            changed(GOOD, layers=[{"digest": "sha256:../../../etc/passwd", "size": 1}]),
            BuildError,
            "only sha256 is supported",
        ),
        (changed(GOOD, layers=[{**LAYER, "digest": "md5:0"}]), BuildError, "only sha256 is supported"),
        (changed(GOOD, layers=[{**LAYER, "size": -1}]), BuildError, "has an invalid size: -1"),
        (changed(GOOD, layers=[{**LAYER, "size": 1 << 60}]), BuildError, "invalid size"),
        (changed(GOOD, layers=[{**LAYER, "digest": "sha256:" + "0" * 64}]), BuildError, "lacks the blob"),
        (changed(GOOD, layers=[{**LAYER, "mediaType": "x.encrypted"}]), BuildError, "unsupported type"),
        (changed(GOOD, config=None), BuildError, "unsupported digest 'None'"),
        (Made(b"[]"), BuildError, "is not a JSON object"),
        (Made(b"{" * 100_000), BuildError, "is invalid JSON"),
        (Made(b'{"schemaVersion": 1, "fsLayers": []}'), BuildError, "unsupported schema 1"),
        (Made(b'{"manifests": [1, null, {}]}'), BuildError, "None"),
    ],
)
def test_images_that_are_not_what_they_say(
    tmp_path: Path, made: Made, kind: type[BootmatrixError], message: str
) -> None:
    found = refusal(lambda: taken(tmp_path, made), kind)
    assert message in found
    assert not list((tmp_path / "cache/temp").iterdir())


def test_what_a_layer_unpacks_to_is_checked_too(tmp_path: Path) -> None:
    other = make_image(files(a="2"))
    swapped = Made(json.dumps({**json.loads(GOOD.root), "layers": json.loads(other.root)["layers"]}).encode())
    swapped.blobs |= {**GOOD.blobs, **other.blobs}
    assert "but the image's configuration has" in refusal(lambda: taken(tmp_path, swapped), UntrustedError)


@pytest.mark.parametrize("pack", [gzipped, zstd])
def test_a_layer_that_breaks_off(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """The zstandard library's own reader says nothing of it."""
    made = make_image(make_tar([entry("a", bytes(range(256)) * 99)]), pack=lambda data: pack(data)[:-9])
    assert "cannot be unpacked" in refusal(lambda: taken(tmp_path, made))


def test_indexes_that_lead_to_indexes(tmp_path: Path) -> None:
    made = GOOD
    for _ in range(pull.MAX_INDEXES + 1):
        made = make_index({AMD64: made})
    assert "more than 4 deep" in refusal(lambda: taken(tmp_path, made))


def test_an_index_that_says_to_be_its_own_part(tmp_path: Path) -> None:
    lie = {
        "manifests": [
            {"digest": "sha256:" + "1" * 64, "size": 200, "platform": {"os": "linux", "architecture": "amd64"}}
        ]
    }
    root = json.dumps(lie).ljust(200).encode()
    assert "SHA-256 mismatch" in refusal(
        lambda: taken(tmp_path, Made(root, {"sha256:" + "1" * 64: root})), UntrustedError
    )


# ---- registries that lie ------------------------------------------------------------------------------------------


class Liar(QuietHandler):
    """Answers by path: (status, headers, body)."""

    answers: dict[str, tuple[int, dict[str, str], bytes]]
    seen: list[tuple[str, str, str]]

    def do_GET(self) -> None:
        self.seen.append((self.headers["Host"], self.path, self.headers.get("Authorization", "")))
        found = next((answer for path, answer in self.answers.items() if path in self.path), (404, {}, b""))
        status, headers, body = found
        self.send_whole(status, body, headers)

    do_HEAD = do_POST = do_GET


@contextmanager
def lying(tls: Authority | None = None) -> Iterator[tuple[str, type[Liar]]]:
    handler = type("Handler", (Liar,), {"answers": {}, "seen": []})
    with serving(handler, tls) as host:
        yield host, handler


@pytest.fixture(autouse=True)
def logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Says a password for a registry."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr("bootmatrix.source.download.PAUSES_S", ())

    def log_in(host: str) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"username": "me", "password": "secret"}}}))

    return log_in


def asked(tmp_path: Path, host: str, **access: Any) -> StoredImage:
    return images(tmp_path, **access).image(ImageSource(kind="docker", name=f"{host}/x:1"), AMD64)


def test_a_password_is_not_told_to_who_is_not_the_registrys(tmp_path: Path, logged_in: Callable[[str], None]) -> None:
    with lying() as (host, registry):
        logged_in(host)
        for realm in ("https://evil.example/token", "http://evil.example/token", "https://127.0.0.1.evil.example/t"):
            registry.answers["/v2/"] = (401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}, b"")
            found = refusal(lambda: asked(tmp_path, host), UntrustedError)
            assert "evil.example" in found
            assert "secret" not in found


def test_a_password_does_not_follow_a_redirect(tmp_path: Path, logged_in: Callable[[str], None]) -> None:
    layer = files(a="1")
    made = make_image(layer)
    with lying() as (host, registry), lying() as (elsewhere, other):
        logged_in(host)
        challenge = {"WWW-Authenticate": 'Basic realm="x"'}
        there = elsewhere.replace("127.0.0.1", "localhost")
        other.answers = {"/v2/": (401, challenge, b"")}
        registry.answers = {"/manifests/": (401, challenge, b"")}
        assert "were rejected" in refusal(lambda: asked(tmp_path, host), NetworkError)
        assert registry.seen[-1][2].startswith("Basic ")
        registry.answers = {"/manifests/": (307, {"Location": f"http://{there}/v2/x"}, b"")}
        refusal(lambda: asked(tmp_path, host), NetworkError)
        assert [login for _, _, login in other.seen] == [""]
        # A blob may well be elsewhere: its digest says whether it is the right one.
        registry.answers = {
            f"/manifests/{made.digest}": (200, {}, made.root),
            "/blobs/": (307, {"Location": f"http://{there}/blob"}, b""),
        }
        other.answers = {"/blob": (200, {}, b"something else")}
        source = ImageSource(kind="docker", name=f"{host}/x@{made.digest}")
        assert "bytes" in refusal(lambda: images(tmp_path).image(source, AMD64), UntrustedError)
        assert all(not login for _, _, login in other.seen)


def test_redirects_lead_neither_from_tls_to_plain_http_nor_round_and_round(
    tmp_path: Path, authority: Authority
) -> None:
    with lying(authority) as (host, registry), lying() as (plain, _):
        settings = {host: Registry(ca=str(authority.files[0]))}
        registry.answers = {"/v2/": (307, {"Location": f"http://{plain}/v2/"}, b"")}
        assert "refused" in refusal(lambda: asked(tmp_path, host, registries=settings), UntrustedError)
        registry.answers = {"/v2/": (307, {"Location": f"https://{host}/v2/"}, b"")}
        assert "redirects" in refusal(lambda: asked(tmp_path, host, registries=settings), NetworkError)


@pytest.mark.parametrize("place", ["https://xn--a/", f"https://{'a' * 64}.example/"])
def test_a_registry_that_leads_to_what_is_no_host(tmp_path: Path, place: str) -> None:
    with lying() as (host, registry):
        registry.answers = {"/v2/": (307, {"Location": place}, b"")}
        assert host in refusal(lambda: asked(tmp_path, host), NetworkError)


@pytest.mark.parametrize("realm", ["https://xn--a/", f"https://{'a' * 64}.example/", "https://[::::]/"])
def test_a_token_server_that_is_no_host(realm: str) -> None:
    auth = Authorization(Endpoint("r.example", "https", "r.example"), "x", lambda: None, httpx.Client)
    flow = auth.sync_auth_flow(httpx.Request("GET", "https://r.example/v2/"))
    challenge = httpx.Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'}, request=next(flow))
    refusal(lambda: flow.send(challenge), NetworkError)


def test_a_token_is_asked_for_as_it_is(tmp_path: Path) -> None:
    """It is read within a limit, before anything unpacks it."""
    accepted = []

    class Tokens(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            accepted.append(request.headers["Accept-Encoding"])
            return httpx.Response(200, stream=httpx.ByteStream(b'{"token": "t"}'))

    for credentials in (None, Credentials("me", "secret"), Credentials(token="secret")):
        endpoint = Endpoint("r.example", "https", "r.example")
        auth = Authorization(
            endpoint, "x", partial(lambda found: found, credentials), lambda: httpx.Client(transport=Tokens())
        )
        flow = auth.sync_auth_flow(httpx.Request("GET", "https://r.example/v2/"))
        headers = {"WWW-Authenticate": 'Bearer realm="https://r.example/t"'}
        again = flow.send(httpx.Response(401, headers=headers, request=next(flow)))
        assert again.headers["Authorization"] == "Bearer t"
    assert accepted == ["identity"] * 3


def test_a_manifest_without_end(tmp_path: Path) -> None:
    with lying() as (host, registry):
        registry.answers = {"/manifests/": (200, {}, bytes(5 << 20))}
        assert "larger than the limit" in refusal(lambda: asked(tmp_path, host), NetworkError)


@pytest.mark.parametrize(
    ("status", "place", "fault"),
    [(202, "a" * 70_000, "sends the upload to no URL"), (307, "/v2/x/blobs/uploads/", "maximum allowed redirects")],
)
def test_an_upload_that_leads_nowhere(status: int, place: str, fault: str) -> None:
    with lying() as (host, registry):
        registry.answers = {
            "/manifests/": (200, {}, GOOD.root),
            "/blobs/uploads/": (status, {"Location": place}, b""),
        }
        artifact = Artifact("text/plain", [], {})
        endpoint, image = Endpoint(host, "http", host), Reference(host, "x", "1")
        tested = [hashlib.sha256(GOOD.root).hexdigest()]
        assert fault in refusal(lambda: attach(endpoint, image, artifact, tested), NetworkError)


def test_a_manifest_of_another_digest(tmp_path: Path) -> None:
    with lying() as (host, registry):
        registry.answers = {"/manifests/": (200, {}, GOOD.root)}
        source = ImageSource(kind="docker", name=f"{host}/x@{sha256(b'')}")
        assert "SHA-256 mismatch" in refusal(lambda: images(tmp_path).image(source, AMD64), UntrustedError)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": 7}', '{"token": "ü\\n"}'.encode(), b"{" * 9999])
def test_a_token_server_that_answers_nonsense(tmp_path: Path, body: bytes) -> None:
    with lying() as (host, registry):
        realm = f'Bearer realm="http://{host}/token"'
        registry.answers = {"/token": (200, {}, body), "/v2/": (401, {"WWW-Authenticate": realm}, b"")}
        assert "without a token" in refusal(lambda: asked(tmp_path, host), NetworkError)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("registry.example.com", "auth.example.com", True),
        ("example.com", "example.com", True),
        ("registry-1.docker.io", "auth.docker.io", True),
        ("example.com", "example.com.evil.org", False),
        ("a.example.com", "b.example.org", False),
        ("10.0.0.1", "10.1.0.1", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "127.0.0.1.evil.org", False),
        ("localhost", "com", False),
        ("::1", "fe80::1", False),
        ("mine.co.uk", "evil.co.uk", False),
        ("r.mine.co.uk", "auth.mine.co.uk", True),
        ("r.evil.com.br", "auth.mine.com.br", False),
    ],
)
def test_who_belongs_together(one: str, other: str, together: bool) -> None:
    assert belong_together(one, other) is together
    assert belong_together(other, one) is together


@given(st.text(max_size=200))
def test_any_challenge_is_read(text: str) -> None:
    for one in challenges([text, 'Bearer realm="https://a/b",service=x, Basic realm="y\\"z"']):
        assert one.scheme == one.scheme.lower()
    last = challenges(['Bearer realm="https://a/b",service=x, Basic realm="y\\"z"'])
    assert [(one.scheme, one.parameters) for one in last] == [
        ("bearer", {"realm": "https://a/b", "service": "x"}),
        ("basic", {"realm": 'y"z'}),
    ]


def test_credentials_never_show() -> None:
    assert "secret" not in repr(Credentials("me", "secret", "secret"))
    endpoint = Endpoint("r.example", "https", "r.example")
    assert "secret" not in repr(Authorization(endpoint, "x", lambda: Credentials("me", "secret"), lambda: None))  # type: ignore[arg-type, return-value]

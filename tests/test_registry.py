"""Images of real registries: pulled whole, verified, once; and every way in which that can go wrong."""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive_client import Listener
from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.errors import BootmatrixError, BuildError, HostError, InputError, NetworkError, Offline, UntrustedError
from bootmatrix.load.lock import load_lock
from bootmatrix.model import ImageSource, Lock, Registry, StoredImage
from bootmatrix.source.images.client import open_client
from bootmatrix.source.images.credentials import Credentials, find_credentials
from bootmatrix.source.images.endpoint import Endpoint
from bootmatrix.source.images.images import Images
from bootmatrix.source.images.registry_access import Access
from bootmatrix.source.lock_recorder import Used
from bootmatrix.store import Store
from image_maker import files, gzipped, make_image, make_index, zstd
from packages import entry, make_tar
from registry_fixtures import PASSWORD, USER, Authority, Running, serving
from small_server import QuietHandler

pytest_plugins = ("registry_fixtures",)

Open = Callable[..., Images]
Pull = Callable[[], StoredImage]


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def used() -> Used:
    return Used()


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: Listener, used: Used) -> Open:
    """Opens images over one store; there are no credentials but those that a test puts there."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()

    def open_them(**access: object) -> Images:
        return Images(Store(tmp_path / "cache"), listener, used, Access(folder=tmp_path, **access))  # type: ignore[arg-type]

    return open_them


def named(running: Running, name: str) -> ImageSource:
    return ImageSource(kind="docker", name=f"{running.host}/{name}")


def log_in(folder: Path, config: object) -> None:
    (folder / "docker/config.json").write_text(json.dumps(config))


def basic(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def error_of(act: Callable[[], object], kind: type[BootmatrixError]) -> str:
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) is kind or kind is not BuildError
    return str(caught.value)


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("pack", [gzipped, zstd, bytes])
def test_an_image_is_pulled_whole_and_once(
    plain: Running, images: Open, used: Used, docker: bool, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    config = {"Entrypoint": ["/a"], "Cmd": ["b"], "Env": ["A=1"], "WorkingDir": "/w", "User": "7", "Labels": {"x": "y"}}
    made = make_image(files(etc__one="1", two="2"), files(etc__one="new"), config=config, pack=pack, docker=docker)
    name = f"once{docker}{pack.__name__}".lower()
    digest = plain.pusher.push(name, made)
    image = images().image(named(plain, f"{name}:1"), "linux/amd64")
    assert image.digest == digest.removeprefix("sha256:")
    assert image.reference == f"{plain.host}/{name}:1"
    assert image.config.entrypoint == ("/a",)
    assert image.config.labels == {"x": "y"}
    assert (image.config.env, image.config.workdir, image.config.user) == (("A=1",), "/w", "7")
    tree = image_tree(image, Store(tmp_path / "cache"))
    assert {path: node.read() for path, node in tree.items() if node.kind == "file"} == {
        "etc/one": b"new",
        "two": b"2",
    }
    assert used.lock().images == {f"{plain.host}/{name}:1": digest}
    before = plain.requests(f"/v2/{name}/")
    assert images().image(named(plain, f"{name}:1"), "linux/amd64") == image
    assert plain.requests(f"/v2/{name}/") == before + 1  # what the tag means today
    assert images().image(named(plain, f"{name}@{digest}"), "linux/amd64").digest == image.digest
    assert plain.requests(f"/v2/{name}/") == before + 1


def test_a_tag_means_one_image_for_a_whole_run(plain: Running, images: Open) -> None:
    plain.pusher.push("moving", make_image(files(a="old")))
    run = images()
    first = run.image(named(plain, "moving:1"), "linux/amd64")
    plain.pusher.push("moving", make_image(files(a="new")))
    assert run.image(named(plain, "moving:1"), "linux/amd64") == first
    assert images(offline=True).image(named(plain, "moving:1"), "linux/amd64") == first
    lock = Lock(kernels={}, packages={}, images={f"{plain.host}/moving:1": f"sha256:{first.digest}"})
    assert images(lock=lock).image(named(plain, "moving:1"), "linux/amd64") == first
    assert images().image(named(plain, "moving:1"), "linux/amd64") != first


def test_a_digest_of_a_lock_names_no_file(tmp_path: Path) -> None:
    """It is a name in the store, where what does not have its digest is removed."""
    digest = f"sha256:../../../../..{tmp_path}/mine"
    (tmp_path / "a.lock").write_text(json.dumps({"kernels": {}, "packages": {}, "images": {"r.example/a:1": digest}}))
    with pytest.raises(InputError, match=r"a\.lock: not a lock file: images\.r\.example/a:1: "):
        load_lock(tmp_path / "a.lock")


def test_a_lock_that_lacks_an_image(plain: Running, images: Open) -> None:
    plain.pusher.push("unlocked", make_image(files(a="1")))
    lock = Lock(kernels={}, packages={})
    act: Pull = lambda: images(lock=lock).image(named(plain, "unlocked:1"), "linux/amd64")
    assert f"the lock lacks the image {plain.host}/unlocked:1" in error_of(act, BuildError)
    assert images(lock=lock, lock_is_whole=False).image(named(plain, "unlocked:1"), "linux/amd64")


def test_offline_is_the_cache_alone(plain: Running, images: Open) -> None:
    plain.pusher.push("away", make_image(files(a="1")))
    before = plain.requests("/v2/")
    act: Pull = lambda: images(offline=True).image(named(plain, "away:1"), "linux/amd64")
    assert "downloads are forbidden" in error_of(act, Offline)
    assert plain.requests("/v2/") == before


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("linux/arm/v7", "arm/v7"),
        ("linux/arm/v6", "arm/v6"),
        ("linux/arm/v5", None),
        ("linux/amd64", "amd64"),
        ("linux/amd64/v3", "amd64/v2"),
        ("linux/arm64", "arm64/v8"),
        ("linux/riscv64", None),
    ],
)
def test_an_index_has_an_image_for_each_platform(
    plain: Running, images: Open, docker: bool, wanted: str, found: str | None
) -> None:
    there = ("amd64/v2", "amd64", "arm64/v8", "arm/v6", "arm/v7", "s390x")
    made = {f"linux/{one}": make_image(files(a=one), platform=f"linux/{one}", docker=docker) for one in there}
    plain.pusher.push(f"many{docker}".lower(), make_index(made, docker))
    act: Pull = lambda: images().image(named(plain, f"many{docker}:1".lower()), wanted)
    if found:
        assert act().digest == made[f"linux/{found}"].digest.removeprefix("sha256:")
    else:
        message = error_of(act, BuildError)
        assert f"has no image for {wanted}; available: linux/amd64, linux/amd64/v2, linux/arm/v6" in message


def test_an_image_for_another_platform_is_told_before_it_is_booted(plain: Running, images: Open) -> None:
    plain.pusher.push("other", make_image(files(a="1"), platform="linux/s390x"))
    act: Pull = lambda: images().image(named(plain, "other:1"), "linux/amd64")
    assert "is for linux/s390x, expected linux/amd64" in error_of(act, BuildError)


@pytest.mark.parametrize("name", ["none:1", "none/there/at/all:2", "none@sha256:" + "0" * 64])
def test_no_such_image(plain: Running, images: Open, name: str) -> None:
    act: Pull = lambda: images().image(named(plain, name), "linux/amd64")
    assert f"the registry {plain.host} has no image {plain.host}/{name}" in error_of(act, BuildError)


@pytest.mark.parametrize("spoilt", ["manifest", "config", "layer"])
def test_what_is_not_what_it_should_be_is_not_taken(plain: Running, images: Open, tmp_path: Path, spoilt: str) -> None:
    made = make_image(files(a=f"good {spoilt}"))
    manifest = json.loads(made.root)
    digest = plain.pusher.push(f"bad{spoilt}", made)
    victim = {
        "manifest": digest,
        "config": manifest["config"]["digest"],
        "layer": manifest["layers"][0]["digest"],
    }[spoilt].removeprefix("sha256:")
    blob = plain.storage / f"docker/registry/v2/blobs/sha256/{victim[:2]}/{victim}/data"
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    act: Pull = lambda: images().image(named(plain, f"bad{spoilt}@{digest}"), "linux/amd64")
    with pytest.raises((UntrustedError, NetworkError)):  # a registry that checks itself answers 500
        act()
    assert not any(victim in str(path) for path in (tmp_path / "cache/blobs").rglob("*"))


INDEX_TYPE, MANIFEST_TYPE = (f"application/vnd.oci.image.{kind}.v1+json" for kind in ("index", "manifest"))


@contextmanager
def serving_document(body: bytes, media_type: str, status: int = 200, blobs: Mapping[str, bytes] = {}) -> Iterator[str]:
    """A registry that sends this as every manifest."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            blob = blobs.get(self.path.rsplit("/", 1)[1])
            data = body if blob is None else blob
            self.send_response(200 if blob else status)
            if media_type and blob is None:
                self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data if status != 304 else b"")

    with serving(Handler) as host:
        yield host


@pytest.mark.parametrize(
    ("media_type", "fault"),
    [
        (INDEX_TYPE, "sends it as application/vnd.oci.image.index.v1+json, but it says application/vnd.oci.image.man"),
        (f"{INDEX_TYPE}; charset=utf-8", "sends it as application/vnd.oci.image.index.v1+json"),
        (MANIFEST_TYPE.replace("oci.image", "docker.distribution"), "sends it as application/vnd.docker"),
        ("text/html; charset=utf-8", "answered with a page"),
        (MANIFEST_TYPE, ""),
        (MANIFEST_TYPE.upper(), ""),
        ("application/json", ""),
        ("application/octet-stream", ""),
        ("", ""),
    ],
)
def test_the_registrys_media_type_agrees_with_the_document(images: Open, media_type: str, fault: str) -> None:
    made = make_image(files(a=media_type))
    with serving_document(made.root, media_type, blobs=made.blobs) as host:
        source = ImageSource(kind="docker", name=f"{host}/mine:1")
        if not fault:
            assert images().image(source, "linux/amd64").digest == made.digest.removeprefix("sha256:")
            return
        with pytest.raises((UntrustedError, NetworkError), match=re.escape(fault)):
            images().image(source, "linux/amd64")


def test_a_media_type_contradicts_a_document_that_has_none(images: Open) -> None:
    document = {key: value for key, value in json.loads(make_image(files(a="x")).root).items() if key != "mediaType"}
    with serving_document(json.dumps(document).encode(), INDEX_TYPE) as host:
        act: Pull = lambda: images().image(ImageSource(kind="docker", name=f"{host}/mine:1"), "linux/amd64")
        assert "does not match its media type" in error_of(act, UntrustedError)


@pytest.mark.parametrize("status", [206, 304, 416])
def test_an_answer_that_was_not_asked_for_is_the_servers_fault(images: Open, status: int) -> None:
    with serving_document(b"{}", "application/json", status) as host:
        act: Pull = lambda: images().image(ImageSource(kind="docker", name=f"{host}/mine:1"), "linux/amd64")
        assert f"the server answered {status}" in error_of(act, NetworkError)


# ---- who we are ---------------------------------------------------------------------------------------------------


def tls(running: Running, **more: object) -> dict[str, object]:
    return {"registries": {running.host: Registry(ca=str(running.ca), **more)}}  # type: ignore[arg-type]


def test_a_password_from_dockers_file(guarded: Running, images: Open, tmp_path: Path) -> None:
    guarded.pusher.push("closed", make_image(files(a="1")))
    log_in(tmp_path, {"auths": {guarded.host: basic()}})
    assert images(**tls(guarded)).image(named(guarded, "closed:1"), "linux/amd64")


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_password_from_a_helper(
    guarded: Running, images: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    helper = tmp_path / "docker-credential-tests"
    answer = json.dumps({"ServerURL": guarded.host, "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\nread -r name\n[ \"$1 $name\" = 'get {guarded.host}' ] || exit 1\necho '{answer}'\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    log_in(tmp_path, {key: "tests" if key == "credsStore" else {guarded.host: "tests"}})
    guarded.pusher.push("helped", make_image(files(a="1")))
    assert images(**tls(guarded)).image(named(guarded, "helped:1"), "linux/amd64")


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({}, NetworkError, "no credentials for {host} in {file}"),
        (
            {"auths": {"{host}": basic(password="wrong")}},
            NetworkError,
            "the credentials for {host} in {file} were rejected",
        ),
        ({"auths": {"{host}": {"auth": "%%%"}}}, InputError, "{file}: invalid entry '{host}' in 'auths'"),
        ({"auths": {"{host}": {"auth": "é"}}}, InputError, "{file}: invalid entry '{host}' in 'auths'"),
        ({"auths": {"{host}": {"identitytoken": "\ud800"}}}, InputError, "{file}: not a config.json of Docker"),
        (
            {"credHelpers": {"{host}": "none-there"}},
            HostError,
            "docker-credential-none-there is not installed, but required by {file}",
        ),
        (
            {"credHelpers": {"{host}": "../../bin/sh"}},
            InputError,
            "{file}: invalid name of a credential helper: '../../bin/sh'",
        ),
        ([], InputError, "{file}: not a config.json of Docker"),
    ],
)
def test_who_may_not_is_told_what_was_tried(
    guarded: Running, images: Open, tmp_path: Path, config: object, kind: type[BootmatrixError], message: str
) -> None:
    log_in(tmp_path, json.loads(json.dumps(config).replace("{host}", guarded.host)))
    act: Pull = lambda: images(**tls(guarded)).image(named(guarded, "closed:1"), "linux/amd64")
    found = error_of(act, kind)
    assert message.format(host=guarded.host, file=tmp_path / "docker/config.json") in found
    assert PASSWORD not in found


def test_a_certificate_of_nobody_is_not_believed(
    guarded: Running, images: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(tmp_path, {"auths": {guarded.host: basic()}})
    monkeypatch.setattr("bootmatrix.source.download.PAUSES_S", ())
    act: Pull = lambda: images(registries={guarded.host: Registry(plain_http=False)}).image(
        named(guarded, "closed:1"), "linux/amd64"
    )
    assert "certificate" in error_of(act, NetworkError).lower()
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.ca))
    guarded.pusher.push("closed", make_image(files(a="1")))
    assert act()


def test_a_token(tokened: Running, images: Open, tmp_path: Path) -> None:
    assert tokened.tokens
    made = make_image(files(a="1"))
    token = tokened.tokens.issue("repository:mine/one:pull", ["pull", "push"])
    pusher = type(tokened.pusher)(tokened.pusher.url, token=token)
    pusher.push("mine/one", made)
    log_in(tmp_path, {"auths": {tokened.host: basic()}})
    assert images().image(named(tokened, "mine/one:1"), "linux/amd64").digest == made.digest.removeprefix("sha256:")
    (asked,) = tokened.tokens.asked
    assert (asked["service"], asked["scope"]) == ("registry", "repository:mine/one:pull")
    # The same by a token that stands for a password, and without any where that is enough.
    log_in(tmp_path, {"auths": {tokened.host: {"identitytoken": PASSWORD}}})
    assert images().image(named(tokened, "mine/one:1"), "linux/amd64")
    assert tokened.tokens.asked[-1]["grant_type"] == "refresh_token"
    # One for the registry itself is shown to it and to nobody else.
    count = len(tokened.tokens.asked)
    log_in(tmp_path, {"auths": {tokened.host: {"registrytoken": token}}})
    assert images().image(named(tokened, "mine/one:1"), "linux/amd64")
    assert len(tokened.tokens.asked) == count
    log_in(tmp_path, {})
    act: Pull = lambda: images().image(named(tokened, "mine/one:1"), "linux/amd64")
    assert "no credentials for" in error_of(act, NetworkError)
    tokened.tokens.anonymous = True
    assert act()


@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", "https://index.docker.io/v1/"])
def test_a_helper_of_docker_hubs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    helper = tmp_path / "docker-credential-tests"
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\nread -r name\n[ \"$name\" = https://index.docker.io/v1/ ] && echo '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credHelpers": {key: "tests"}, "credsStore": "none-there"}))
    assert find_credentials("docker.io", config) == Credentials(USER, PASSWORD)
    with pytest.raises(HostError, match="none-there"):
        find_credentials("other.example", config)


def test_a_blob_goes_on_where_it_stopped_and_is_shown(
    plain: Running, images: Open, listener: Listener, tmp_path: Path
) -> None:
    made = make_image(make_tar([entry("large", random.Random(1).randbytes(300_000))]))
    plain.pusher.push("resumed", made)
    layer = json.loads(made.root)["layers"][0]
    sha256 = layer["digest"].removeprefix("sha256:")
    store = Store(tmp_path / "cache")
    store.partial(sha256).write_bytes(made.blobs[layer["digest"]][:200_000])
    assert images().image(named(plain, "resumed:1"), "linux/amd64")
    shown = [(done, total) for label, done, total in listener.downloads if sha256[:12] in label]
    assert shown[-1] == (layer["size"], layer["size"])
    assert all(done > 200_000 for done, _ in shown)
    log = [line for line in plain.log.read_text().splitlines() if f"/blobs/sha256:{sha256}" in line]
    assert any("http.response.status=206" in line for line in log), log


def test_certificates_where_docker_has_them(
    authority: Authority, images: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `certs.d`: those that are believed, and one of our own, which this registry asks for."""
    made = make_image(files(a="1"))
    bodies = {made.digest: made.root, **made.blobs}

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_whole(200, bodies.get(self.path.rsplit("/", 1)[1], made.root))

    monkeypatch.setattr("bootmatrix.source.download.PAUSES_S", ())
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(Handler, authority, wants_certificate=True) as host:
        source = ImageSource(kind="docker", name=f"{host}/mine:1")
        folder = tmp_path / ".config/docker/certs.d" / host
        folder.mkdir(parents=True)
        shutil.copy(authority.files[0], folder / "ca.crt")
        error_of(lambda: images().image(source, "linux/amd64"), NetworkError)
        shutil.copy(authority.files[0], folder / "client.cert")
        shutil.copy(authority.files[1], folder / "client.key")
        assert images().image(source, "linux/amd64").digest == made.digest.removeprefix("sha256:")


def test_no_password_is_sent_without_tls_by_the_word_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers: list[str | None] = []

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            headers.append(self.headers["Authorization"])
            self.send_whole(401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    log_in(tmp_path, {"auths": {"r.example": basic()}})
    place = Endpoint("r.example", "http", "r.example")
    with serving(Handler) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        with open_client(place, "x") as http:
            assert "without TLS: refused" in error_of(lambda: http.get(f"{place.url}/x"), UntrustedError)
            assert headers == [None]
            monkeypatch.setenv("BOOTMATRIX_REGISTRIES", "registries.yml")
            http.get(f"{place.url}/x")
            assert headers[-1] == Credentials(USER, PASSWORD).basic


# ---- mirrors ------------------------------------------------------------------------------------------------------


def test_a_mirror_comes_first_and_may_fail(plain: Running, images: Open, listener: Listener) -> None:
    made = make_image(files(a="mirrored"))
    plain.pusher.push("library/far", made)
    mirrors = (f"http://{plain.host}",)
    registries = {"far.example:5000": Registry(mirrors=mirrors), "docker.io": Registry(mirrors=mirrors)}
    run = images(registries=registries)
    for name in ("far.example:5000/library/far:1", "far:1"):
        image = run.image(ImageSource(kind="docker", name=name), "linux/amd64")
        assert image.digest == made.digest.removeprefix("sha256:")
    plain.pusher.push("near", made)
    failing = {plain.host: Registry(mirrors=("http://127.0.0.1:1",))}
    assert images(registries=failing).image(named(plain, "near:1"), "linux/amd64")
    assert any("skipped a mirror" in note for note in listener.notes)


def test_a_tag_of_a_folder_s_mirror_is_no_other_folder_s(plain: Running, images: Open) -> None:
    """The cache is shared, and the folder may be a checkout of somebody else."""
    plain.pusher.push("library/taken", make_image(files(a="over")))
    source = ImageSource(kind="docker", name="taken:1")
    settings = {"docker.io": Registry(mirrors=(f"http://{plain.host}",))}
    there = images(registries=settings).image(source, "linux/amd64")
    assert images(registries=settings, offline=True).image(source, "linux/amd64") == there
    assert "not in the cache" in error_of(lambda: images(offline=True).image(source, "linux/amd64"), Offline)

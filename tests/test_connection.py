"""Where connections lead is judged by the address connected to; who we are is told to the right server only."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest

from archive_client import Listener, Opener, kernel_source
from bootmatrix.errors import BootmatrixError, HostError, InfraError, NetworkError, UntrustedError
from bootmatrix.model import ImageSource, Registry
from bootmatrix.progress import NullObserver
from bootmatrix.source.addresses import Scope, is_loopback, literal_address, scope_of
from bootmatrix.source.archive import open_archive
from bootmatrix.source.connection import Guard, GuardedTransport, _DirectTransport, new_client, read_bounded
from bootmatrix.source.download import Downloader, Reply
from bootmatrix.source.images.images import Images
from bootmatrix.source.images.registry_access import Access
from bootmatrix.source.images.www_authenticate import belong_together
from bootmatrix.source.lock_recorder import Used
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store
from registry_fixtures import serving

pytest_plugins = ("archive_fixtures",)
PUBLIC = "http://8.8.8.8/"
"""An origin of the public network, which nothing here connects to."""


class Tries(httpx.Auth):
    """Answers a challenge by one more request."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if (yield request).status_code == 401:
            yield request


def own_address() -> str:
    """Return the address that this machine has for others; that of its loopback if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
            return str(one.getsockname()[0])
        except OSError:
            return "127.0.0.1"


NEAR = ["127.0.0.1", "127.1", "127.8.9.10", "0.0.0.0", "0", "0x7f000001", "0x7f.1", "2130706433", "localhost"]
NEAR += ["[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"]
NEAR += [socket.gethostname(), own_address()]


class Handler(BaseHTTPRequestHandler):
    """Answers by path: (status, headers, body)."""

    answers: dict[str, tuple[int, dict[str, str], bytes]]
    seen: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        found = next((answer for path, answer in self.answers.items() if path in self.path), (404, {}, b""))
        self.send_response(found[0])
        for name, value in {**found[1], "Content-Length": str(len(found[2]))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(found[2])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def answering(**answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Own", (Handler,), {"answers": dict(answers), "seen": []})
    with serving(handler) as host:
        yield host, handler


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr("bootmatrix.source.download.PAUSES_S", ())
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def by_proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has all requests sent by a proxy, as in many companies: so servers elsewhere can be told from those here."""

    def use(host: str) -> None:
        monkeypatch.setenv("http_proxy", f"http://{host}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")

    return use


def client(origin: str, **more: Any) -> httpx.Client:
    return new_client(GuardedTransport(Guard(httpx.URL(origin), **more), None))


def refusal(act: Callable[[], object], kind: type[BootmatrixError]) -> str:
    with pytest.raises(kind) as caught:
        act()
    return str(caught.value)


def pulled(tmp_path: Path, host: str, registry: Registry | None = None) -> object:
    access = Access(registries={host: registry} if registry else {}, folder=tmp_path)
    images = Images(Store(tmp_path / "cache"), NullObserver(), Used(), access)
    return images.image(ImageSource(kind="docker", name=f"{host}/x:1"), "linux/amd64")


# Addresses


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("127.0.0.1", Scope.MACHINE),
        ("0.0.0.0", Scope.MACHINE),
        ("::", Scope.MACHINE),
        ("::1", Scope.MACHINE),
        ("::ffff:127.0.0.1", Scope.MACHINE),
        ("2002:7f00:1::", Scope.MACHINE),
        ("169.254.169.254", Scope.LINK),
        ("::ffff:169.254.169.254", Scope.LINK),
        ("64:ff9b::a9fe:a9fe", Scope.LINK),
        ("fe80::1", Scope.LINK),
        ("168.63.129.16", Scope.LINK),
        ("100.100.100.200", Scope.LINK),
        ("fd00:ec2::254", Scope.LINK),
        ("::ffff:168.63.129.16", Scope.LINK),
        ("224.0.0.1", Scope.LINK),
        ("255.255.255.255", Scope.LINK),
        ("10.1.2.3", Scope.PRIVATE),
        ("172.16.0.1", Scope.PRIVATE),
        ("192.168.0.1", Scope.PRIVATE),
        ("100.64.0.1", Scope.PRIVATE),
        ("fd00::1", Scope.PRIVATE),
        ("fec0::1", Scope.PRIVATE),
        ("64:ff9b:1::a00:1", Scope.LINK),
        ("::ffff:0:7f00:1", Scope.MACHINE),
        ("::ffff:10.0.0.1", Scope.PRIVATE),
        ("2002:c0a8:1::", Scope.PRIVATE),
        ("8.8.8.8", Scope.PUBLIC),
        ("::ffff:8.8.8.8", Scope.PUBLIC),
        ("64:ff9b::808:808", Scope.PUBLIC),
        ("2001:4860:4860::8888", Scope.PUBLIC),
    ],
)
def test_how_far_away_an_address_is(text: str, scope: Scope) -> None:
    assert scope_of(ip_address(text)) is scope


@pytest.mark.parametrize(
    "text", ["127.1", "0x7f000001", "0177.0.0.1", "2130706433", "[::1]", "LOCALHOST", "127.0.0.1."]
)
def test_loopback_in_any_form(text: str) -> None:
    assert is_loopback(text)


@pytest.mark.parametrize("text", ["127.0.0.1.example", "localhost.example", "example", "128.1", "", "0x", "1.2.3.4.5"])
def test_what_is_no_loopback(text: str) -> None:
    assert not is_loopback(text)
    assert literal_address("127.0.0.1.example") is None


@pytest.mark.parametrize("other", ["evil.0x7f000001", "a.b.1", "0x7f.1", "127.1"])
def test_numbers_are_under_no_domain(other: str) -> None:
    assert not belong_together(f"registry.{other}", other)
    assert not belong_together("8.8.8.8", other)


# Where it leads


@pytest.mark.parametrize("host", dict.fromkeys(NEAR))
def test_from_elsewhere_nothing_leads_here(host: str) -> None:
    with answering() as (here, handler), client(PUBLIC) as http:
        port = here.rpartition(":")[2]
        said = refusal(lambda: http.get(f"http://{host}:{port}/secret"), UntrustedError)
        assert "which is on this machine" in said
        assert handler.seen == []


@pytest.mark.parametrize("host", ["10.0.0.1", "[fd00::1]", "192.168.3.4", "169.254.169.254", "[::ffff:10.0.0.1]"])
def test_from_elsewhere_nothing_leads_to_private_networks(host: str) -> None:
    with client(PUBLIC) as http:
        assert "which is on " in refusal(lambda: http.get(f"http://{host}/"), UntrustedError)


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[fe80::1]"])
def test_from_a_private_network_nothing_leads_nearer(host: str) -> None:
    with client("http://10.0.0.1/") as http:
        assert "which is on this machine" in refusal(lambda: http.get(f"http://{host}:9/"), UntrustedError)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f000001", "localhost"])
def test_what_the_user_named_is_asked_wherever_it_is(host: str) -> None:
    with answering(**{"/": (200, {}, b"yes")}) as (here, _):
        port = here.rpartition(":")[2]
        with client(f"http://{host}:{port}/") as http:
            assert http.get(f"http://{host}:{port}/").text == "yes"
        with client(PUBLIC, hosts=(host,)) as http:
            assert http.get(f"http://{host}:{port}/").text == "yes"


def test_a_name_that_leads_nearer_later_is_not_followed() -> None:
    guard = Guard(httpx.URL("http://registry.example/"))
    far, private, here = (ip_address(text) for text in ("8.8.8.8", "10.0.0.1", "127.0.0.1"))
    assert guard.permitted("registry.example", [far]) == [far]
    assert guard.permitted("registry.example", [here, far]) == [far]
    assert "farther away before" in refusal(lambda: guard.permitted("registry.example", [here]), UntrustedError)
    inside = Guard(httpx.URL("http://registry.example/"))
    assert inside.permitted("registry.example", [private, far]) == [private, far]
    assert inside.permitted("registry.example", [private]) == [private]
    refusal(lambda: inside.permitted("registry.example", [here]), UntrustedError)


def test_a_name_with_a_nearer_address_too_leads_nowhere_nearer_than_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server elsewhere whose name has this machine's address beside its own."""
    far, here = ip_address("8.8.8.8"), ip_address("127.0.0.1")
    monkeypatch.setattr("bootmatrix.source.connection.resolve", lambda _: [far, here])
    guard = Guard(httpx.URL("http://registry.example/"))
    assert guard.permitted("registry.example", [far, here]) == [far, here]
    guard.connected("registry.example", far)
    assert "leads to" in refusal(lambda: guard.permitted("127.0.0.1", [here]), UntrustedError)
    by_proxy = Guard(httpx.URL("http://registry.example/"))
    assert "leads to" in refusal(lambda: by_proxy.check_name("registry2.example"), UntrustedError)


def test_the_address_that_answers_is_the_one_judged_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first does not answer: a server here may lead to others here."""
    with answering(**{"/first": (302, {}, b""), "/second": (200, {}, b"yes")}) as (here, handler):
        port = int(here.rpartition(":")[2])
        handler.answers["/first"][1]["Location"] = f"http://{here}/second"
        real = socket.getaddrinfo
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in ("127.0.0.77", "127.0.0.1")]
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *more, **named: found if "x.example" in host else real(host, *more)
        )
        monkeypatch.setattr(
            "bootmatrix.source.connection.scope_of",
            lambda address: Scope.PUBLIC if str(address) == "127.0.0.77" else Scope.MACHINE,
        )
        with client(f"http://x.example:{port}/") as http:
            assert http.get(f"http://x.example:{port}/first").text == "yes"


def test_what_is_asked_without_tls_as_it_is_here_must_be_here() -> None:
    guard = Guard(httpx.URL("http://localhost:5000/"), only_here=True)
    assert "must be this machine without TLS" in refusal(
        lambda: guard.permitted("localhost", [ip_address("8.8.8.8")]), UntrustedError
    )


def test_the_very_address_that_was_judged_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that answers otherwise each time: what it says second is not asked for."""
    with answering(**{"/": (200, {}, b"yes")}) as (here, _):
        port = int(here.rpartition(":")[2])
        answers = [("127.0.0.1", port), ("192.0.2.9", port)]
        real = socket.getaddrinfo

        def lookup(host: Any, *more: Any, **options: Any) -> Any:
            if host != "fickle.example":
                return real(host, *more, **options)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", answers.pop(0))]

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        with client(f"http://fickle.example:{port}/") as http:
            assert http.get(f"http://fickle.example:{port}/").text == "yes"
        assert len(answers) == 1


def test_a_reply_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" "
            time.sleep(0.01)

    monkeypatch.setenv("BOOTMATRIX_DOWNLOAD_MAX_TIME", "1")
    reply = httpx.Response(200, content=body(), request=httpx.Request("GET", PUBLIC))
    with pytest.raises(NetworkError, match="is too slow: it took more than 1 s"):
        read_bounded(reply, 1 << 20)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
    ],
)
@pytest.mark.parametrize("by_proxy", [False, True])
def test_what_is_no_body_may_have_no_end(
    begin: bytes, more: bytes, by_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Handler):
        def do_GET(self) -> None:
            self.wfile.write(begin)
            with suppress(OSError):
                for _ in range(600):
                    self.wfile.write(more)
                    time.sleep(0.05)
            self.close_connection = True

    monkeypatch.setenv("BOOTMATRIX_DOWNLOAD_MAX_TIME", "1")
    with serving(Endless) as here:
        guard = Guard(httpx.URL(f"http://{here}/"))
        with (
            new_client(GuardedTransport(guard, f"http://{here}" if by_proxy else "")) as http,
            pytest.raises(httpx.ReadTimeout, match="the server is too slow: it took more than 1 s"),
        ):
            http.get(f"http://{here}/")


@pytest.mark.parametrize(
    ("status", "headers"), [(302, {"Location": "/second"}), (401, {"WWW-Authenticate": 'Basic realm="x"'})]
)
@pytest.mark.parametrize("body", [gzip.compress(bytes(64 << 20)), b"no gzip at all", bytes(1 << 20)])
def test_a_body_that_nobody_needs_is_not_unpacked(status: int, headers: dict[str, str], body: bytes) -> None:
    answers = {"/first": (status, {**headers, "Content-Encoding": "gzip"}, body), "/second": (200, {}, b"yes")}
    with answering(**answers) as (here, _), client(f"http://{here}/") as http:
        reply = http.get(f"http://{here}/first", auth=Tries())
        assert [passed.content for passed in reply.history] == [b""]
        assert reply.content == (b"yes" if status == 302 else b"")


def test_a_redirects_body_may_have_no_end() -> None:
    class Endless(Handler):
        def do_GET(self) -> None:
            self.send_response(302 if "second" not in self.path else 200)
            self.send_header("Location", "/second")
            self.end_headers()
            with suppress(OSError):
                while "second" not in self.path:
                    self.wfile.write(bytes(1 << 16))

    with serving(Endless) as here, client(f"http://{here}/") as http:
        assert http.get(f"http://{here}/first").status_code == 200


def test_the_transport_of_httpx_is_the_guarded_one() -> None:
    """Its pool has no public name: another version of httpx may give it another one."""
    transport = _DirectTransport(Guard(httpx.URL(PUBLIC)), httpx.create_ssl_context())
    assert type(transport._pool._network_backend).__name__ == "_GuardedBackend"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "0x7f000001", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254"]
)
def test_an_archive_elsewhere_leads_to_nothing_here(
    opened: Opener, store: Store, by_proxy: Callable[[str], None], host: str
) -> None:
    with answering() as (proxy, asked), answering() as (here, handler):
        place = f"http://{host}:{here.rpartition(':')[2]}/secret"
        asked.answers = {"http://archive.example/": (302, {"Location": place}, b"")}
        by_proxy(proxy)
        archive = open_archive(
            store, offline=False, lock=None, address="http://archive.example/debian", progress=NullObserver()
        )
        source = kernel_source(suites="old")
        assert "redirect refused" in refusal(lambda: archive.kernel("6.12", source, "amd64"), UntrustedError)
        assert "redirect refused" in refusal(lambda: archive.length("http://archive.example/vmlinuz"), UntrustedError)
        assert handler.seen == []
        assert all("secret" not in path for path, _ in asked.seen)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "localhost", "[::ffff:7f00:1]"])
@pytest.mark.parametrize("kind", ["redirect", "token server"])
def test_a_registry_elsewhere_leads_to_nothing_here(
    tmp_path: Path, by_proxy: Callable[[str], None], host: str, kind: str
) -> None:
    with answering() as (proxy, asked), answering() as (here, handler):
        place = f"http://{host}:{here.rpartition(':')[2]}/secret"
        answer = (307, {"Location": place}, b"")
        if kind == "token server":
            answer = (401, {"WWW-Authenticate": f'Bearer realm="{place}",service="x"'}, b"")
        asked.answers = {"http://r.example": answer}
        by_proxy(proxy)
        said = refusal(lambda: pulled(tmp_path, "r.example", Registry(plain_http=True)), UntrustedError)
        assert "leads to" in said
        assert handler.seen == []
        assert all("secret" not in path for path, _ in asked.seen)


def test_a_proxy_that_is_none(opened: Opener, store: Store, by_proxy: Callable[[str], None]) -> None:
    by_proxy("me:hidden@:::")
    archive = open_archive(
        store, offline=False, lock=None, address="http://archive.example/debian", progress=NullObserver()
    )
    said = refusal(lambda: archive.kernel("6.12", kernel_source(suites="old"), "amd64"), InfraError)
    assert "hidden" not in said


# What others answer


@contextmanager
def raw(answer: bytes) -> Iterator[str]:
    """A server that says something before it is asked, as many that are no web servers do."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with pytest.raises(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(60)


@pytest.mark.parametrize(
    "answer",
    [
        b"220 inner-mail.example ESMTP hidden\r\n",
        b"HTTP/1.1 200 hidden\r\nContent-Length: 6\r\n\r\nhidden",
        b"HTTP/1.1 403 hidden\r\nContent-Length: 6\r\n\r\nhidden",
        b"HTTP/1.1 500 hidden\r\nContent-Length: 6\r\n\r\nhidden",
        b"HTTP/1.1 200 OK\r\nhidden\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: ht!tp://hidden:x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: hidden\r\n\r\n",
    ],
)
def test_no_answer_of_others_is_printed(opened: Opener, store: Store, tmp_path: Path, answer: bytes) -> None:
    with raw(answer) as host:
        address = f"http://{host}/debian"
        archive = open_archive(store, offline=False, lock=None, address=address, progress=NullObserver())
        said = refusal(lambda: archive.kernel("6.12", kernel_source(suites="old"), "amd64"), InfraError)
        assert "hidden" not in said
        assert "hidden" not in refusal(lambda: pulled(tmp_path, host), BootmatrixError)


# Who we are


def log_in(tmp_path: Path, host: str) -> None:
    text = f'{{"auths": {{"{host}": {{"username": "me", "password": "secret"}}}}}}'
    (tmp_path / "config.json").write_text(text)


def test_a_server_on_another_port_is_another_one(tmp_path: Path) -> None:
    """It asks for a password after a redirect, and names the server to tell it to."""
    challenges = ('Basic realm="x"', 'Bearer realm="http://{other}/token",service="x"')
    for challenge in challenges:
        with answering() as (host, registry), answering() as (elsewhere, other):
            log_in(tmp_path, host)
            registry.answers = {"/v2/": (307, {"Location": f"http://{elsewhere}/v2/"}, b"")}
            headers = {"WWW-Authenticate": challenge.format(other=elsewhere)}
            other.answers = {"/v2/": (401, headers, b""), "/token": (200, {}, b'{"token": "t"}')}
            refusal(lambda: pulled(tmp_path, host), NetworkError)
            assert [login for _, login in (*registry.seen, *other.seen)] == ["", ""]


def test_a_password_in_an_address_is_for_that_server_alone(opened: Opener, store: Store) -> None:
    with answering() as (host, first), answering() as (elsewhere, other):
        first.answers = {"/debian/": (302, {"Location": f"http://{elsewhere}/debian/"}, b"")}
        address = f"http://me:secret@{host}/debian"
        archive = open_archive(store, offline=False, lock=None, address=address, progress=NullObserver())
        said = refusal(lambda: archive.kernel("6.12", kernel_source(suites="old"), "amd64"), NetworkError)
        assert "secret" not in said
        assert first.seen[0][1].startswith("Basic ")
        assert other.seen == [("/debian/", "")]


def test_an_address_that_is_led_to_tls_is_told_no_password() -> None:
    """The same host, and another scheme: httpx itself would go on telling it."""
    sent: list[str | None] = []

    class Wire(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent.append(request.headers.get("Authorization"))
            return httpx.Response(200)

    transport = GuardedTransport(Guard(httpx.URL("http://r.example/")), "http://127.0.0.1:9")
    transport._transports = {(flag, "http://127.0.0.1:9"): Wire() for flag in (True, False)}
    for url in ("http://r.example/a", "https://r.example/a", "http://r.example:81/a", "http://s.example/a"):
        transport.handle_request(httpx.Request("GET", url, headers={"Authorization": "Basic x"}))
    assert sent == ["Basic x", None, None, None]


def test_a_proxy_of_a_kind_that_is_not_known() -> None:
    with new_client(GuardedTransport(Guard(httpx.URL(PUBLIC)), "nothing://me:hidden@host")) as http:
        said = refusal(lambda: http.get(PUBLIC), HostError)
        assert "hidden" not in said
        assert "nothing://host" in said


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.1", "[::1]"])
def test_this_machine_is_not_asked_by_a_proxy(by_proxy: Callable[[str], None], name: str) -> None:
    """To a proxy the name means itself, and a password for it would cross the network without TLS."""
    with answering() as (proxy, asked):
        by_proxy(proxy)
        with pytest.raises(httpx.ConnectError):
            client(f"http://{name}:1").get(f"http://{name}:1/v2/")
        assert asked.seen == []
        client("http://registry.example").get("http://registry.example/v2/")
        assert len(asked.seen) == 1


def test_headers_that_cannot_be_sent_back_do_not_end_it(store: Store) -> None:
    """A server's ETag may have any bytes; later requests would fail for as long as the cache has it."""
    with answering(**{"/x": (200, {}, b"1")}) as (host, _):
        reply = Downloader(store, Listener(), Settings()).small(f"http://{host}/x", 10, Reply(b"", "\u20ac", "\xe9"))
        assert reply and reply.body == b"1"

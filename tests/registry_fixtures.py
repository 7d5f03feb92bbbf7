"""Real registries on the loopback: Docker's own, plain, with passwords, with tokens, with TLS."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from free_ports import free_port
from image_maker import Pusher
from small_server import QuietHandler

PROGRAM = "docker-registry"
USER, PASSWORD = "captain", "secret of the tests"
START_LIMIT_S = 60
PORTS = 5


@dataclass(frozen=True)
class Authority:
    """A key with its certificate, which has signed itself; also a server's on the loopback."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def files(self) -> tuple[Path, Path]:
        """Certificate and key."""
        return self.folder / "tests.crt", self.folder / "tests.pem"


def make_authority(folder: Path) -> Authority:
    """A new one, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    found = Authority(folder, key, certificate)
    found.files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    found.files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


@dataclass
class Running:
    """A registry; `log` is what it wrote."""

    host: str
    pusher: Pusher
    log: Path
    scheme: str = "http"
    ca: Path | None = None
    tokens: Tokens | None = None
    storage: Path = Path()

    def requests(self, part: str) -> int:
        """How many requests with this in their line were answered."""
        return sum(part in line and "http.response.status" in line for line in self.log.read_text().splitlines())


@contextmanager
def registry(folder: Path, **more: Any) -> Iterator[Running]:
    """Docker's registry with an empty storage; `more` is added to its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    tls = more.get("http", {}).get("tls")
    process, host = _started(folder, more)
    try:
        scheme, ca = ("https", Path(tls["certificate"])) if tls else ("http", None)
        pusher = Pusher(f"{scheme}://{host}", ca=ca)
        yield Running(host, pusher, folder / "log", scheme, ca, storage=folder / "storage")
    finally:
        process.kill()
        process.wait(60)


def _started(folder: Path, more: dict[str, Any]) -> tuple[subprocess.Popen[bytes], str]:
    """A registry that answers, and its host and port: another one, if somebody else takes the port first."""
    for _ in range(PORTS):
        host, scheme = f"127.0.0.1:{free_port()}", "https" if "tls" in more.get("http", {}) else "http"
        storage = {"filesystem": {"rootdirectory": str(folder / "storage")}}
        settings = {"version": 0.1, "log": {"level": "info"}, "storage": storage, **more}
        settings["http"] = {"addr": host, **more.get("http", {})}
        (folder / "config.yml").write_text(yaml.safe_dump(settings))
        with (folder / "log").open("wb") as file:
            process = subprocess.Popen([PROGRAM, "serve", str(folder / "config.yml")], stdout=file, stderr=file)
        if _answers(f"{scheme}://{host}", process):
            return process, host
        process.kill()
        process.wait(60)
    raise AssertionError(f"the registry does not start: {(folder / 'log').read_text()}")


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.get(f"{url}/v2/", verify=False)
            return process.poll() is None
        except httpx.HTTPError:
            time.sleep(0.05)
    return False


@dataclass
class Tokens:
    """A token server: it gives a token to whoever knows the password, and notes what it was asked."""

    authority: Authority
    address: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    anonymous: bool = False

    def issue(self, scope: str, actions: list[str]) -> str:
        """A signed token as Docker's registry wants it (distribution/auth, jwt.md)."""
        kind, name, _ = (*scope.split(":"), "", "")[:3]
        der = self.authority.certificate.public_bytes(serialization.Encoding.DER)
        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            **{"iss": "tests", "aud": "registry", "sub": USER, "jti": str(now)},
            **{"exp": now + 600, "nbf": now - 60, "iat": now},
            "access": [{"type": kind, "name": name, "actions": actions}] if name else [],
        }
        body = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = self.authority.key.sign(body.encode(), ec.ECDSA(hashes.SHA256()))
        return f"{body}.{_base64url(_raw(signature))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _raw(signature: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(signature))


class _TokenHandler(QuietHandler):
    tokens: Tokens

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        login = self.headers.get("Authorization", "")
        self.tokens.asked.append({**query, "authorization": login})
        right = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        if login != right and not self.tokens.anonymous:
            self._reply(401, {})
            return
        self._reply(200, {"token": self.tokens.issue(query.get("scope", ""), ["pull", "push"])})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        query = {name: values[0] for name, values in form.items()}
        self.tokens.asked.append(query)
        if query.get("refresh_token") != PASSWORD:
            self._reply(401, {})
            return
        self._reply(200, {"access_token": self.tokens.issue(query.get("scope", ""), ["pull"])})

    def _reply(self, status: int, value: object) -> None:
        self.send_whole(status, json.dumps(value).encode())


@contextmanager
def token_server(authority: Authority) -> Iterator[Tokens]:
    """A token server on the loopback, without TLS."""
    tokens = Tokens(authority)
    handler = type("Handler", (_TokenHandler,), {"tokens": tokens})
    with serving(handler) as address:
        tokens.address = f"http://{address}/token"
        yield tokens


@contextmanager
def serving(
    handler: Callable[..., BaseHTTPRequestHandler], tls: Authority | None = None, *, wants_certificate: bool = False
) -> Iterator[str]:
    """An HTTP server on the loopback; its host and port. It may want a certificate of the authority's from clients."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls.files)
            if wants_certificate:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(tls.files[0])
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(60)


@pytest.fixture(scope="session")
def has_registry() -> None:
    """Docker's registry is there; `.ci/setup.sh tests` installs it."""
    assert shutil.which(PROGRAM), f"{PROGRAM} is not installed"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, has_registry: None) -> Iterator[Running]:
    """Open to everybody, without TLS."""
    with registry(tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, has_registry: None, authority: Authority) -> Iterator[Running]:
    """With TLS by a certificate that nobody knows, and a password."""
    folder = tmp_path_factory.mktemp("guarded")
    made = subprocess.run(["htpasswd", "-Bbn", "-C", "4", USER, PASSWORD], capture_output=True, text=True, check=True)
    (folder / "users").write_text(made.stdout)
    certificate, key = map(str, authority.files)
    more = {
        "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "users")}},
        "http": {"tls": {"certificate": certificate, "key": key}},
    }
    with registry(folder, **more) as running:
        running.pusher = Pusher(running.pusher.url, USER, PASSWORD, running.ca)
        yield running


@pytest.fixture
def tokened(tmp_path: Path, has_registry: None, authority: Authority) -> Iterator[Running]:
    """Open to who has a token."""
    with token_server(authority) as tokens:
        auth = {"realm": tokens.address, "service": "registry", "issuer": "tests"}
        auth["rootcertbundle"] = str(authority.files[0])
        with registry(tmp_path / "tokened", auth={"token": auth}) as running:
            running.tokens = tokens
            yield running

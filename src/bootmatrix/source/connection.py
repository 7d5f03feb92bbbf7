"""HTTP connections that check the address and keep credentials to one server.

A client is for one origin, the server that the user named. The targets of redirects and the token servers are checked
against the origin's address: a public origin never leads to a private network, and neither leads to this machine or
its link.
"""

import re
import socket
import ssl
import threading
import urllib.request
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast

import httpcore
import httpx

from bootmatrix import __version__
from bootmatrix.errors import HostError, NetworkError, UntrustedError
from bootmatrix.redact import RedactedUrl, redacted
from bootmatrix.source.addresses import Address, Scope, is_loopback, literal_address, scope_of
from bootmatrix.source.limited_stream import LimitedBackend
from bootmatrix.source.pace import Pace, TooSlow, pace_limits
from bootmatrix.source.replies import TransientError
from bootmatrix.source.settings import Settings

_TIMEOUT_S, _CONNECT_TIMEOUT_S = 30, 10
_PROTOCOL_WORDS = ("Server disconnected", "peer closed connection")
"""Protocol errors of h11 and httpcore whose text does not quote the reply."""
_HINT = "If you trust the second server, name it explicitly; a registry's token server under 'realms'."
SECRET_HEADERS = ("Authorization", "Cookie")
PASSED_BODY_BYTES = 1 << 16
"""Longest body that is read to its end for the connection's sake, where nobody needs it."""
_OF_BODIES = (b"content-length", b"content-encoding", b"transfer-encoding")


def origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port. The default is the scheme's own port."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


@dataclass
class Guard:
    """Policy of the hosts that a client may connect to. Thread-safe.

    `hosts` lists other hosts that the user named. With `only_here` the origin must be this machine, as it is contacted
    without TLS.
    """

    origin: httpx.URL
    hosts: Collection[str] = ()
    only_here: bool = False
    _nearest: dict[str, Scope] = field(default_factory=dict)
    _connected: Scope | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def permitted(self, host: str, addresses: Iterable[Address]) -> list[Address]:
        """Return the addresses of a host that may be connected to, in their order.

        Raises UntrustedError if all are forbidden.
        """
        candidates = list(addresses)
        limit = self._limit(host, candidates)
        allowed = [address for address in candidates if scope_of(address) >= limit]
        if self.only_here and self._is_origin(host):
            allowed = [address for address in allowed if scope_of(address) is Scope.MACHINE]
        if candidates and not allowed:
            raise self._refusal(host, min(map(scope_of, candidates)))
        return allowed

    def _limit(self, host: str, addresses: list[Address]) -> Scope:
        """Return the nearest permitted scope of a host.

        It is the host's own first scope if the user named it, else that of the origin's connection.
        """
        if self._is_origin(host) or host in self.hosts:
            return self._first(host, addresses)
        return self._leading()

    def _is_origin(self, host: str) -> bool:
        """Return whether a host is the origin, by its name or that of DNS (xn--…)."""
        return host in {self.origin.host, self.origin.raw_host.decode("ascii")}

    def connected(self, host: str, address: Address) -> None:
        """Note the address that a host was reached at."""
        if self._is_origin(host):
            with self._lock:
                self._connected = max(scope_of(address), self._connected or Scope.MACHINE)

    def _leading(self) -> Scope:
        """Return the scope of the origin, as far as it leads to other hosts.

        It is that of its connection: its name may also have a nearer address. A proxy's connection is not known: it is
        that of the farthest address.
        """
        with self._lock:
            if self._connected is None:
                self._connected = max(map(scope_of, resolve(self.origin.host)), default=Scope.PUBLIC)
            return self._connected

    def _first(self, host: str, addresses: list[Address] | None) -> Scope:
        """Return the nearest scope of a host's addresses at their first lookup."""
        with self._lock:
            if host not in self._nearest:
                candidates = resolve(host) if addresses is None else addresses
                self._nearest[host] = min(map(scope_of, candidates), default=Scope.PUBLIC)
            return self._nearest[host]

    def check_name(self, host: str) -> None:
        """Check a host that a proxy connects to, if its name can be resolved here.

        Raises UntrustedError if the host is forbidden.
        """
        if host != self.origin.host and host not in self.hosts:
            scope = self._first(host, None)
            if scope < self._leading():
                raise self._refusal(host, scope)

    def _refusal(self, host: str, scope: Scope) -> UntrustedError:
        if self._is_origin(host):
            reason = "must be this machine without TLS" if self.only_here else "was farther away before"
            return UntrustedError(f"connection refused: {host} is on {scope} now, and {reason}", _HINT)
        return UntrustedError(f"redirect refused: {self.origin.host} leads to {host}, which is on {scope}", _HINT)


def resolve(host: str) -> list[Address]:
    """Return a host's addresses; none if the lookup fails."""
    address = literal_address(host)
    if address is not None:
        return [address]
    try:
        return _addresses(host, 0)
    except (OSError, UnicodeError):
        return []


def _addresses(host: str, port: int) -> list[Address]:
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(
        dict.fromkeys(ip_address(info[4][0]) for info in entries if info[0] in {socket.AF_INET, socket.AF_INET6})
    )


class _GuardedBackend(LimitedBackend):
    """Resolve a host once, and connect to the very addresses that were checked."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
        """Connect to an address that answers. Raises UntrustedError if forbidden."""
        try:
            addresses = self._guard.permitted(host, _addresses(host, port))
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        fault: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                stream = super().connect_tcp(str(address), port, *args, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
            else:
                self._guard.connected(host, address)
                return stream
        raise fault


class _DirectTransport(httpx.HTTPTransport):
    """Connect without a proxy, through a guard."""

    def __init__(self, guard: Guard, context: ssl.SSLContext) -> None:
        super().__init__(verify=context)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_connections=100, keepalive_expiry=5.0, network_backend=_GuardedBackend(guard)
        )


class GuardedTransport(httpx.BaseTransport):
    """Transport of one client. Credentials go to the origin only.

    `elsewhere` is the TLS context for other servers, if that of the origin holds a client certificate. `is_led` is
    false for a client that follows no redirects: each of its requests is meant for its server.
    """

    def __init__(
        self,
        guard: Guard,
        proxy: str | None,
        context: ssl.SSLContext | None = None,
        elsewhere: ssl.SSLContext | None = None,
        is_led: bool = True,
    ) -> None:
        self._guard, self._proxy, self._is_led = guard, proxy, is_led
        default = context or httpx.create_ssl_context()
        self._contexts = {True: default, False: elsewhere or default}
        self._transports: dict[tuple[bool, str], httpx.BaseTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, of any hop."""
        is_origin = origin_of(request.url) == origin_of(self._guard.origin)
        if self._is_led and not is_origin:
            for name in SECRET_HEADERS:
                request.headers.pop(name, None)
        proxy = self._proxy_for(request.url)
        if proxy:
            self._guard.check_name(request.url.host)
        reply = self._transport(is_origin, proxy).handle_request(request)
        return _without_body(reply) if reply.has_redirect_location or reply.status_code == 401 else reply

    def close(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            transport.close()

    def _transport(self, is_origin: bool, proxy: str) -> httpx.BaseTransport:
        with self._lock:
            key = (is_origin, proxy)
            if key not in self._transports:
                context = self._contexts[is_origin]
                direct = None if proxy else _DirectTransport(self._guard, context)
                self._transports[key] = direct or _proxy_transport(proxy, context)
            return self._transports[key]

    def _proxy_for(self, url: httpx.URL) -> str:
        """Return the proxy's address, else "". The default is the environment's.

        A proxy of the environment is for other machines, as for programs in Go: to it this machine's names mean itself,
        and plain HTTP, which is for this machine only, would cross the network.
        """
        if self._proxy is not None:
            return self._proxy
        if is_loopback(url.host):
            return ""
        proxies = urllib.request.getproxies_environment()
        address = proxies.get(url.scheme) or proxies.get("all") or ""
        if not address or urllib.request.proxy_bypass(url.host):
            return ""
        return address if "://" in address else f"http://{address}"


def _without_body(reply: httpx.Response) -> httpx.Response:
    """Return a redirect or a challenge without its body, read or given up.

    httpx reads it whole, and decompressed: it may have no end, or be a bomb.
    """
    pace, size = Pace(pace_limits()), 0
    with closing(reply), suppress(TooSlow):
        for chunk in cast(httpx.SyncByteStream, reply.stream):
            size += len(chunk)
            pace.add(len(chunk))
            if size > PASSED_BODY_BYTES:
                break
    headers = [(name, value) for name, value in reply.headers.raw if name.lower() not in _OF_BODIES]
    return httpx.Response(reply.status_code, headers=headers, stream=httpx.ByteStream(b""), extensions=reply.extensions)


def _proxy_transport(address: str, context: ssl.SSLContext) -> httpx.HTTPTransport:
    """Return a proxy's transport. Raises HostError on its address."""
    try:
        transport = httpx.HTTPTransport(verify=context, proxy=address)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise HostError(
            f"invalid proxy {RedactedUrl(address)}: not the address of an HTTP proxy",
            "Correct it in the environment (http_proxy, https_proxy) or in apt's configuration.",
        ) from error
    transport._pool._network_backend = LimitedBackend()
    return transport


def new_client(transport: GuardedTransport, **options: Any) -> httpx.Client:
    """Return an HTTP client for downloads."""
    agent = {"User-Agent": f"bootmatrix/{__version__}", **options.pop("headers", {})}
    timeout = httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
    return httpx.Client(headers=agent, timeout=timeout, follow_redirects=True, transport=transport, **options)


def client_for(url: str, settings: Settings) -> httpx.Client:
    """Return a client for the server of a URL that the user configured."""
    return new_client(GuardedTransport(Guard(httpx.URL(url)), settings.proxy))


def read_bounded(reply: httpx.Response, limit_bytes: int) -> bytes:
    """Read a streamed body. Raises NetworkError if it is too large or slow."""
    body, pace = bytearray(), Pace(pace_limits())
    for chunk in reply.iter_raw():
        body += chunk
        try:
            pace.add(len(chunk))
        except TooSlow as error:
            raise NetworkError(f"{reply.url.host} is too slow: {error}") from error
        if len(body) > limit_bytes:
            raise NetworkError(f"{reply.url.host} answered with more than {limit_bytes} bytes")
    return bytes(body)


def in_words(error: Exception) -> str:
    """Describe a connection fault without quoting the reply, which may be private."""
    text = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    if isinstance(error, httpx.RemoteProtocolError) and not text.startswith(_PROTOCOL_WORDS):
        return "the server does not speak HTTP"
    return redacted(text)


def is_unknown_host(error: BaseException | None) -> bool:
    """Return whether a connection failed because DNS has no such name.

    That is an answer, and not retried, unlike a DNS server that does not answer.
    """
    while error and not isinstance(error, socket.gaierror):
        error = error.__cause__ or error.__context__
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME


@contextmanager
def request_faults(url: str, hint: str) -> Iterator[None]:
    """Classify faults of a request, also while its reply is read.

    Raises TransientError if a retry may clear it, NetworkError if none will.
    """
    try:
        yield
    except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
        if is_unknown_host(error):
            message = f"cannot download {RedactedUrl(url)}: unknown host {httpx.URL(url).host}"
            raise NetworkError(message, hint) from error
        raise TransientError(in_words(error)) from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last: not a DNS name
        raise NetworkError(f"{RedactedUrl(url)}: {redacted(str(error))}") from error

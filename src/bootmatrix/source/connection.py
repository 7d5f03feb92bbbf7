"""HTTP connections that are judged by the address connected to, and that tell credentials to the right server only.

A client is for one origin, the server that the user named. Where redirects and token servers lead is checked against
the origin's own address: from a public one never to a private network, from there never to this machine or its link.
"""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.request
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import httpcore
import httpx

from bootmatrix.errors import HostError, UntrustedError
from bootmatrix.redact import RedactedUrl
from bootmatrix.source.addresses import Address, Scope, literal_address, scope_of

_HINT = "If both servers are yours, name the second one yourself; a registry's token server as one of its realms."
SECRET_HEADERS = ("Authorization", "Cookie")


def origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port, the scheme's own port if none is given."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


@dataclass
class Guard:
    """What may be connected to. `hosts` are others that the user named beside the origin; thread-safe.

    With `only_here` the origin itself must be this machine: it is spoken to without TLS on that ground alone.
    """

    origin: httpx.URL
    hosts: Collection[str] = ()
    only_here: bool = False
    _nearest: dict[str, Scope] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def permitted(self, host: str, addresses: Iterable[Address]) -> list[Address]:
        """Return those of a host's addresses that may be connected to, in their order.

        Raises:
            UntrustedError: none may.
        """
        found = list(addresses)
        limit = self._limit(host, found)
        kept = [one for one in found if scope_of(one) >= limit]
        if self.only_here and host == self.origin.host:
            kept = [one for one in kept if scope_of(one) is Scope.MACHINE]
        if found and not kept:
            raise self._refusal(host, min(map(scope_of, found)))
        return kept

    def _limit(self, host: str, addresses: list[Address]) -> Scope:
        """Return the nearest scope that a host may have: its own at first, if the user named it, else the origin's."""
        if host == self.origin.host or host in self.hosts:
            return self._first(host, addresses)
        return self._first(self.origin.host, None)

    def _first(self, host: str, addresses: list[Address] | None) -> Scope:
        """Return the nearest scope of a host's addresses when they were first looked up: later none may be nearer."""
        with self._lock:
            if host not in self._nearest:
                found = resolve(host) if addresses is None else addresses
                self._nearest[host] = min(map(scope_of, found), default=Scope.PUBLIC)
            return self._nearest[host]

    def check_name(self, host: str) -> None:
        """Judge a host that a proxy is to connect to, as far as its name can be looked up here.

        Raises:
            UntrustedError: it must not be asked.
        """
        if host != self.origin.host and host not in self.hosts:
            scope = self._first(host, None)
            if scope < self._first(self.origin.host, None):
                raise self._refusal(host, scope)

    def _refusal(self, host: str, scope: Scope) -> UntrustedError:
        if host == self.origin.host:
            reason = "without TLS it must be this machine" if self.only_here else "it was farther away before"
            return UntrustedError(f"{host} is on {scope} now, and {reason}: it is not asked", _HINT)
        return UntrustedError(f"{self.origin.host} leads to {host}, which is on {scope}: this is not followed", _HINT)


def resolve(host: str) -> list[Address]:
    """Return a host's addresses as they are looked up for a connection; none if it cannot be."""
    address = literal_address(host)
    if address is not None:
        return [address]
    try:
        return _addresses(host, 0)
    except (OSError, UnicodeError):
        return []


def _addresses(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(info[4][0]) for info in found if info[0] in {socket.AF_INET, socket.AF_INET6}))


class _GuardedBackend(httpcore.SyncBackend):
    """Looks a host up once, and connects to the very addresses that were judged."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
        """Connect to the first address that answers.

        Raises:
            UntrustedError: the host leads where it must not.
        """
        try:
            addresses = self._guard.permitted(host, _addresses(host, port))
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        fault: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return super().connect_tcp(str(address), port, *args, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
        raise fault


class _DirectTransport(httpx.HTTPTransport):
    """Connects without a proxy, through a guard."""

    def __init__(self, guard: Guard, context: ssl.SSLContext) -> None:
        super().__init__(verify=context)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_connections=100, keepalive_expiry=5.0, network_backend=_GuardedBackend(guard)
        )


class GuardedTransport(httpx.BaseTransport):
    """Sends the requests of one client. To another server than the origin's nothing goes that says who we are.

    `elsewhere` is the TLS context for other servers, where the origin's own holds a certificate of ours. `is_led` is
    false for a client that follows no redirect: each of its requests is meant for the server that it goes to.
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
        own = context or httpx.create_ssl_context()
        self._contexts = {True: own, False: elsewhere or own}
        self._transports: dict[tuple[bool, str], httpx.BaseTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, of whatever hop."""
        is_origin = origin_of(request.url) == origin_of(self._guard.origin)
        if self._is_led and not is_origin:
            for name in SECRET_HEADERS:
                request.headers.pop(name, None)
        proxy = self._proxy_for(request.url)
        if proxy:
            self._guard.check_name(request.url.host)
        return self._transport(is_origin, proxy).handle_request(request)

    def close(self) -> None:
        """End all connections."""
        for one in self._transports.values():
            one.close()

    def _transport(self, is_origin: bool, proxy: str) -> httpx.BaseTransport:
        with self._lock:
            key = (is_origin, proxy)
            if key not in self._transports:
                context = self._contexts[is_origin]
                direct = None if proxy else _DirectTransport(self._guard, context)
                self._transports[key] = direct or _by_proxy(proxy, context)
            return self._transports[key]

    def _proxy_for(self, url: httpx.URL) -> str:
        """Return the proxy's address; empty for none. Without one of its own a client uses the environment's."""
        if self._proxy is not None:
            return self._proxy
        known = urllib.request.getproxies_environment()
        address = known.get(url.scheme) or known.get("all") or ""
        if not address or urllib.request.proxy_bypass(url.host):
            return ""
        return address if "://" in address else f"http://{address}"


def _by_proxy(address: str, context: ssl.SSLContext) -> httpx.HTTPTransport:
    """Return what sends requests by a proxy.

    Raises:
        HostError: its address is none.
    """
    try:
        return httpx.HTTPTransport(verify=context, proxy=address)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise HostError(
            f"the proxy {RedactedUrl(address)} cannot be used: not the address of an HTTP proxy",
            "Set it anew in the environment (http_proxy, https_proxy) or in apt's configuration.",
        ) from error

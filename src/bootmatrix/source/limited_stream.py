"""A connection on which each reply has a limit of time, its head included.

The timeouts of httpx are those of one read: a server may send headers, interim responses (RFC 9110, section 15.2) or
chunks' extensions a byte at a time, for ever.
"""

from __future__ import annotations

import ssl
import time
from typing import Any

import httpcore

from bootmatrix.source.pace import TIME_VARIABLE, pace_limits


class LimitedStream(httpcore.NetworkStream):
    """Another stream, with a limit from the first byte of a request on."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._most_s = pace_limits().most_s
        self._begun_s: float | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read some bytes. Raises httpcore.ReadTimeout if the reply takes too long."""
        if self._begun_s is None:
            self._begun_s = time.monotonic()
        if self._most_s and time.monotonic() - self._begun_s > self._most_s:
            raise httpcore.ReadTimeout(
                f"the server is too slow: it took more than {self._most_s:g} s ({TIME_VARIABLE})"
            )
        return self._stream.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write a part of a request."""
        self._begun_s = None
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return the stream within TLS."""
        return LimitedStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection."""
        return self._stream.get_extra_info(info)


class LimitedBackend(httpcore.SyncBackend):
    """Connects by such streams."""

    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        """Connect to an address."""
        return LimitedStream(super().connect_tcp(*args, **options))

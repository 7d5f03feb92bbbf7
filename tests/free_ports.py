"""Ports of the loopback for servers of tests."""

from __future__ import annotations

import itertools
import os
import secrets
import socket

FIRST, PER_WORKER, WORKERS = 20_000, 1_000, 12
"""Below the ports that Linux gives to connections, which are taken at any moment (ip_local_port_range of ip(7))."""

_numbers = itertools.count(secrets.randbelow(PER_WORKER))


def free_port() -> int:
    """Return a port on which nobody listens, and that no other worker's tests get."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    for number in itertools.islice(_numbers, PER_WORKER):
        port = FIRST + worker * PER_WORKER + number % PER_WORKER
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("all ports are taken")

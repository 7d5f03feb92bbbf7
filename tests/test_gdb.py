"""`run --gdb`: a guest that waits for a debugger, by gdb's remote protocol (gdb's manual, appendix E)."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import Tool
from free_ports import free_port

pytest_plugins = ("command_line",)

LIMIT_S = 120.0


def _packet(text: str) -> bytes:
    return f"+${text}#{sum(text.encode()) % 256:02x}".encode()


def _connect(port: int) -> socket.socket:
    until = time.monotonic() + LIMIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.1)


def _read_until(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    assert process.stdout
    data, until = b"", time.monotonic() + LIMIT_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while text not in data and time.monotonic() < until and selector.select(LIMIT_S):
            chunk = process.stdout.read1(4096)  # type: ignore[attr-defined]
            if not chunk:
                break
            data += chunk
    return data


@pytest.mark.boots
def test_a_guest_waits_for_gdb_and_goes_on_when_told(tmp_path: Path) -> None:
    port = free_port()
    cell = ("hello", "--arch", "x86_64", "--kernel", "6.1", "--gdb", str(port))
    command = [sys.executable, "-m", "bootmatrix.cli.main", "run", *cell]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        try:
            with _connect(port) as gdb:
                gdb.sendall(_packet("?"))
                stopped = gdb.recv(4096)
                while b"$T" not in stopped:
                    stopped += gdb.recv(4096)
                shown = _read_until(process, b"target remote")
                assert f"target remote 127.0.0.1:{port}".encode() in shown
                assert b"Linux version" not in shown
                gdb.sendall(_packet("c"))
                assert b"nokaslr" in _read_until(process, b"nokaslr")
        finally:
            process.kill()


def test_a_port_that_cannot_be_had_is_said_before_any_download(tool: Tool) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for words, said in (
            (port, f"port {port} of 127.0.0.1 cannot be used"),
            ("70000", "'70000' must be a number from 1 to 65535"),
            ("x", "'x' must be a number from 1 to 65535"),
        ):
            done = tool("run", "hello", "--arch", "x86_64", "--gdb", words)
            assert done.returncode == 2
            assert said in done.stderr

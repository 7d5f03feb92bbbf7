"""A host that closes the port of a guest's results: the guest comes to its end all the same, and says so."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(sys.executable).with_name("bootmatrix")
LIMIT_S = 200
NONCE = b"0123456789abcdef0123456789abcdef\n"
QEMU = ("qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-m", "512", "-display", "none", "-no-reboot")
PORT = "virtserialport,chardev=result,name=org.bootmatrix.result"


def connected(path: Path) -> socket.socket:
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(LIMIT_S)
    until = time.monotonic() + LIMIT_S
    while True:
        try:
            end.connect(str(path))
            return end
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.mark.boots
@pytest.mark.long
def test_a_guest_whose_host_closes_the_port(tmp_path: Path) -> None:
    built = tmp_path / "hello"
    subprocess.run([TOOL, "build", "hello", "--arch", "x86_64", "--kernel", "6.1", "-o", built], check=True)
    device = ("-chardev", f"socket,id=result,path={tmp_path}/port,server=on,wait=off", "-device", "virtio-serial-pci")
    files = ("-kernel", f"{built}-kernel", "-initrd", f"{built}-initrd.img", "-serial", "stdio", "-monitor", "none")
    boot = (*files, "-append", Path(f"{built}-cmdline").read_text())
    with subprocess.Popen([*QEMU, *device, "-device", PORT, *boot], stdout=subprocess.PIPE) as process:
        try:
            with connected(tmp_path / "port") as end:
                received = b""
                while b" ready " not in received:
                    received += end.recv(4096)
                    if received.endswith(b"hello 2\n"):
                        end.sendall(NONCE)
            console, _ = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert b"the host has closed its port" in console
    assert process.returncode == 0, "it has turned itself off"

"""A Docker engine of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

START_LIMIT_S = 120


@dataclass
class Engine:
    """A Docker engine of the tests' own."""

    address: str
    client: docker.APIClient


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with nothing in it, which touches no network and nothing of another engine's."""
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), "CI runs these as root: a skip would hide that nothing was tested"
        pytest.skip("a Docker engine of one's own takes root")
    assert shutil.which("dockerd"), "dockerd is not installed"
    folder = tmp_path_factory.mktemp("engine")
    address, log = f"unix://{folder}/s", folder / "log"
    command = ["dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "-H", address]
    command += ["--pidfile", str(folder / "pid"), "--storage-driver", "vfs", "--bridge", "none"]
    command += ["--iptables=false", "--ip6tables=false"]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield Engine(address, _connected(address, process, log))
        finally:
            process.terminate()
            process.wait(60)


def _connected(address: str, process: subprocess.Popen[bytes], log: Path) -> docker.APIClient:
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            return docker.APIClient(address, version="auto")
        except docker.errors.DockerException:
            time.sleep(0.1)
    raise AssertionError(f"the engine does not start: {log.read_text()}")

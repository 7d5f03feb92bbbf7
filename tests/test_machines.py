"""A machine per job: workers on EC2 instances, which are namespaces with a real sshd behind moto's EC2."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from boot_sector import MACHINE, write_guest
from bootmatrix.model import Verdict
from bootmatrix.runs.run_store import load_run
from cloud_servers import Aws, Server, serve
from ssh_hosts import PYTHON, SshHost, remove_abandoned

pytestmark = [
    pytest.mark.boots,
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces with sshd need root"),
]
CLUSTER = """\
ec2:
  image: ami-12345678
  instance_type: c7a.large
  user: root
  machines: 2
  cells: 3
  hour: 36
  silence_s: {silence_s}
  setup: ["echo set up >/run/setup"]
  python: {python}
  cache: {cache}
"""


@dataclass
class Instance(SshHost):
    """An instance: a namespace that does what cloud-init would. `poweroff` leaves the file `off`."""

    data: str = ""

    def trust(self) -> None:
        """Take the machine's key that the client has made, instead of a new one."""
        found = json.loads(self.data.partition("\n")[2])
        (self.folder / "host_key").write_text(found["ssh_keys"]["ed25519_private"])
        (self.folder / "host_key.pub").write_text(found["ssh_keys"]["ed25519_public"])

    def set_up(self) -> None:
        """Write the files of the user data, and run its commands."""
        found = json.loads(self.data.partition("\n")[2])
        self.shell("mount -t tmpfs run /run; mkdir /run/sshd")
        for file in found["write_files"]:
            Path(f"/proc/{self.init}/root{file['path']}").write_text(file["content"])
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "poweroff").write_text(f"#!/bin/sh\ntouch {self.folder}/off\n")
        (programs / "poweroff").chmod(0o755)
        for command in found["runcmd"]:
            words = " ".join(f"'{word}'" for word in command)
            self.shell(f"PATH={programs}:$PATH {words}")

    @property
    def has_ended(self) -> bool:
        return (self.folder / "off").exists()


class Ec2(Aws):
    """Moto's EC2, with namespaces as instances."""

    def _start(self, answer: bytes, query: dict[str, list[str]]) -> None:
        (name,) = re.findall(r"<instanceId>(i-[0-9a-f]+)</instanceId>", answer.decode())
        hosts, folder = self.server.state["hosts"], self.server.instances.folder
        data = base64.b64decode(query["UserData"][0]).decode()
        key = folder / f"{name}.client"
        Path(f"{key}.pub").write_text(json.loads(data.partition("\n")[2])["ssh_authorized_keys"][0] + "\n")
        hosts[name] = host = Instance(name, 60 + len(hosts), folder / name, key, data=data)
        # Processes end with the thread that started them, and that of a request ends with its client.
        self.server.state["starter"].submit(host.up).result()
        host.set_up()
        self.server.state["started"].append(name)

    def _moto(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        status, data, headers = super()._moto(body)
        hosts = self.server.state["hosts"]
        text = body.decode("latin-1")
        if "Action=TerminateInstances" in text:
            for name in re.findall(r"i-[0-9a-f]{17}", text):
                hosts[name].down()
        for name in re.findall(r"InstanceId.1=(i-[0-9a-f]+)", text):
            data = re.sub(rb"<ipAddress>[^<]*<", f"<ipAddress>{hosts[name].address}<".encode(), data)
        return status, data, headers

    def _end_instances(self) -> None:
        ec2 = self.server.state["session"].client("ec2", endpoint_url=self.server.state["moto"])
        for name in [name for name in self.server.state["started"] if self.server.state["hosts"][name].has_ended]:
            with suppress(ValueError):  # another request saw it too
                self.server.state["started"].remove(name)
            self.server.state["hosts"][name].down()
            ec2.terminate_instances(InstanceIds=[name])


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def ec2(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    remove_abandoned()
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "eu-west-1"}
    for name, value in {**keys, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    state: dict[str, Any] = {"moto": moto, "started": [], "hosts": {}}
    with ThreadPoolExecutor(1) as state["starter"], serve(Ec2, tmp_path, state) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        state["session"] = boto3.session.Session(region_name="eu-west-1")
        try:
            yield server
        finally:
            for host in state["hosts"].values():
                host.down()


def live(server: Server) -> list[str]:
    """Instances that run, asked for as a client does."""
    client = server.state["session"].client("ec2", endpoint_url=server.address)
    running = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    found = client.describe_instances(Filters=running)["Reservations"]
    return [str(one["InstanceId"]) for group in found for one in group["Instances"]]


def start(folder: Path, cells: int, seconds: float, silence_s: int = 300) -> subprocess.Popen[str]:
    """Begin a run of guests of one sector."""
    names = [f"guest{number}" for number in range(cells)]
    for name in names:
        write_guest(folder, name, seconds)
    # One cache for all machines: the tool is sent once.
    cluster = CLUSTER.format(python=PYTHON, cache=folder / "there", silence_s=silence_s)
    (folder / "ec2.yml").write_text(cluster)
    words = ["matrix", *(f"{name}.guest.yml" for name in names), "--arch", MACHINE]
    words += ["--executor", "dask", "--cluster", "ec2.yml"]
    return subprocess.Popen(
        [sys.executable, "-m", "bootmatrix.cli.main", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(condition: Callable[[], object], limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def guests(server: Server) -> list[str]:
    """Instances with a guest."""
    hosts = server.state["hosts"].items()
    return [name for name, host in hosts if name in server.state["started"] and host.guests()]


def test_machines_come_from_nothing_replace_each_other_and_end(ec2: Server, tmp_path: Path) -> None:
    process = start(tmp_path, 5, 8.0)
    until(lambda: len(guests(ec2)) == 2)
    taken, _ = guests(ec2)
    ec2.state["hosts"][taken].down()  # as a spot machine that is taken back
    ec2.state["session"].client("ec2", endpoint_url=ec2.state["moto"]).terminate_instances(InstanceIds=[taken])
    ec2.state["started"].remove(taken)
    output, _ = process.communicate(timeout=200)
    run = load_run(tmp_path / "reports/latest")
    records = run.records
    assert [record.verdict for record in records] == [Verdict.PASS] * 5, output
    (use,) = run.machines
    assert use.machines in {2, 3} and use.cost > 0
    assert f"{use.cost:.4f}, " in (tmp_path / "reports/latest/report.html").read_text()
    assert {"ec2-1", "ec2-2"} & {record.host for record in records}
    assert re.search(r"[23] machines, \d+ s in all, \d+\.\d+ at 36 an hour", output), output
    assert len(ec2.state["hosts"]) in {2, 3}
    assert live(ec2) == []


def test_a_client_that_is_killed_pays_no_longer(ec2: Server, tmp_path: Path) -> None:
    process = start(tmp_path, 1, 60.0, silence_s=40)
    until(lambda: guests(ec2))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert live(ec2)
    until(lambda: not live(ec2), 90)


def test_a_quota_is_the_clouds_fault(ec2: Server, tmp_path: Path) -> None:
    ec2.faults.refused = {"RunInstances": "InstanceLimitExceeded"}
    process = start(tmp_path, 1, 0)
    output, _ = process.communicate(timeout=200)
    (record,) = load_run(tmp_path / "reports/latest").records
    assert (record.verdict, process.returncode) == (Verdict.INFRA_ERROR, 3), output
    assert "InstanceLimitExceeded" in output

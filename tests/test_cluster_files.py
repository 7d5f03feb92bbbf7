"""The file of a cluster, and the address in place of one."""

from __future__ import annotations

from pathlib import Path

import dask.config
import pytest

from bootmatrix.cli.main import main
from bootmatrix.errors import InputError
from bootmatrix.load.cluster import DASK_KEYS, load_boards, load_cluster

ADDRESS = "tls://127.0.0.1:8786"


def write_file(folder: Path, text: str) -> str:
    path = folder / "hosts.yml"
    path.write_text(text + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("via: ssh", "a board needs 'arch'"),
        ("arch: aarch64", "'arch' is for boards"),
        ("arch: aarch64, via: labgrid", "'via' must be one of worker, ssh, not 'labgrid'"),
        ("via: sssh", "'via' must be one of worker, ssh, not 'sssh'"),
        ("cache: ../..", "'cache' is the text '../..': a folder of a host must not have '..'"),
        ("fetch: sftp", "'fetch' is the text 'sftp': not client or archive, not an absolute path, or a URL"),
        ('user: "a b"', "'user' must be a user's name"),
        ("key: missing", "file not found: .*/missing"),
        ("jump: [{address: gate, key: missing}]", "file not found: .*/missing"),
    ],
)
def test_a_host_with_a_fault(tmp_path: Path, entry: str, words: str) -> None:
    with pytest.raises(InputError, match=f"hosts.yml:2: {words}"):
        load_cluster(write_file(tmp_path, f"hosts:\n  - {{name: a, address: a, {entry}}}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hosts: []", "the file needs exactly one of hosts, slurm, scheduler and ec2, not empty; found none"),
        ("hosts: [{name: a, address: a}]\nslurm: {exchange: /x}", "found hosts and slurm"),
        (f'scheduler: {{address: "{ADDRESS}", ca: ca, certificate: c, key: k, exchange: /x}}', "file not found: .*/ca"),
        ('scheduler: {address: "tcp://a:1", ca: c, certificate: c, key: k, exchange: /x}', "tls://HOST:PORT, not"),
    ],
)
def test_a_file_with_a_fault(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_cluster(write_file(tmp_path, text))


def test_boards_stand_beside_hosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = "{name: pi, address: pi, via: ssh, arch: aarch64}, {name: big, address: big, cache: ~/x}"
    file = write_file(tmp_path, f"hosts: [{entries}]")
    (host,) = load_cluster(file).workers
    assert ([*load_boards(file)], host.name, host.cache) == (["pi"], "big", "x")
    assert main(["validate", file]) == 0
    assert "a cluster: 1 host, 1 board" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "127.0.0.1:8786", "tls://127.0.0.1"])
def test_an_address_without_tls_or_port(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "hello", "--executor", "dask", "--cluster", address]) == 2
    assert "Write tls://HOST:PORT" in capsys.readouterr().err


def test_an_address_takes_the_rest_from_the_configuration_of_dask(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no distributed.comm.tls.ca-file, .*bootmatrix.exchange") as caught:
        load_cluster(ADDRESS)
    assert "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY=… DASK_BOOTMATRIX__EXCHANGE=…" in caught.value.hint
    pem = tmp_path / "pem"
    settings = {key: str(pem) for key in DASK_KEYS.values()} | {DASK_KEYS["exchange"]: str(tmp_path)}
    with dask.config.set(settings):
        with pytest.raises(InputError, match=r"distributed.comm.tls.ca-file: file not found: .*/pem"):
            load_cluster(ADDRESS)
        pem.touch()
        scheduler = load_cluster(ADDRESS).scheduler
    assert scheduler
    assert (scheduler.address, scheduler.key, scheduler.exchange) == (ADDRESS, str(pem), str(tmp_path))

"""The hardware tier: specs on boards by SSH, which are namespaces here, and once an emulated machine."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootmatrix.cell.borne_out import check_verdicts
from bootmatrix.cli.main import main
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Run
from bootmatrix.runs.run_store import load_run
from free_ports import free_port
from ssh_hosts import SshHost, make_key, ssh_hosts, write_hosts

HOST = load_profiles([CHECKOUT / "arch"])[platform.machine()]
INIT = 'init: ["@pkg:./images/init", "@pkg:./images/crun"]\nonboot:\n'
ONBOOT = '  - {{name: one, image: "@pkg:./images/busybox", command: [/bin/sh, -c, "{script}"]}}\n'
MARK = f"sleep 100{os.getpid()}"
BOARD = {"via": "ssh", "arch": HOST.name}
COMMAND = [sys.executable, "-m", "bootmatrix.cli.main"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces with sshd need root")


def write_file(path: Path, *entries: str) -> Path:
    path.write_text("hosts:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries))
    return path


@pytest.mark.parametrize(
    ("name", "arch", "words"),
    [
        ("pi", "armv7", "the hardware tier has no board of aarch64; boards: pi (armv7)"),
        ("6.1", "aarch64", "the board '6.1' of aarch64 has the name of a kernel"),
    ],
)
def test_boards_that_no_cell_can_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, arch: str, words: str
) -> None:
    file = write_file(tmp_path / "hosts.yml", f'name: "{name}", address: pi, via: ssh, arch: {arch}')
    assert main(["matrix", "hello", "--arch", "aarch64", "--tier", "hardware", "--cluster", str(file)]) == 2
    assert words in capsys.readouterr().err


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with ssh_hosts(tmp_path_factory.mktemp("boards"), 1) as (host,):
        yield host


@contextmanager
def begun(folder: Path, cluster: Path, script: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A run of one container on all boards."""
    (folder / "images").symlink_to(CHECKOUT / "specs/images")
    (folder / "mine.yml").write_text(INIT + ONBOOT.format(script=script))
    words = ["matrix", "mine.yml", "--tier", "hardware", "--arch", HOST.name, "--cluster", str(cluster), *more]
    with subprocess.Popen([*COMMAND, *words], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run(folder: Path, cluster: Path, script: str, *more: str) -> tuple[Run, int]:
    with begun(folder, cluster, script, *more) as process:
        process.communicate(timeout=200)
    found = load_run(folder / "reports/latest")
    check_verdicts(found, folder / "reports/latest")
    return found, process.returncode


def left(board: SshHost) -> list[str]:
    """Files on a board, and the process of MARK's container."""
    return [*map(str, (board.cache / "boards").iterdir()), *(["sleep"] if is_asleep() else [])]


def is_asleep() -> bool:
    """Return whether MARK's container runs, in a PID namespace below the board's."""
    return bool(subprocess.run(["pgrep", "-f", "-x", MARK], capture_output=True, check=False).stdout)


@as_root
@pytest.mark.boots
@pytest.mark.parametrize(("script", "verdict", "status"), [("echo said", "user-pass", 0), ("exit 3", "user-fail", 1)])
def test_a_board_runs_a_spec_and_keeps_nothing(
    board: SshHost, tmp_path: Path, script: str, verdict: str, status: int
) -> None:
    hosts = write_hosts(tmp_path / "hosts.yml", [board], **BOARD)
    found, ended = run(tmp_path, hosts, script, "--executor", "dask" if status else "local")
    (record,) = found.records
    assert (record.verdict, ended, record.host) == (verdict, status, board.name), record.judgement
    assert record.bootable
    assert record.bootable.kernel_release == platform.release()
    assert left(board) == []


@as_root
@pytest.mark.boots
def test_an_ordinary_user_and_a_stranger(board: SshHost, tmp_path: Path) -> None:
    """A user without rights runs init in a user namespace; a wrong key blames no spec."""
    passwd = board.folder / "passwd"
    passwd.write_text(Path("/etc/passwd").read_text() + "user:*:4242:4242::/mnt:/bin/sh\n")
    board.shell(
        f"mount --bind {passwd} /etc/passwd; mount -t tmpfs -o uid=4242,mode=755 home /mnt; mkdir /mnt/.ssh; "
        f"cp {board.folder}/authorized_keys /mnt/.ssh; chmod -R a+rX /mnt/.ssh"
    )
    plain = board.entry(**{**BOARD, "name": "plain", "user": "user", "cache": "cache"})
    wrong = board.entry(**{**BOARD, "name": "wrong", "key": str(make_key(tmp_path / "stranger"))})
    cluster = tmp_path / "hosts.yml"
    cluster.write_text("hosts:\n" + plain + wrong)
    wide = {**os.environ, "COLUMNS": "200"}
    words = [*COMMAND, "hosts", "check", str(cluster)]
    check = subprocess.run(words, env=wide, capture_output=True, text=True, check=False)
    assert check.returncode == 3, check.stderr
    assert f"a board: kernel {platform.release()}, a user" in check.stdout
    assert check.stdout.count("permission denied for root\n  Put the public key into") == 1
    found, status = run(tmp_path, cluster, "id -u | grep -qx 0 && true")
    verdicts = {record.cell.kernel: str(record.verdict) for record in found.records}
    assert (verdicts, status) == ({"plain": "user-pass", "wrong": "infra-error"}, 3), [
        record.judgement.reason for record in found.records
    ]
    assert [*Path(f"/proc/{board.init}/root/mnt/cache/boards").iterdir()] == []


@as_root
@pytest.mark.boots
def test_a_client_that_is_killed_leaves_nothing(board: SshHost, tmp_path: Path) -> None:
    hosts = write_hosts(tmp_path / "hosts.yml", [board], **BOARD)
    with begun(tmp_path, hosts, MARK) as process:
        while not is_asleep():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 15
    while left(board) and time.monotonic() < end:
        time.sleep(0.1)
    assert left(board) == []


SSHD = """\
from: "@pkg:../debian-small"
packages: [dropbear-bin]
files:
  - {path: root/.ssh/authorized_keys, contents: "%s", mode: "0600"}
  - {path: etc/dropbear, directory: true}
  - {path: etc/shells, contents: "/bin/bash\\n"}
"""
EMULATED = """\
init: ["@pkg:./images/init", "@pkg:./images/crun"]
services:
  - name: sshd
    image: "@pkg:./images/sshd"
    net: host
    capabilities: [all]
    readonly: false
    command: [/usr/sbin/dropbear, -F, -E, -R, -s, -p, "22"]
"""


@pytest.mark.boots
@pytest.mark.long
def test_a_board_of_another_architecture(tmp_path: Path) -> None:
    """An emulated machine with a kernel of its own and an SSH server is the board."""
    images, key, known = tmp_path / "images", make_key(tmp_path / "key"), tmp_path / "known_hosts"
    images.mkdir()
    for path in (CHECKOUT / "specs/images").iterdir():
        (images / path.name).symlink_to(path)
    (images / "sshd").mkdir()
    (images / "sshd/build.yml").write_text(SSHD % key.with_suffix(".pub").read_text().strip())
    (tmp_path / "board.yml").write_text(EMULATED)
    port = free_port()
    words = ["run", "board.yml", "--arch", "aarch64", "--kernel", "6.1", "--publish", f"{port}:22"]
    with subprocess.Popen([*COMMAND, *words], cwd=tmp_path, stdout=subprocess.DEVNULL) as guest:
        try:
            while not known.exists() or not known.read_text():
                assert guest.poll() is None
                time.sleep(0.5)
                scan = ["ssh-keyscan", "-p", str(port), "127.0.0.1"]
                known.write_text(subprocess.run(scan, capture_output=True, text=True, check=False).stdout)
            entry = f"name: pi, via: ssh, arch: aarch64, address: 127.0.0.1, port: {port}, user: root, key: {key}"
            cluster = write_file(tmp_path / "hosts.yml", f"{entry}, known_hosts: {known}")
            words = ["matrix", "redis", "--arch", "aarch64", "--tier", "hardware", "--cluster", str(cluster)]
            subprocess.run([*COMMAND, *words], cwd=tmp_path, check=True, timeout=300)
        finally:
            guest.send_signal(signal.SIGINT)
            guest.wait(60)
    (record,) = load_run(tmp_path / "reports/latest").records
    assert record.bootable
    assert record.bootable.kernel_release.startswith("6.1."), sys.version
    assert len(record.judgement.subresults) > 1

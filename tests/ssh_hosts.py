"""Hosts that are network namespaces with a real sshd, for tests of many machines. They need root."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SSHD = "/usr/sbin/sshd"
PYTHON = "/usr/bin/python3"
"""Debian's Python, which has nothing of bootmatrix."""
QEMU = "qemu-system-x86_64"
MODULE = "bootmatrix.cli.worker_process"
CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys .ssh/authorized_keys
StrictModes no
PermitRootLogin yes
PidFile none
UsePAM no
UseDNS no
Subsystem sftp internal-sftp
PasswordAuthentication no
LogLevel ERROR
SetEnv HOME={folder}/home
"""


def run(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def make_key(path: Path) -> Path:
    """Make an ed25519 key without a passphrase."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
    return path


@dataclass
class SshHost:
    """A namespace with its own network, home and sshd. `address` is reached over a veth pair."""

    name: str
    number: int
    folder: Path
    key: Path
    program: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{self.network}.2"

    @property
    def network(self) -> str:
        return f"10.{100 + os.getpid() % 100}.{self.number}"

    @property
    def namespace(self) -> str:
        return f"bm{os.getpid()}n{self.number}"

    @property
    def link(self) -> str:
        return f"bm{os.getpid()}v{self.number}"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    def up(self) -> None:
        """Make the namespaces and start sshd."""
        self.home.mkdir(parents=True)
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        run("ip", "address", "add", f"{self.network}.1/24", "dev", self.link)
        run("ip", "link", "set", self.link, "up")
        for words in (
            ("address", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            run("ip", "-n", self.namespace, *words)
        make_key(self.folder / "host_key")
        self.trust()
        shutil.copy(f"{self.key}.pub", self.folder / "authorized_keys")
        (self.folder / "sshd_config").write_text(CONFIG.format(folder=self.folder))
        self._start_sshd()

    def _start_sshd(self) -> None:
        """Start sshd as the first process of a PID namespace: all others of the host end with it."""
        Path("/run/sshd").mkdir(exist_ok=True)
        leash = ["setpriv", "--pdeathsig", "KILL"]
        inside = ["ip", "netns", "exec", self.namespace]
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        sshd = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("ab") as log:
            self.program = subprocess.Popen([*leash, *inside, *alone, *sshd], stdin=subprocess.DEVNULL, stderr=log)
        for _ in range(300):
            if self._listens():
                return
            time.sleep(0.1)
        raise AssertionError(f"sshd does not start: {(self.folder / 'sshd.log').read_text()}")

    def _listens(self) -> bool:
        words = ["ip", "netns", "exec", self.namespace, "ss", "-Hltn", "sport", "=", ":22"]
        return bool(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip())

    @property
    def init(self) -> int:
        """The host's first process: its sshd."""
        assert self.program
        parent = self.program.pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])

    def shell(self, command: str) -> None:
        """Run a command in the host's mount namespace."""
        run("nsenter", "--target", str(self.init), "--mount", "--pid", "--", "sh", "-ec", command)

    def trust(self) -> None:
        """Write the host's key down as known."""
        words = (self.folder / "host_key.pub").read_text().split()
        self.known_hosts.write_text(f"{self.address} {words[0]} {words[1]}\n")

    def reach(self, other: SshHost) -> str:
        """Connect this host to another one, and to nobody else; return the other's address there."""
        inside = ("ip", "-n", self.namespace)
        run(*inside, "link", "add", "back", "type", "veth", "peer", "name", "front", "netns", other.namespace)
        for host, device, number in ((self, "back", 1), (other, "front", 2)):
            run("ip", "-n", host.namespace, "address", "add", f"{self.network[:-3]}.99.{number}/24", "dev", device)
            run("ip", "-n", host.namespace, "link", "set", device, "up")
        return f"{self.network[:-3]}.99.2"

    def listeners(self) -> list[str]:
        """The addresses on which anything but sshd listens in the host's network."""
        words = ["ip", "netns", "exec", self.namespace, "ss", "-Hltn"]
        lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        return [address for line in lines if not (address := line.split()[3]).endswith(":22")]

    def cut(self) -> None:
        """Cut the link silently: packets are lost, and nobody is told."""
        run("ip", "-n", self.namespace, "link", "set", "eth0", "down")

    def mend(self) -> None:
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")

    def commands(self) -> dict[int, str]:
        """Command lines of the host's processes, sshd's listener left out.

        They share a PID namespace; QEMU has left the network namespace.
        """
        found, namespace = {}, Path(f"/proc/{self.init}/ns/pid").readlink()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (path / "ns/pid").readlink() == namespace and int(path.name) != self.init:
                    text = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                    if text:  # a process without a command line has ended
                        found[int(path.name)] = text
        return found

    def workers(self) -> list[int]:
        """Processes of bootmatrix."""
        return [pid for pid, text in self.commands().items() if MODULE in text and not text.startswith("sh ")]

    def guests(self) -> list[int]:
        """QEMUs that run a guest."""
        commands = self.commands().items()
        return [pid for pid, text in commands if text.split()[0].endswith(QEMU) and "-display" in text]

    def wait_gone(self, limit_s: float = 15.0) -> dict[int, str]:
        """Wait until no process of a run is left; those that are left after the limit."""
        end = time.monotonic() + limit_s
        while True:
            left = {pid: text for pid, text in self.commands().items() if "sshd" not in text}
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.2)

    def down(self) -> None:
        """End the host's processes, and remove it."""
        if self.program:
            self.program.kill()
            self.program.wait()
        subprocess.run(["ip", "link", "del", self.link], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True)

    def entry(self, **more: object) -> str:
        """The host's entry of hosts.yml."""
        lines = {
            "name": self.name,
            "address": self.address,
            "user": "root",
            "key": str(self.key),
            "known_hosts": str(self.known_hosts),
            "python": PYTHON,
            "cache": str(self.cache),
            **more,
        }
        return (
            "  - {"
            + ", ".join(
                f'{key}: "{value}"' if isinstance(value, str) else f"{key}: {value}" for key, value in lines.items()
            )
            + "}\n"
        )


def remove_abandoned() -> None:
    """Remove namespaces of tests that were killed. Their processes ended with the test, their links go with them."""
    for path in Path("/run/netns").glob("bm*n*"):
        owner = path.name[2:].partition("n")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            subprocess.run(["ip", "netns", "del", path.name], check=False, capture_output=True)


@contextmanager
def ssh_hosts(folder: Path, count: int) -> Iterator[list[SshHost]]:
    """So many hosts, called a, b, …, with one key for all."""
    remove_abandoned()
    folder.mkdir(parents=True, exist_ok=True)
    key = make_key(folder / "key")
    hosts = [SshHost("abcdefgh"[number], 10 + number, folder / f"host{number}", key) for number in range(count)]
    try:
        for host in hosts:
            host.up()
        yield hosts
    finally:
        for host in hosts:
            host.down()


def write_hosts(path: Path, hosts: list[SshHost], **more: object) -> Path:
    """Write hosts.yml."""
    path.write_text("hosts:\n" + "".join(host.entry(**more) for host in hosts))
    return path

"""Hosts that are network namespaces with a real sshd, for tests of many machines. They need root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SSHD = "/usr/sbin/sshd"
PYTHON = "/usr/bin/python3"
"""Debian's Python, which has nothing of bootmatrix."""


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
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

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
        """Make the namespace and start its sshd."""
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
        authorized = self.folder / "authorized_keys"
        shutil.copy(f"{self.key}.pub", authorized)
        config = self.folder / "sshd_config"
        config.write_text(
            f"HostKey {self.folder / 'host_key'}\nAuthorizedKeysFile {authorized}\nStrictModes no\n"
            "PermitRootLogin yes\nPidFile none\nUsePAM no\nSubsystem sftp internal-sftp\n"
            "PasswordAuthentication no\nLogLevel ERROR\n"
        )
        self.start_sshd()

    def start_sshd(self) -> None:
        """Start sshd. `unshare` and the kill signal of `setpriv` end all with the test."""
        Path("/run/sshd").mkdir(exist_ok=True)
        self.programs.append(
            subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    "ip",
                    "netns",
                    "exec",
                    self.namespace,
                    SSHD,
                    "-D",
                    "-e",
                    "-f",
                    str(self.folder / "sshd_config"),
                ],
                stdin=subprocess.DEVNULL,
                stderr=(self.folder / "sshd.log").open("ab"),
            )
        )
        for _ in range(100):
            if self.listens():
                return
            time.sleep(0.1)
        raise AssertionError("sshd does not start")

    def listens(self) -> bool:
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, "ss", "-Hltn", "sport", "=", ":22"],
            capture_output=True,
            text=True,
            check=True,
        )
        return bool(done.stdout.strip())

    def trust(self) -> None:
        """Write the host's key down as known."""
        words = (self.folder / "host_key.pub").read_text().split()
        self.known_hosts.write_text(f"{self.address} {words[0]} {words[1]}\n")

    def cut(self) -> None:
        """Cut the link silently: packets are lost, and nobody is told."""
        run("ip", "-n", self.namespace, "link", "set", "eth0", "down")

    def mend(self) -> None:
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")

    def pids(self) -> list[int]:
        """Processes in the namespace, sshd's listener left out."""
        done = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False)
        listeners = {program.pid for program in self.programs}
        return [pid for pid in map(int, done.stdout.split()) if pid not in listeners]

    def commands(self) -> dict[int, str]:
        """Command lines of the host's processes."""
        found = {}
        for pid in self.pids():
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
        return found

    def workers(self) -> list[int]:
        return [
            pid for pid, command in self.commands().items() if "worker_process" in command and "sh -c" not in command
        ]

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
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for program in self.programs:
            program.kill()
            program.wait()
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self.link], check=False, capture_output=True)

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
    """Remove namespaces of tests that were killed. Their links go with them."""
    for path in Path("/run/netns").glob("bm*n*"):
        owner = path.name[2:].partition("n")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            for pid in subprocess.run(
                ["ip", "netns", "pids", path.name], capture_output=True, text=True, check=False
            ).stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
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

"""A Debian archive of a few small packages, really signed."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path


@dataclass(frozen=True)
class Signer:
    """A key of its own, in a GnuPG folder of its own."""

    home: Path

    @classmethod
    def create(cls, home: Path) -> Signer:
        """Make a key. The folder's path must be short, for the agent's socket."""
        home.mkdir(mode=0o700)
        signer = cls(home)
        signer.gpg("--passphrase", "", "--quick-gen-key", "Archive of the tests", "ed25519", "sign", "never")
        (home / "keyring.gpg").write_bytes(signer.gpg("--export"))
        return signer

    @property
    def keyring(self) -> Path:
        """The public key, as gpgv takes it."""
        return self.home / "keyring.gpg"

    def sign(self, text: str) -> bytes:
        """A clear-signed text."""
        return self.gpg("--clearsign", data=text.encode())

    def close(self) -> None:
        """End GnuPG's agent."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, timeout=30)

    def gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        """Run gpg, and give what it prints."""
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments]
        return subprocess.run(command, input=data, capture_output=True, check=True, timeout=60).stdout


def make_deb(control: str, files: dict[str, bytes]) -> bytes:
    """A package as deb(5) has it, the same for the same input."""

    def tar(members: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return gzip.compress(buffer.getvalue(), mtime=0)

    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": tar({"control": control.encode()}),
        "data.tar.gz": tar(files),
    }
    deb = b"!<arch>\n"
    for name, data in parts.items():
        deb += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return deb


@dataclass
class Suite:
    """A suite under construction; `paragraphs` by architecture."""

    name: str
    codename: str
    paragraphs: dict[str, list[str]] = field(default_factory=dict)
    valid_until: datetime | None = None
    date: datetime | None = None
    """When it was made; now, if this says nothing."""


class SmallArchive:
    """An archive in a folder. Add packages, then publish."""

    def __init__(self, root: Path, signer: Signer) -> None:
        self.root, self.signer = root, signer
        self.suites: dict[str, Suite] = {}

    def suite(self, name: str, codename: str = "") -> Suite:
        """A suite, made when it is first spoken of."""
        return self.suites.setdefault(name, Suite(name, codename or name))

    def add(
        self,
        suite: str,
        name: str,
        version: str = "1.0-1",
        arch: str = "amd64",
        depends: str = "",
        provides: str = "",
        size_bytes: int = 0,
    ) -> Path:
        """Put a package into a suite, and give its file; `size_bytes` of it are noise."""
        control = f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += f"Provides: {provides}\n" if provides else ""
        noise = b"".join(hashlib.sha256(f"{name} {number}".encode()).digest() for number in range(size_bytes // 32))
        deb = make_deb(control + "Description: of the tests\n", {f"usr/share/{name}": noise or version.encode()})
        file = self.root / f"pool/main/{name}_{version.replace(':', '%3a')}_{arch}.deb"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(deb)
        digest = hashlib.sha256(deb).hexdigest()
        where = f"Filename: {file.relative_to(self.root)}\nSize: {len(deb)}\nSHA256: {digest}\n"
        self.suite(suite).paragraphs.setdefault(arch, []).append(control + where + "Description: of the tests\n more\n")
        return file

    def publish(self) -> None:
        """Write all indexes, and sign them."""
        for suite in self.suites.values():
            lines = [line for arch in suite.paragraphs for line in self._write_packages(suite, arch)]
            self.sign(suite, "\n".join(lines))

    def packages_file(self, suite: str, arch: str = "amd64") -> Path:
        """Where a suite's list of packages is."""
        return self.root / f"dists/{suite}/main/binary-{arch}/Packages.xz"

    def inrelease(self, suite: str) -> Path:
        """Where a suite's signed index is."""
        return self.root / f"dists/{suite}/InRelease"

    def sign(self, suite: Suite, digests: str) -> None:
        """Write a suite's InRelease."""
        date = format_datetime(suite.date or datetime.now(UTC), usegmt=True)
        valid = f"Valid-Until: {format_datetime(suite.valid_until, usegmt=True)}\n" if suite.valid_until else ""
        text = (
            f"Origin: Debian\nSuite: {suite.name}\nCodename: {suite.codename}\nDate: {date}\n"
            f"{valid}Acquire-By-Hash: yes\nComponents: main\nMD5Sum:\n {'0' * 32} 1 main/binary-amd64/Packages.xz\n"
            f"SHA256:\n{digests}\n"
        )
        self.inrelease(suite.name).parent.mkdir(parents=True, exist_ok=True)
        self.inrelease(suite.name).write_bytes(self.signer.sign(text))

    def expire(self, suite: str) -> None:
        """Let a suite's time be over."""
        self.suite(suite).valid_until = datetime.now(UTC) - timedelta(days=1)
        self.publish()

    def fall_out_of_step(self, suite: str, arch: str = "amd64") -> None:
        """Leave a list of packages that the signed index does not speak of, as a mirror in mid-update does."""
        file = self.packages_file(suite, arch)
        for by_hash in (file.parent / "by-hash/SHA256").iterdir():
            by_hash.unlink()
        file.write_bytes(lzma.compress(b"Package: something-else\nVersion: 9\n"))

    def _write_packages(self, suite: Suite, arch: str) -> Iterator[str]:
        file = self.packages_file(suite.name, arch)
        data = lzma.compress("\n".join(suite.paragraphs[arch]).encode())
        digest = hashlib.sha256(data).hexdigest()
        by_hash = file.parent / "by-hash/SHA256"
        by_hash.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        (by_hash / digest).write_bytes(data)
        yield f" {digest} {len(data)} {file.relative_to(self.root / 'dists' / suite.name)}"

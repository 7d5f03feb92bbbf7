"""Repositories of every format, made by the formats' own tools and really signed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import zstandard
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from small_archive import Signer

Files = Mapping[str, bytes]
APK_KEY = "tests@example.org-12345678.rsa.pub"
SPEC = """\
Name: {name}
Version: {version}
Release: {release}
Summary: of the tests
License: GPL
BuildArch: {arch}
AutoReqProv: no
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}
%define _binary_payload w1.zstdio
%description
Of the tests.
%install
cp -r {tree}/. %{{buildroot}}/
%files
{files}
"""


def run(*command: str | Path, folder: Path | None = None, **env: str) -> bytes:
    """Run a program of the format, and give its output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, capture_output=True, timeout=300, check=False, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def write_tree(files: Files, folder: Path) -> None:
    """Write files below a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def pax(files: Files, *, end: bool = True) -> bytes:
    """A tar archive, with or without its end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        size = archive.offset
    return buffer.getvalue() if end else buffer.getvalue()[:size]


@dataclass
class Repository:
    """A repository in a folder. Add packages, then publish."""

    root: Path
    signer: Signer
    signed: str = "index"
    entries: list[str] = field(default_factory=list)
    arch: ClassVar[str] = "x86_64"
    format: ClassVar[str] = ""
    index_path: ClassVar[str] = ""

    def address(self, server: str) -> str:
        """The repository as a catalogue names it."""
        return server

    @property
    def index(self) -> Path:
        """The signed index."""
        return self.root / self.index_path

    @property
    def keys(self) -> Path:
        """The public key."""
        return self.signer.keyring

    def add(self, name: str, version: str, files: Files) -> Path:
        """Put a package in, and give its file."""
        raise NotImplementedError

    def publish(self) -> None:
        """Write the index, and sign it."""
        raise NotImplementedError


class Apt(Repository):
    """By dpkg-deb and apt-ftparchive. `valid_s` is the time until it expires."""

    arch = "amd64"
    format = "apt"
    index_path = "dists/stable/InRelease"
    valid_s = ""

    def address(self, server: str) -> str:
        return f"{server} stable"

    def add(self, name: str, version: str, files: Files) -> Path:
        tree = self.root.parent / f"tree-{name}"
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: x\nDescription: x\n"
        write_tree({**files, "DEBIAN/control": control.encode()}, tree)
        file = self.root / f"pool/{name}_{version}_amd64.deb"
        file.parent.mkdir(parents=True, exist_ok=True)
        run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, file)
        shutil.rmtree(tree)
        return file

    def publish(self) -> None:
        lists = self.root / "dists/stable/main/binary-amd64"
        lists.mkdir(parents=True, exist_ok=True)
        text = run("apt-ftparchive", "packages", "pool", folder=self.root)
        (lists / "Packages.gz").write_bytes(gzip.compress(text))
        self.index.unlink(missing_ok=True)
        options = {"Suite": "stable", "Codename": "stable", "Components": "main", "Architectures": "amd64"}
        words = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in options.items()]
        release = run("apt-ftparchive", *words, "release", "dists/stable", folder=self.root).decode()
        self.index.write_bytes(self.signer.sign(release.replace("Components", f"{self.valid_s}Components", 1)))


class RpmMd(Repository):
    """By rpmbuild, rpmsign and createrepo_c."""

    format = "rpm-md"
    index_path = "repodata/repomd.xml"

    def add(self, name: str, version: str, files: Files) -> Path:
        top = self.root.parent / f"rpm-{name}"
        write_tree(files, top / "tree")
        number, _, release = version.partition("-")
        listed = "\n".join(f'"/{file}"' for file in files)
        spec = SPEC.format(name=name, version=number, release=release, arch=self.arch, tree=top / "tree", files=listed)
        (top / "x.spec").write_text(spec)
        defined = {"_topdir": top, "_rpmdir": self.root, "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.rpm"}
        words = [word for key, value in defined.items() for word in ("--define", f"{key} {value}")]
        run("rpmbuild", "-bb", "--target", self.arch, *words, top / "x.spec")
        shutil.rmtree(top)
        file = self.root / f"{name}-{version}.rpm"
        if self.signed == "packages":
            sign_rpm(file, self.signer)
        return file

    def publish(self, *options: str) -> None:
        run("createrepo_c", "--quiet", "--no-database", *options, self.root)
        self.sign()

    def sign(self) -> None:
        """Sign the index."""
        signature = self.signer.gpg("--armor", "--detach-sign", data=self.index.read_bytes())
        self.index.with_name("repomd.xml.asc").write_bytes(signature)


def sign_rpm(file: Path, signer: Signer) -> None:
    """Sign a package by rpm's own tool."""
    defined = {"__gpg": shutil.which("gpg"), "_gpg_name": "Archive of the tests", "_gpg_path": signer.home}
    words = [word for key, value in defined.items() for word in ("--define", f"{key} {value}")]
    run("rpmsign", "--addsign", *words, file, GNUPGHOME=str(signer.home))


class Pacman(Repository):
    """By repo-add."""

    format = "pacman"
    index_path = "core.db"

    def address(self, server: str) -> str:
        return f"{server} core"

    def add(self, name: str, version: str, files: Files) -> Path:
        size = sum(map(len, files.values()))
        info = f"pkgname = {name}\npkgver = {version}\npkgdesc = x\nurl = x\nbuilddate = 1\npackager = x\n"
        info += f"size = {size}\narch = x86_64\n"
        file = self.root / f"{name}-{version}-x86_64.pkg.tar.zst"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(zstandard.compress(pax({".PKGINFO": info.encode(), **files}), 1))
        if self.signed == "packages":
            signature = self.signer.gpg("--detach-sign", data=file.read_bytes())
            file.with_name(f"{file.name}.sig").write_bytes(signature)
        return file

    def publish(self) -> None:
        for old in self.root.glob("core.*"):
            old.unlink()
        files = sorted(self.root.glob("*.pkg.tar.zst"))
        run("repo-add", "--quiet", "core.db.tar.gz", *(file.name for file in files), folder=self.root)
        signature = self.signer.gpg("--detach-sign", data=self.index.read_bytes())
        (self.root / "core.db.sig").write_bytes(signature)


class Apk(Repository):
    """By hand: apk-tools are not in the Debian archive."""

    format = "apk"
    index_path = "APKINDEX.tar.gz"
    key: ClassVar[rsa.RSAPrivateKey] = rsa.generate_private_key(65537, 2048)

    @property
    def keys(self) -> Path:
        path = self.root.parent / APK_KEY
        path.write_bytes(self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return path

    def add(self, name: str, version: str, files: Files) -> Path:
        data = gzip.compress(pax(files), 1)
        info = f"pkgname = {name}\npkgver = {version}\ndatahash = {hashlib.sha256(data).hexdigest()}\n"
        control = gzip.compress(pax({".PKGINFO": info.encode()}, end=False))
        file = self.root / f"{name}-{version}.apk"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.signature(control) + control + data)
        digest = base64.b64encode(hashlib.sha1(control).digest()).decode()
        text = f"C:Q1{digest}\nP:{name}\nV:{version}\nA:x86_64\nS:{file.stat().st_size}\nI:1\nT:x\n"
        self.entries.append(text)
        return file

    def signature(self, data: bytes) -> bytes:
        """A stream with the signature of what follows."""
        made = self.key.sign(data, padding.PKCS1v15(), hashes.SHA1())
        return gzip.compress(pax({f".SIGN.RSA.{APK_KEY}": made}, end=False))

    def publish(self) -> None:
        index = gzip.compress(pax({"DESCRIPTION": b"tests", "APKINDEX": "\n".join(self.entries).encode()}))
        self.index.write_bytes(self.signature(index) + index)


FORMATS: dict[str, type[Repository]] = {kind.format: kind for kind in (Apt, RpmMd, Pacman, Apk)}

"""Kernels of other distributions: a list of packages as large as Fedora's, and a name that was looked up before."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import Result, median
from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.kernel.custom import find_kernel
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import RepositoryKernel
from bootmatrix.model.distribution import RepositoryKeys
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import open_archive
from bootmatrix.source.repositories.rpm_xml import read_packages
from bootmatrix.store import Store

sys.path.insert(0, str(CHECKOUT / "tests"))
from kernel_forms import kernel_files, make_kernel
from repositories import Pacman
from small_archive import Signer
from small_server import serve

LIST_BYTES, LIST_MIB = 100_000_000, 150
LOOKUP_S, LOOKUPS = 0.1, 20
ARCH, VERSION = "x86_64", "6.1.0-1"
PACKAGE = """\
<package type="rpm"><name>{name}</name><arch>x86_64</arch><version epoch="0" ver="6.1.{number}" rel="1"/>
<checksum type="sha256" pkgid="YES">{number:064x}</checksum><summary>{text}</summary><description>{text}</description>
<size package="1000" installed="2000" archive="3000"/><location href="Packages/{name}-6.1.{number}-1.x86_64.rpm"/>
<format><rpm:license>GPL</rpm:license><rpm:provides>{provides}</rpm:provides></format></package>
"""
PROVIDES = "".join(f'<rpm:entry name="lib{number}.so()(64bit)" flags="EQ" epoch="0" ver="1"/>' for number in range(12))


def catalogues(_args: argparse.Namespace) -> Iterator[Result]:
    """The list in a process of its own, the name with a cache that has all of it."""
    with tempfile.TemporaryDirectory() as folder:
        yield _list_result(Path(folder) / "primary.xml")
        yield _lookup_result(Path(folder))


def _list_result(path: Path) -> Result:
    with path.open("w", encoding="utf-8") as file:
        file.write('<metadata xmlns:rpm="http://linux.duke.edu/metadata/rpm">\n')
        number = 0
        while file.tell() < LIST_BYTES:
            name = "kernel-core" if number % 10_000 == 0 else f"package{number}"
            file.write(PACKAGE.format(name=name, number=number, text="word " * 60, provides=PROVIDES))
            number += 1
        file.write("</metadata>\n")
    size_mb = path.stat().st_size / 1e6
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.catalogues", path], capture_output=True, text=True, check=True
    )
    cpu_s, mib = map(float, done.stdout.split())
    return Result(
        name=f"catalogues: a list of packages of {size_mb:.0f} MB",
        value=f"{number} packages, {cpu_s:.1f} s of CPU time, {mib:.0f} MiB, with the interpreter and all modules",
        target=f"{LIST_MIB} MiB",
        ok=mib <= LIST_MIB,
    )


def _lookup_result(folder: Path) -> Result:
    os.environ["NO_PROXY"] = "127.0.0.1"
    profile = load_profiles([CHECKOUT / "arch"])[ARCH]
    signer = Signer.create(folder / "gnupg")
    repository = Pacman(folder / "served", signer)
    repository.add("linux", VERSION, kernel_files(make_kernel(profile, release=VERSION), VERSION))
    repository.publish()
    store = Store(folder / "cache")
    samples_s = []
    with serve(folder / "served") as server:
        source = RepositoryKernel(
            distribution="mine",
            format="pacman",
            signed="index",
            keys=RepositoryKeys(files=(str(signer.keyring),)),
            architecture=ARCH,
            repositories=(repository.address(server.address),),
            image="linux",
        )
        for _ in range(1 + LOOKUPS):
            archive = open_archive(store, offline=False, lock=None, address=None, progress=NullObserver())
            started = time.monotonic()
            find_kernel("mine-1", source, profile, Builder(store, archive))
            samples_s.append(time.monotonic() - started)
    signer.close()
    found_s = median(samples_s[1:])
    return Result(
        name="catalogues: a name that was looked up before",
        value=f"{found_s * 1000:.0f} ms",
        target=f"{LOOKUP_S} s",
        ok=found_s <= LOOKUP_S,
        details={"samples_s": samples_s[1:]},
    )


def _read(path: Path) -> None:
    started_s = time.process_time()
    packages = read_packages(path, "http://127.0.0.1/", re.compile("kernel-core"), ARCH)
    cpu_s = time.process_time() - started_s
    assert packages
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage has the parent's peak before exec, too
    print(cpu_s, int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0]) / 1024)


if __name__ == "__main__":
    _read(Path(sys.argv[1]))

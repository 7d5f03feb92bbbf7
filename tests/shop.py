"""A product under real tests each night: an image in a registry, booted, under a false clock.

The nights are docs/nightly/nightly.sh itself, in processes whose clock is off by some days (clock.c).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.image.builder import make_image as build_image
from bootmatrix.load.profile import load_profiles
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import open_archive
from bootmatrix.store import Store, default_cache
from image_maker import Made, Pusher, make_image
from packages import entry, make_tar
from referrers_registry import ReferrersRegistry
from stage import BOOTMATRIX, ROOT

ARCH, OLD, NEW = "x86_64", "6.1", "6.12"
CLOCK = "clock.so"
NIGHT_LIMIT_S = 600
MATRIX = f"specs: [shop.yml]\narch: [{ARCH}]\nkernel: ['{OLD}', '{NEW}']\n"
SPEC = """
init: ["@pkg:./images/init", "@pkg:./images/crun"]
services:
  - {{name: shop, image: "{image}", command: [/usr/bin/shop, serve]}}
  - {{name: orders, image: "{image}", command: [/usr/bin/shop, test], annotations: {{bootmatrix.check: 60s}}}}
"""
PROGRAM = """#!/bin/sh
# A shop and its tests, which print as pytest does. It cannot refund on these kernels: @BROKEN@
if [ "$1" = serve ]; then
    trap "exit 0" TERM
    sleep 600 &
    wait
fi
case "$(uname -r)" in
@BROKEN@)
    echo "________________________________ test_refund ________________________________"
    echo "E       assert 3 == 4"
    echo "FAILED test_shop.py::test_refund - assert 3 == 4"
    echo "========================= 1 failed, 1 passed in 0.05s ========================="
    exit 1 ;;
esac
echo "============================== 2 passed in 0.05s =============================="
"""


def shop_image(version: str, broken: str = "none") -> Made:
    """Build an image of the shop in a version that cannot refund on some kernels, a pattern of releases."""
    store = Store(default_cache())
    archive = open_archive(store, offline=False, lock=None, address=None, progress=NullObserver())
    profile = load_profiles([ROOT / "arch"])[ARCH]
    busybox = build_image("@pkg:./images/busybox", ROOT / "specs/hello.yml", profile, Builder(store, archive))
    program = PROGRAM.replace("@BROKEN@", broken).encode()
    layers = [store.verified(layer).read_bytes() for layer in busybox.layers]
    layers.append(make_tar([entry("usr/bin/shop", program, mode=0o755)]))
    config = {"Labels": {"org.opencontainers.image.version": version}, "Env": ["PATH=/usr/bin:/bin"]}
    return make_image(*layers, platform=profile.names.oci, config=config)


@dataclass(frozen=True)
class Said:
    """A command's exit status and output."""

    status: int
    text: str


@dataclass
class Shop:
    """A folder with the matrix, and the registry that the shop is shipped to."""

    folder: Path
    registry: ReferrersRegistry

    def __post_init__(self) -> None:
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", self.folder / CLOCK, source], check=True)
        (self.folder / "bin").mkdir()
        program = self.folder / "bin/bootmatrix"
        program.write_text(f'#!/bin/sh\nexec {" ".join(BOOTMATRIX)} "$@"\n')
        program.chmod(0o755)
        shutil.copy(ROOT / "docs/nightly/nightly.sh", self.folder)
        (self.folder / "images").symlink_to(ROOT / "specs/images")
        (self.folder / "shop.matrix.yml").write_text(MATRIX)
        (self.folder / "shop.yml").write_text(SPEC.format(image=f"{self.registry.host}/shop:nightly"))

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    @property
    def newest(self) -> Path:
        return (self.reports / "latest").resolve()

    @property
    def index(self) -> str:
        """The index page's text, without tags."""
        page = (self.reports / "index.html").read_text(encoding="utf-8")
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page.partition("<body")[2]))

    def metric(self, name: str) -> float:
        """A number of the newest run's metrics."""
        text = (self.folder / "bootmatrix.prom").read_text(encoding="utf-8")
        found = re.search(rf'^bootmatrix_run_{name}{{title="shop"}} (\S+)$', text, re.MULTILINE)
        assert found, text
        return float(found[1])

    def ship(self, version: str, broken: str = "none") -> str:
        """Push a version of the shop, and lock the matrix to it; return its digest."""
        digest = Pusher(f"http://{self.registry.host}").push("shop", shop_image(version, broken), "nightly")
        done = self.run("lock", "shop.matrix.yml")  # by the true clock: the archive has a date
        assert done.status == 0, done.text
        return digest

    def run(self, *words: str, day: int = 0, hour: int = 8) -> Said:
        """Run a command of bootmatrix, on a day of March if one is given."""
        return self._program(["bootmatrix", *words], day, hour)

    def night(self, day: int, *options: str) -> Said:
        """Run the night's script at two o'clock, with further options of `matrix`."""
        return self._program(["./nightly.sh", "shop.matrix.yml", "--locked", *options], day, 2)

    def killed_night(self, day: int) -> None:
        """Kill a night when its first cell is finished."""
        command = ["./nightly.sh", "shop.matrix.yml", "--locked", "--jobs", "1"]
        with subprocess.Popen(
            command, cwd=self.folder, env=self._environment(day, 2), stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        ) as started:  # fmt: skip
            assert started.stdout
            assert any(line.startswith("[1/2] ") for line in started.stdout)
            os.killpg(started.pid, signal.SIGKILL)

    def _program(self, command: list[str], day: int, hour: int) -> Said:
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment(day, hour), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=NIGHT_LIMIT_S, check=False,
        )  # fmt: skip
        return Said(done.returncode, done.stdout)

    def _environment(self, day: int, hour: int) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("BOOTMATRIX_REPORTS")}
        ours |= {"PATH": f"{self.folder / 'bin'}:{ours['PATH']}", "CI": "true", "TZ": "UTC", "COLUMNS": "120"}
        if not day:
            return ours
        offset_s = int((datetime(2026, 3, day, hour, tzinfo=UTC) - datetime.now(UTC)).total_seconds())
        return {**ours, "LD_PRELOAD": str(self.folder / CLOCK), "CLOCK_OFFSET_S": str(offset_s)}

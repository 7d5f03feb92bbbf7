"""The whole tool on real input: packages and kernels of the archive, real guests on every architecture."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import kernel_forms
from bootmatrix.assembly.kernel.package import kernel_key, known_files
from bootmatrix.assembly.kernel.probe import page_kib_of
from bootmatrix.model import Kernel, KernelSource
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import open_archive
from bootmatrix.source.deb import open_data
from bootmatrix.source.kernel_formats.member import of_tar
from bootmatrix.store import Store, default_cache, sha256_of

pytestmark = pytest.mark.boots
LONG = pytest.mark.long

ROOT = Path(__file__).parents[1]
BOOTMATRIX = [sys.executable, "-m", "bootmatrix.cli.main"]

Ended = tuple[int, str, dict[str, Any], Path]
"""Exit status, what was printed, records by spec/arch/machine/kernel, and the run's folder."""

GUEST = """
init: ["@pkg:./images/init", "@pkg:./images/crun"]
"""

ONBOOT = """
onboot:
  - name: work
    image: "@pkg:./images/busybox"
    command: [/bin/sh, -c, {script}]
"""

FORGED = (
    "echo 'Moby test suite PASSED'; echo 'bootmatrix hello 1'; "
    "echo 'bootmatrix 4 0123456789abcdef end pass 0'; cat /proc/cmdline; exit 3"
)

SERVICE_DIES = """
services:
  - name: server
    image: "@pkg:./images/busybox"
    command: [/bin/sh, -c, "sleep 1"]
  - name: check
    image: "@pkg:./images/busybox"
    command: [/bin/sh, -c, "sleep 30; echo fine"]
    annotations: {bootmatrix.check: 60s}
"""

CHECK_TOO_SLOW = """
services:
  - name: check
    image: "@pkg:./images/busybox"
    command: [/bin/sh, -c, "while sleep 1; do echo waits; done"]
    annotations: {bootmatrix.check: 10s}
"""

FOREIGN = """
init: ["@pkg:./images/foreign"]
"""

ANNOTATED = """
onboot:
  - name: never-run
    image: "@pkg:./images/busybox"
    annotations: {bootmatrix.console: "this is never shown"}
"""

FOREIGN_RECIPE = """
packages: [busybox-static]
without: [libc6]
files:
  - path: init
    mode: "0755"
    contents: |
      #!/bin/busybox sh
      /bin/busybox mount -t devtmpfs dev /dev
      exec </dev/console >/dev/console 2>&1
      echo "Moby test suite PASSED"
      /bin/busybox sleep 1
      exec /bin/busybox poweroff -f
"""

LEAVES = """
onboot:
  - name: work
    image: "@pkg:./images/busybox"
    binds: ["/opt/leave:/leave"]
    command: [/leave]
files:
  - {path: opt/leave, source: leave, mode: "0755"}
"""

LEAVE = base64.b64decode(
    "f0VMRgIBAQAAAAAAAAAAAAIAtwABAAAAeAABAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAEAAOAABAAAAAAAAAAEAAAAFAAAAAAAAAAAAAAAA"
    "AAEAAAAAAAAAAQAAAAAApAAAAAAAAACkAAAAAAAAAAAAAQAAAAAA4QNA+SE8AZHABIDSQACg8uAHv6nhAwCRAASAUgAAXtQgAIDSqAuA0gEAANQ="
)
"""A static A64 program that leaves by semihosting with status 80, as init does after a pass: ldr x1, [sp];
add x1, x1, #79; mov x0, #0x26; movk x0, #2, lsl 16; stp x0, x1, [sp, #-16]!; mov x1, sp; mov w0, #0x20; hlt #0xf000."""

SHARED = """
init: ["@pkg:./images/init", "@pkg:./images/crun"]
volumes:
  - {name: shared}
  - {name: tools, image: "@pkg:./images/busybox", readonly: true}
onboot:
  - name: writer
    image: "@pkg:./images/busybox"
    binds: ["shared:/data"]
    command: [/bin/sh, -c, "echo written >/data/x; grep CapEff /proc/self/status | grep 0000000000000000"]
    runtime:
      mkdir: [/run/made]
      cgroups: [mine]
      mounts: [{type: tmpfs, destination: /run/small, options: [size=1m]}]
  - name: owner
    image: "@pkg:./images/busybox"
    net: new
    command: [/bin/sh, -c, ip link show dummy7 && ip link show dummy8]
    runtime:
      interfaces: [{name: dummy7, add: dummy, createInRoot: true}, {name: dummy8, add: dummy}]
      bindNS: {net: /run/netns/kept}
  - name: reader
    image: "@pkg:./images/busybox"
    net: /run/netns/kept
    binds: ["shared:/data", "tools:/tools:ro", "/run:/run", "/sys/fs/cgroup:/groups"]
    resources: {pids: {limit: 50}}
    uid: reader
    command:
      - /bin/sh
      - -c
      - >-
        set -e; [ "$(id -u)" = 102 ]; grep written /data/x; ls /tools/bin/busybox /run/made /groups/mine;
        ip link show dummy7; mount | grep "/run/small .*size=1024k"
"""

LOOKS = """
onboot:
  - name: work
    image: "@pkg:./images/busybox"
    binds: ["/dev:/dev", "/sys:/sys"]
    command: [/bin/sh, -c, 'grep -q ^hello /dev/vda && grep 0x11e8 /sys/bus/pci/devices/*/device']
    annotations: {bootmatrix.modules: virtio_blk}
"""

MATRIX = """
specs: [hello.yml]
arch: [x86_64, aarch64, armv7, ppc64le]
kernel: ["6.1"]
include:
  - {spec: hello.yml, arch: s390x, kernel: "6.1"}
  - {spec: influxdb.yml, arch: x86_64, kernel: "7.2"}
  - {spec: shared.yml, arch: aarch64, kernel: "7.2"}
  - {spec: forged.yml, arch: aarch64, kernel: "6.1"}
  - {spec: panic.yml, arch: aarch64, kernel: "6.1"}
  - {spec: silent.yml, arch: aarch64, kernel: "6.1"}
  - {spec: slow.yml, arch: aarch64, kernel: "6.1"}
  - {spec: no-package.yml, arch: aarch64, kernel: "6.1"}
  - {spec: leaves.yml, arch: board64, kernel: "6.1"}
  - {spec: foreign.yml, arch: aarch64, kernel: "6.1"}
  - {spec: other-foreign.yml, arch: aarch64, kernel: "6.1"}
  - {spec: unproved.yml, arch: aarch64, kernel: "6.1"}
  - {spec: missing.guest.yml, arch: aarch64, kernel: "6.1"}
  - {spec: looks.yml, arch: aarch64, kernel: "6.1"}
LONG_ROWS
qemu_args:
  - spec: looks.yml
    args: -drive file=data.img,if=none,id=d,readonly=on -device virtio-blk-pci,drive=d -device edu
console:
  - {spec: foreign.yml, text: "Moby test suite PASSED", forbid: ["FAILED"]}
  - {spec: other-foreign.yml, text: "Moby test suite PASSED", forbid: ["Freeing unused kernel"]}
xfail:
  - {spec: slow.yml, reason: it never ends}
timeouts: {silence: 10s}
retries: 0
"""


LONG_ROWS = """\
  - {spec: hello.yml, arch: armv7/raspi2b, kernel: "6.1"}
  - {spec: hello.yml, arch: ppc64le, kernel: "7.2"}
  - {spec: wrong-port.yml, arch: x86_64, kernel: "7.2"}
  - {spec: hello.yml, arch: aarch64, kernel: repacked}
  - {spec: hello.yml, arch: board32, kernel: "6.1"}
  - {spec: annotated.yml, arch: aarch64, kernel: "6.1"}
  - {spec: plan.yml, arch: aarch64, kernel: "6.1"}
  - {spec: dies.yml, arch: aarch64, kernel: "6.1"}
"""
"""Cells that are booted for tests that are `long`."""


def onboot(script: str) -> str:
    return GUEST + ONBOOT.format(script=json.dumps(script))


def write_specs(folder: Path, long: bool) -> Path:
    shutil.copytree(ROOT / "specs", folder, dirs_exist_ok=True)
    influxdb = (folder / "influxdb.yml").read_text(encoding="utf-8")
    specs = {
        "wrong-port.yml": influxdb.replace(":8086", ":8087").replace("-lt 150", "-lt 15"),
        "forged.yml": onboot(FORGED),
        "shared.yml": SHARED,
        "plan.yml": onboot("echo 1..3; echo ok 1 - one; echo ok 2 - two"),
        "panic.yml": onboot("echo c >/proc/sysrq-trigger; sleep 60") + "    capabilities: [CAP_SYS_ADMIN]\n",
        "silent.yml": onboot("sleep 600"),
        "dies.yml": GUEST + SERVICE_DIES,
        "slow.yml": GUEST + CHECK_TOO_SLOW,
        "leaves.yml": GUEST + LEAVES,
        "looks.yml": GUEST + LOOKS,
        "data.img": "hello".ljust(1024, "\n"),
        "foreign.yml": FOREIGN,
        "other-foreign.yml": FOREIGN,
        "unproved.yml": FOREIGN + ONBOOT.format(script="exit 0"),
        "annotated.yml": FOREIGN + ANNOTATED,
        "missing.guest.yml": "kernel: '{arch}-kernel'\ninitrd: none\nconsole: fine\n",
        "no-package.yml": GUEST + 'onboot: [{name: work, image: "@pkg:./images/none"}]\n',
    }
    for name, text in specs.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, text in (("none", "packages: [there-is-no-such-package]\n"), ("foreign", FOREIGN_RECIPE)):
        recipe = folder / "images" / name / "build.yml"
        recipe.parent.mkdir()
        recipe.write_text(text, encoding="utf-8")
    (folder / "leave").write_bytes(LEAVE)
    matrix = folder / "all.matrix.yml"
    matrix.write_text(MATRIX.replace("LONG_ROWS\n", LONG_ROWS if long else ""), encoding="utf-8")
    return matrix


def write_boards(folder: Path) -> None:
    """Boards without virtio that leave by semihosting."""
    folder.mkdir()
    for name, base in (("board64", "aarch64"), ("board32", "armv7")):
        profile = yaml.safe_load((ROOT / "arch" / f"{base}.yml").read_text(encoding="utf-8"))
        machine = profile["machines"]["virt"]
        machine |= {"min_qemu": "7.2", "result": "console", "exit": "semihosting"}
        profile |= {"aliases": [], "machines": {"virt": machine}}
        (folder / f"{name}.yml").write_text(yaml.safe_dump(profile), encoding="utf-8")


def add_repacked_kernel(folder: Path) -> str:
    """Debian's kernel, its modules cut down to what the board needs, added out of an RPM; the file that names it."""
    archive = open_archive(Store(default_cache()), offline=False, lock=None, address=None, progress=NullObserver())
    kernel = archive.kernel("6.1", KernelSource(flavour="cloud-arm64", suites=("bookworm",)), "arm64")
    with open_data(archive.fetch(kernel.packages[0])) as members:
        wanted = {one.path: one.read() for one in of_tar(members) if re.search(r"^boot/|/virtio[^/]*\.ko$", one.path)}
    package = kernel_forms.rpm(wanted, folder, lambda data: gzip.compress(data, 1))
    command = [*BOOTMATRIX, "kernels", "add", "repacked", str(package)]
    kernels = str(folder / "kernels.yml")
    subprocess.run(command, env={**os.environ, "BOOTMATRIX_KERNELS": kernels}, check=True)
    return kernels


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Ended:
    """One matrix of every kind of end."""
    folder = tmp_path_factory.mktemp("matrix")
    long = any(item.path == Path(__file__) and item.get_closest_marker("long") for item in request.session.items)
    matrix = write_specs(folder / "specs", long)
    kernels = add_repacked_kernel(folder) if long else ""
    write_boards(folder / "arch")
    reports = folder / "reports"
    done = subprocess.run(
        [*BOOTMATRIX, "matrix", str(matrix), "--reports", str(reports)],
        capture_output=True,
        text=True,
        env={**os.environ, "CI": "true", "BOOTMATRIX_ARCH": str(folder / "arch"), "BOOTMATRIX_KERNELS": kernels},
        timeout=540,
        check=False,
    )
    records = json.loads((reports / "latest" / "run.json").read_text(encoding="utf-8"))["records"]
    return done.returncode, done.stdout + done.stderr, {_key(one["cell"]): one for one in records}, reports / "latest"


def _key(cell: dict[str, Any]) -> str:
    return "/".join((cell["spec_name"], cell["arch"], cell["machine"], cell["kernel"]))


def verdict(run: Ended, cell: str) -> tuple[str, str]:
    judgement = run[2][cell]["judgement"]
    return judgement["verdict"], judgement["reason"]


@pytest.mark.parametrize(
    "cell",
    [
        "hello/x86_64/q35/6.1",
        "hello/aarch64/virt/6.1",
        "hello/armv7/virt/6.1",
        "hello/ppc64le/pseries/6.1",
        pytest.param("hello/ppc64le/pseries/7.2", marks=LONG),
        pytest.param("hello/armv7/raspi2b/6.1", marks=LONG),
        "hello/s390x/ccw-virtio/6.1",
        "influxdb/x86_64/q35/7.2",
        "shared/aarch64/virt/7.2",
        pytest.param("hello/aarch64/virt/repacked", marks=LONG),
    ],
)
def test_passes(run: Ended, cell: str) -> None:
    assert verdict(run, cell)[0] == "pass", run[1]
    record = run[2][cell]
    assert record["outcome"]["exit_status"] == 0
    assert [event["name"] for event in record["outcome"]["events"]].count("SHUTDOWN") >= 1
    assert {artefact["kind"] for artefact in record["artefacts"]} >= {"kernel", "initrd", "image"}


def test_a_guest_with_another_init_passes_by_its_console_and_is_said_to(run: Ended) -> None:
    assert verdict(run, "foreign/aarch64/virt/6.1")[0] == "pass", run[1]
    judgement = run[2]["foreign/aarch64/virt/6.1"]["judgement"]
    assert judgement["is_weak"]
    assert "by its console alone" in judgement["reason"]
    assert not run[2]["hello/aarch64/virt/6.1"]["judgement"]["is_weak"]


def test_a_guest_has_what_its_own_arguments_of_qemu_give(run: Ended) -> None:
    assert verdict(run, "looks/aarch64/virt/6.1")[0] == "pass", run[1]
    record = run[2]["looks/aarch64/virt/6.1"]
    (drive,) = [one for one in record["artefacts"] if one["kind"] == "attached"]
    assert drive["sha256"] == hashlib.sha256(b"hello".ljust(1024, b"\n")).hexdigest()
    assert "edu" in record["command"]


def test_a_panic_leaves_its_trace_and_its_registers(run: Ended) -> None:
    record = run[2]["panic/aarch64/virt/6.1"]
    oops = [one for one in record["judgement"]["kernel_faults"] if one["is_fatal"]]
    assert {one["name"] for one in oops} >= {"kernel panic"}
    assert any("write_sysrq_trigger" in line for one in oops for line in one["trace"])
    kept = {one["kind"]: one for one in record["outcome"]["diagnostics"]}
    assert kept["registers"]["size_bytes"] > 500
    assert kept["tasks"]["note"] == "a panicked kernel does not answer"


def test_a_guest_that_hangs_was_asked_what_it_does(run: Ended) -> None:
    outcome = run[2]["silent/aarch64/virt/6.1"]["outcome"]
    kept = {one["kind"]: run[3] / "cells/silent/aarch64/virt/6.1" / one["file"] for one in outcome["diagnostics"]}
    assert set(kept) == {"screen", "registers", "tasks"}
    assert kept["registers"].read_text(encoding="utf-8").count("PC=") >= 2
    assert b"sysrq: Show State" in kept["tasks"].read_bytes()
    assert b"Run /init" in kept["screen"].read_bytes()
    assert b"sysrq: Show State" not in (kept["screen"].parent.parent / "console.log").read_bytes()


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("leaves/board64/virt/6.1", "fail"),
        pytest.param("hello/board32/virt/6.1", "pass", marks=LONG),
    ],
)
def test_a_board_without_power_off_leaves_by_semihosting(run: Ended, cell: str, found: str) -> None:
    assert verdict(run, cell)[0] == found, run[1]
    outcome = run[2][cell]["outcome"]
    assert (outcome["ended_by"], outcome["exit_status"]) == ("guest", 80)
    assert "SHUTDOWN" not in [event["name"] for event in outcome["events"]]


@pytest.mark.parametrize(
    ("cell", "expected", "word"),
    [
        pytest.param("wrong-port/x86_64/q35/7.2", "fail", "no answer from http://127.0.0.1:8087", marks=LONG),
        ("forged/aarch64/virt/6.1", "fail", "status 3"),
        pytest.param("plan/aarch64/virt/6.1", "fail", "expected 3 results, got 2", marks=LONG),
        ("panic/aarch64/virt/6.1", "panic", "panic"),
        ("silent/aarch64/virt/6.1", "hang", ""),
        pytest.param("dies/aarch64/virt/6.1", "fail", "server", marks=LONG),
        ("slow/aarch64/virt/6.1", "timeout", "check"),
        ("leaves/board64/virt/6.1", "fail", "init's last message is missing"),
        ("other-foreign/aarch64/virt/6.1", "fail", "'Freeing unused kernel', which is forbidden"),
        pytest.param(
            "annotated/aarch64/virt/6.1", "fail", "the console never showed 'this is never shown'", marks=LONG
        ),
        ("missing.guest/aarch64/virt/own", "build-error", "aarch64-kernel cannot be read: No such file"),
        ("unproved/aarch64/virt/6.1", "build-error", "its init is not bootmatrix's"),
        ("no-package/aarch64/virt/6.1", "build-error", "there-is-no-such-package"),
    ],
)
def test_fails_for_the_right_reason(run: Ended, cell: str, expected: str, word: str) -> None:
    found, reason = verdict(run, cell)
    assert (found, word in reason) == (expected, True), reason
    assert reason in (run[3] / "junit.xml").read_text(encoding="utf-8").replace("&quot;", '"').replace("&#x27;", "'")


def test_exit_status_says_that_a_guest_failed(run: Ended) -> None:
    assert run[0] == 1
    assert "Traceback" not in run[1]


def test_a_known_failure_is_as_expected(run: Ended) -> None:
    assert run[2]["slow/aarch64/virt/6.1"]["expected"] is True
    assert run[2]["forged/aarch64/virt/6.1"]["expected"] is False


def test_sub_results_are_the_checks_own(run: Ended) -> None:
    results = run[2]["influxdb/x86_64/q35/7.2"]["judgement"]["subresults"]
    names = [result["name"] for result in results]
    assert any("read them again" in name for name in names)
    assert {result["verdict"] for result in results} == {"pass"}


def test_profiles_know_the_size_of_their_kernels_pages(run: Ended) -> None:
    """As the kernels' own configurations have it."""
    assert page_sizes(run)["hello/ppc64le/pseries/6.1"] == 64


@LONG
def test_newer_kernels_of_an_architecture_have_other_pages(run: Ended) -> None:
    assert page_sizes(run)["hello/ppc64le/pseries/7.2"] == 4


def page_sizes(run: Ended) -> dict[str, int]:
    """Return the sizes in kernels' configurations, which are those of the profiles."""
    store, sizes = Store(default_cache()), dict[str, int]()
    for name, record in run[2].items():
        if record["kernel"] and record["cell"]["traits"] and "repacked" not in name:
            files = known_files(kernel_key(Kernel.model_validate_json(json.dumps(record["kernel"]))), store)
            assert files is not None
            assert files.config is not None
            sizes[name] = page_kib_of(store.verified(files.config).read_bytes())
            assert record["cell"]["traits"]["page_kib"] == sizes[name], name
    return sizes


@LONG
def test_a_kernel_of_ones_own_is_told_by_its_digest(run: Ended) -> None:
    (part,) = run[2]["hello/aarch64/virt/repacked"]["kernel"]["parts"]
    package = run[3].resolve().parents[1] / "kernel.rpm"
    assert (part["kind"], part["sha256"]) == ("rpm", sha256_of(package))
    assert part["sha256"] in (run[3] / "cells/hello/aarch64/virt/repacked/cell.html").read_text(encoding="utf-8")


def test_same_verdicts_from_the_saved_run(run: Ended) -> None:
    done = subprocess.run([*BOOTMATRIX, "judge", str(run[3])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "recorded" not in done.stdout


def test_any_kernel_and_initrd_boot_by_their_prefix(run: Ended, tmp_path: Path) -> None:
    """As linuxkit build writes them: PREFIX-kernel, PREFIX-initrd.img, PREFIX-cmdline."""
    specs = run[3].parent.parent / "specs"
    build = [*BOOTMATRIX, "build", str(specs / "foreign.yml"), "--arch", "aarch64", "--offline", "-o", "mine"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "mine-bootable.json").unlink()
    command = [*BOOTMATRIX, "run", "mine", "--arch", "aarch64", "--expect", "Moby test suite PASSED"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "by its console alone" in done.stdout
    stuck = [*command[:-1], "no such text", "--keep", "kept", "--dump"]
    done = subprocess.run(stuck, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Saved: kept/console.log" in done.stdout
    assert b"Moby test suite PASSED" in (tmp_path / "kept/console.log").read_bytes()
    unproved = subprocess.run(command[:-2], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
    assert unproved.returncode == 3
    assert "its init is not bootmatrix's" in unproved.stderr


def test_offline_and_warm_gives_the_same_bytes(run: Ended, tmp_path: Path) -> None:
    command = [*BOOTMATRIX, "build", "hello", "--arch", "aarch64", "--kernel", "6.1", "--offline", "-o", "again"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    built = json.loads((tmp_path / "again-bootable.json").read_text(encoding="utf-8"))
    booted = {one["kind"]: one["sha256"] for one in run[2]["hello/aarch64/virt/6.1"]["artefacts"]}
    assert built["files"]["-initrd.img"]["sha256"] == booted["initrd"]
    assert built["files"]["-initrd.img"]["size_bytes"] < 6_000_000


def test_a_real_run_is_compared_signed_off_and_remembered(tmp_path: Path) -> None:
    """Twice the same cell: no regression, the same inputs; what is signed is found changed by one byte."""
    env = {**os.environ, "BOOTMATRIX_REPORTS": str(tmp_path / "reports"), "GITHUB_STEP_SUMMARY": str(tmp_path / "s.md")}

    def tool(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [*BOOTMATRIX, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    matrix = ("matrix", "hello", "--arch", "x86_64", "--kernel", "6.1", "--fail-on", "regression")
    assert "no regressions (no earlier run to compare with): 1 new cell" in tool(*matrix)
    assert "no regressions since" in tool(*matrix)
    found = json.loads(tool("compare", "latest", "--json"))
    assert [(one["kind"], one["inputs"]) for one in found["changes"]] == [("unchanged", [])]
    assert "last 2: ✓✓" in tool("history", "hello/x86_64/6.1")
    assert (tmp_path / "s.md").read_text(encoding="utf-8").count("## ✅") == 2
    assert (tmp_path / "reports" / "index.html").is_file()
    assert "PASSED" in tool("signoff", "latest", "--release", "hello-1", "--no-pdf", "--baseline", "latest")
    assert "hello-1: PASSED" in tool("signoff", "verify", "latest")
    console = next((tmp_path / "reports" / "latest").resolve().rglob("console.log"))
    console.write_bytes(console.read_bytes()[:-1] + b"!")
    assert "console.log: changed" in tool("signoff", "verify", "latest", status=1)

"""`go test -exec` of many small packages: in a kept guest, and by user-mode emulation."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import guests
from benchmarks.results import Result, median

PACKAGES = 50
ARCH, GO_ARCH, EMULATOR = "aarch64", "arm64", ("qemu-aarch64-static", "qemu-aarch64")
RATIO = 2.0
"""Limit of the whole time of `go test`, its linking among it, by that with user-mode emulation."""
MODULE = "module example.org/small\n\ngo 1.19\n"
TEST = """\
package p{number}

import "testing"

func TestSum(t *testing.T) {{
	if got := len(make([]int, {number})); got != {number} {{
		t.Fatal(got)
	}}
}}
"""


def go_test(args: argparse.Namespace) -> Iterator[Result]:
    """Both ways in turns, with everything compiled and the guest started before.

    Raises BenchmarkError if a program is missing or a test fails.
    """
    emulator = next(filter(None, map(shutil.which, EMULATOR)), None)
    if emulator is None or shutil.which("go") is None:
        raise guests.BenchmarkError("go and qemu-user are needed: sudo apt-get install golang-go qemu-user-static")
    cache = ("--cache", str(args.cache)) if args.cache else ()
    words = (str(guests.PROGRAM), "exec", "--arch", ARCH, "--kernel", args.kernel, *cache)
    with tempfile.TemporaryDirectory(prefix="bootmatrix-go-") as temporary:
        folder = Path(temporary)
        env = {**os.environ, "XDG_RUNTIME_DIR": temporary, "GOARCH": GO_ARCH, "CGO_ENABLED": "0"}
        module = _write(folder / "small")
        # A guest that was started beside arch/ or kernels.yml is for that folder's commands alone.
        subprocess.run([*words, "--keep-alive", "10m", "--no-tree", "--", "true"], cwd=module, env=env, check=True)
        try:
            linked_s = _time(module, "true", env)
            runners = (shlex.join((*words, "--")), emulator)
            pairs = [[_time(module, runner, env) for runner in runners] for _ in range(args.pairs)]
        finally:
            subprocess.run([guests.PROGRAM, "guests", "stop"], env=env, check=True, capture_output=True)
    ratio = median([own_s / other_s for own_s, other_s in pairs])
    own_s, other_s = (median(list(samples)) for samples in zip(*pairs, strict=True))
    yield Result(
        name=f"go test -exec, {PACKAGES} small packages, {ARCH}, kept guest ÷ qemu-user",
        value=f"×{ratio:.2f}: {own_s:.1f} s, {other_s:.1f} s, of which {linked_s:.1f} s without any test's run",
        target=f"×{RATIO}",
        ok=ratio <= RATIO,
        details={"own_s": [one for one, _ in pairs], "user_s": [one for _, one in pairs], "linked_s": linked_s},
    )


def _write(folder: Path) -> Path:
    for number in range(PACKAGES):
        package = folder / f"p{number}"
        package.mkdir(parents=True)
        (package / "small_test.go").write_text(TEST.format(number=number), encoding="utf-8")
    (folder / "go.mod").write_text(MODULE, encoding="utf-8")
    return folder


def _time(module: Path, runner: str, env: Mapping[str, str]) -> float:
    """Seconds of all tests with a runner, after one that compiles them. Raises BenchmarkError if one fails."""
    subprocess.run(["go", "test", "-exec", "true", "./..."], cwd=module, env=env, check=False, capture_output=True)
    started = time.monotonic()
    command = ["go", "test", "-count=1", "-exec", runner, "./..."]
    done = subprocess.run(command, cwd=module, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise guests.BenchmarkError(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    return time.monotonic() - started

"""Kernels of fragments alone, from tinyconfig upward: containers and KUnit on each architecture."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.own_kernel import OwnKernel, bootmatrix, kernel_test, own_kernel
from benchmarks.results import Result
from bootmatrix.assembly.kernel.options import Purpose, parse_purposes

ARCHS = ("x86_64", "aarch64", "s390x")
HELLO = "specs/hello.yml"
KUNIT_TESTS = ("KUNIT_EXAMPLE_TEST",)


def fragments(args: argparse.Namespace) -> Iterator[Result]:
    """Kernels that have no other options than those of `kernels fragment`, with a cross compiler where needed."""
    for arch in ARCHS if args.arch == "all" else args.arch.split(","):
        for purpose in ("kunit", "containers"):
            with own_kernel(args, f"{purpose}-{arch}", arch) as kernel, tempfile.TemporaryDirectory() as reports:
                if kernel is not None:
                    yield _try(args, kernel, purpose, Path(reports))


def _try(args: argparse.Namespace, kernel: OwnKernel, purpose: Purpose, reports: Path) -> Result:
    kernel.configure(parse_purposes((purpose,)), KUNIT_TESTS if purpose == "kunit" else ())
    kernel.make()
    if purpose == "kunit":
        kernel_test(args, kernel, reports, ["--kunit"])
    else:
        _hello(args, kernel, reports)
    (record,) = json.loads((reports / "latest/run.json").read_bytes())["records"]
    verdict, reason = (record["judgement"][key] for key in ("verdict", "reason"))
    lacks = [note for note in record["notes"] if "lacks" in note]
    return Result(
        name=f"fragment for {purpose}, {kernel.profile.name}",
        value="; ".join((f"{verdict}: {reason}", *lacks)),
        target="pass",
        ok=verdict == "pass" and not lacks,
    )


def _hello(args: argparse.Namespace, kernel: OwnKernel, reports: Path) -> None:
    """Boot hello in containers."""
    file, arch = reports / "kernels.yml", kernel.profile.name
    kernels = {"kernels": {"own": {arch: {"parts": [{"kind": "tree", "path": str(kernel.out)}]}}}}
    file.write_text(json.dumps(kernels), encoding="utf-8")
    words = ["matrix", HELLO, "--arch", arch, "--kernel", "own", "--reports", str(reports)]
    bootmatrix(args, words, {"BOOTMATRIX_KERNELS": str(file)})

"""The guest's program, compiled for the host with sanitizers, to be tested and fuzzed function by function."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src/guest"
DRIVERS = ROOT / "tests/guest"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-no-pie", "-fno-pie", "-Wall", "-Wextra", "-Werror", *SANITIZERS)
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1", "UBSAN_OPTIONS": "abort_on_error=1"}
LIMIT_S = 300

SEEDS = {
    "frames": (
        b"\x07\0\0\0\0\0\0\0\1\3exec\0",
        b"\1\0\0\0\3\0\0\0\1\4\1ab\0\0\0\0\0\0\0\2\5",
        b"\xff\0\1\0\0\0\0\0\1\4",
    ),
    "request": (
        b"exec\0/root\0t\x000\x000\x0024\x0080\0/\x002\0ls\0-l\0HOME=/\0",
        b"put\0\0p\x001\x001\x000\x000\0/\x002\0a\0b\0",
        b"info\0\0\x000\x000\x000\x000\0\x000\0",
    ),
    "control": (b"restart web\n", b"  restart\ta.b-c_+ \nrestart a b\n", b"restart " + b"x" * 130 + b"\n\n"),
    "kernel-log": (
        b"6,1,0,-;booted\n SUBSYSTEM=x\n\xff3,2,5,-;bad thing\xff30,3,6,-;not ok 1 x\xff4,4,7,c;a MARK b",
        b"4,99999999999999999,1,-;" + b"a b" * 200,
        b"x,y\xff7,1",
    ),
    "state": (
        b'{"ociVersion":"1.0","id":"a","status":"created","pid":42,"bundle":"/c","annotations":{"pid":"7"}}',
        b'{"a":[1,{"b":[]},"\\"",null],"pid": 4194304 }',
        b'{"pid":1' + b"[" * 40,
    ),
    "tap": (
        b"TAP version 14\n1..2\nok 1 - a\n  ---\n  x: 1\n  ...\n# not ok 2\n",
        b"\x1b[1;32mok\x1b[m\nBail out! x\nKTAP version 1\n    1..3\n",
    ),
    "base64": (b"", b"Zg==", b"Zm8=", b"Zm9vYmFy", b"Zh=="),
    "planted": (b"fxxx",),
}
"""Inputs with which a reader's fuzzing begins."""
READERS = tuple(name for name in SEEDS if name != "planted")


def compile_program(folder: Path) -> Path:
    """Compile the drivers of tests/guest with all sources but main.c, by gcc. It notes what code is reached."""
    sources = [path for path in sorted(SOURCES.glob("*.c")) if path.name != "main.c"]
    files = [*sources, *(DRIVERS / name for name in ("units.c", "fuzz.c", "mutate.c", "main.c"))]
    objects = [folder / f"{path.stem}-{path.parent.name}.o" for path in files]

    def compile_file(source: Path, target: Path) -> None:
        flags = FLAGS if source.name == "mutate.c" else (*FLAGS, "-fsanitize-coverage=trace-pc")
        command = ["gcc", *flags, "-I", str(SOURCES), "-I", str(DRIVERS), "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True, timeout=LIMIT_S)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_file, files, objects))
    program = folder / "tests"
    subprocess.run(["gcc", *FLAGS, *map(str, objects), "-o", str(program)], check=True, timeout=LIMIT_S)
    return program


def write_seeds(folder: Path, reader: str) -> Path:
    """Write a reader's first inputs as files."""
    seeds = folder / f"{reader}.seeds"
    seeds.mkdir(exist_ok=True)
    for number, seed in enumerate(SEEDS[reader]):
        (seeds / f"{number}").write_bytes(seed)
    return seeds


def fuzz(program: Path, reader: str, inputs: int, seconds: int) -> subprocess.CompletedProcess[str]:
    """Fuzz a reader with a number of inputs, for some seconds at most. What breaks it is left in `READER.fault`."""
    seeds = write_seeds(program.parent, reader)
    fault = program.parent / f"{reader}.fault"
    command = [str(program), "mutate", reader, str(inputs), str(seconds), str(seeds), str(fault)]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=seconds + LIMIT_S
    )


def has_libfuzzer(folder: Path) -> bool:
    """Return whether clang and its libFuzzer are installed."""
    empty = folder / "empty.c"
    empty.write_text("int LLVMFuzzerTestOneInput(const char *data, long size) { return !data + !size; }\n")
    command = ["clang", "-fsanitize=fuzzer", str(empty), "-o", str(folder / "empty")]
    return (
        shutil.which("clang") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def fuzz_by_libfuzzer(folder: Path, reader: str, seconds: int) -> bool:
    """Fuzz a reader by libFuzzer, which prints what it does. Return whether the reader held."""
    program = folder / "libfuzzer"
    if not program.exists():
        files = [str(path) for path in sorted(SOURCES.glob("*.c")) if path.name != "main.c"]
        flags = ("-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-I", str(SOURCES))
        subprocess.run(["clang", *flags, *files, str(DRIVERS / "fuzz.c"), "-o", str(program)], check=True)
    seeds = write_seeds(folder, reader)
    command = [str(program), f"-max_total_time={seconds}", f"-artifact_prefix={folder}/{reader}.", str(seeds)]
    return subprocess.run(command, env={**os.environ, "FUZZ_TARGET": reader}, check=False).returncode == 0

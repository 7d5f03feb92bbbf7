"""Programs that a guest cannot run are found before the boot, and trials of real guests end as they should."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import BuildError
from bootmatrix.model import Kernel
from bootmatrix.source.elf import read_program
from kitchen import Kitchen
from test_try import header

pytest_plugins = ("archive_fixtures", "kitchen")

PROGRAM = Path(sys.executable).with_name("bootmatrix")
BASE = [{"path": "init", "contents": "x", "mode": "0755"}]


@pytest.fixture
def kernel(kitchen: Kitchen) -> Kernel:
    return kitchen.kernel()


def spec(command: list[str], **settings: Any) -> str:
    container = {"name": "mine", "image": "@pkg:./images/mine", "command": command, **settings}
    return json.dumps({"init": ["@pkg:./images/mine"], "services": [container]})


def put(kitchen: Kitchen, programs: dict[str, bytes | str], **recipe: Any) -> None:
    """Write an image with programs."""
    folder = kitchen.folder / "images/mine"
    folder.mkdir(parents=True, exist_ok=True)
    files = list(BASE)
    for number, (path, data) in enumerate(programs.items()):
        (folder / f"file{number}").write_bytes(data.encode() if isinstance(data, str) else data)
        files.append({"path": path, "source": f"file{number}", "mode": "0755"})
    kitchen.recipe("mine", files=files, **recipe)


def foreign() -> bytes:
    from bootmatrix.load.data_paths import CHECKOUT
    from bootmatrix.load.profile import load_profiles

    return header(load_profiles([CHECKOUT / "arch"])["s390x"])


def test_a_program_for_another_architecture(kitchen: Kitchen, kernel: Kernel) -> None:
    put(kitchen, {"usr/bin/tool": foreign()})
    for command in (["/usr/bin/tool"], ["tool", "-x"]):
        with pytest.raises(BuildError, match=r"/usr/bin/tool in the image .* big-endian S390") as caught:
            kitchen.build(spec(command), kernel)
        assert caught.value.hint == "Whatever the image's label says: build it for linux/amd64."


def test_the_same_image_of_another_name_is_told_by_that_name(kitchen: Kitchen, kernel: Kernel) -> None:
    put(kitchen, {"usr/bin/tool": foreign()})
    shutil.copytree(kitchen.folder / "images/mine", kitchen.folder / "images/other")
    for name in ("mine", "other"):
        with pytest.raises(BuildError, match=rf"container mine \(@pkg:./images/{name}\): /usr/bin/tool in"):
            kitchen.build(spec(["tool"]).replace("/mine", f"/{name}"), kernel)


def test_a_program_that_a_bind_brings(kitchen: Kitchen, kernel: Kernel) -> None:
    """A fault found by another spec, without the bind, does not count with it."""
    put(kitchen, {"usr/bin/other": "x"})
    with pytest.raises(BuildError, match="no program tool in the image"):
        kitchen.build(spec(["tool"]), kernel)
    assert kitchen.build(spec(["tool"], binds=["/opt:/usr/bin"]), kernel)
    with pytest.raises(BuildError, match="no program tool in the image"):
        kitchen.build(spec(["tool"]), kernel)


def test_what_a_script_starts(kitchen: Kitchen, kernel: Kernel) -> None:
    put(kitchen, {"entry.sh": '#!/usr/bin/env sh\nexec "$@"\n', "bin/sh": "x", "usr/bin/redis": foreign()})
    with pytest.raises(BuildError, match="/usr/bin/redis in the image"):
        kitchen.build(spec(["/entry.sh", "redis"]), kernel)
    put(kitchen, {"entry.sh": "#!/bin/sh\n", "bin/sh": foreign()})
    with pytest.raises(BuildError, match="/bin/sh in the image"):
        kitchen.build(spec(["/entry.sh"]), kernel)


@pytest.mark.parametrize(
    ("script", "words", "hint"),
    [
        ("#!/usr/bin/python3\n", "the script /entry needs /usr/bin/python3, which", "Add it to the image."),
        ("#! /usr/bin/env python3\n", "the script /entry needs python3, which", "Add it to the image."),
        ("#!/bin/sh\r\n", "first line of the script /entry ends in a carriage return", "write the file with Unix"),
        ("#!/inner\n", "the script /inner needs /nowhere/x, which", "Add it to the image."),
    ],
)
def test_a_script_without_its_interpreter(kitchen: Kitchen, kernel: Kernel, script: str, words: str, hint: str) -> None:
    put(kitchen, {"entry": script, "bin/sh": "x", "inner": "#!/nowhere/x y\n"})
    with pytest.raises(BuildError, match=words) as caught:
        kitchen.build(spec(["/entry"]), kernel)
    assert hint in caught.value.hint
    for command in (["/bin/sh", "/entry"], ["/bin/sh", "-c", "/entry"]):  # which may only read it
        kitchen.build(spec(command), kernel)


def test_a_loader_or_a_library_that_is_missing(kitchen: Kitchen, kernel: Kernel) -> None:
    shell = Path(shutil.which("sh") or "/bin/sh").resolve().read_bytes()
    put(kitchen, {"usr/bin/tool": shell})
    with pytest.raises(BuildError, match=r"needs the loader .* lacks"):
        kitchen.build(spec(["tool"]), kernel)
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    put(kitchen, {"usr/bin/tool": shell, "lib64/ld-linux-x86-64.so.2": loader.read_bytes()})
    with pytest.raises(BuildError, match=r"needs the library libc\.so\.6, which the image") as caught:
        kitchen.build(spec(["tool"]), kernel)
    assert caught.value.hint == "Add it to the image, or link the program statically."  # this archive has no libc6
    put(kitchen, {"usr/bin/tool": shell, "lib64/ld-linux-x86-64.so.2": loader.read_bytes(), "lib/libc.so.6": b"x"})
    kitchen.build(spec(["tool"]), kernel)
    with pytest.raises(BuildError, match=r"container mine \(.*\): no program other in the image") as caught:
        kitchen.build(spec(["other"]), kernel)
    assert caught.value.hint == "Add it to the image."


@pytest.mark.parametrize(
    ("data", "command"),
    [
        (b"\x7fELF", ["tool"]),
        (b"text", ["tool"]),
        (b"", ["tool"]),
        (b"#!\n", ["tool"]),
        (b"#!/usr/bin/tool\n", ["tool"]),
        (b"x", ["/nothing/of/the/kind"]),
        (b"x", ["./relative"]),
    ],
)
def test_what_is_in_doubt_is_left_to_the_guest(
    kitchen: Kitchen, kernel: Kernel, data: bytes, command: list[str]
) -> None:
    put(kitchen, {"usr/bin/tool": data})
    kitchen.build(spec(command), kernel)


def attempt(folder: Path, *words: str) -> tuple[int, str, dict[str, Any]]:
    """Run a trial on the host's architecture; exit status, what was printed, and its record."""
    env = {**os.environ, "GITHUB_STEP_SUMMARY": ""}
    done = subprocess.run(
        [PROGRAM, "try", *words], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=400
    )
    records = list((folder / "reports/latest").rglob("record.json"))
    return done.returncode, done.stdout + done.stderr, json.loads(records[0].read_text(encoding="utf-8"))


@pytest.mark.boots
def test_a_script_runs_and_its_files_come_back(tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text('#!/bin/sh\necho "1..1"; echo "ok 1 - $A $1"; echo "<here/>" >/tmp/out.xml; uname -m\n')
    script.chmod(0o755)
    options = ("--arch", "x86_64", "--image", "bootmatrix/busybox", "--env", "A=b", "--get", "/tmp/out.txt")
    script.write_text(script.read_text(encoding="utf-8").replace("/tmp/out.xml", "/tmp/out.txt"))
    status, text, record = attempt(tmp_path, "./tool", *options, "--save", "saved", "--", "c d")
    assert (status, record["judgement"]["verdict"]) == (0, "pass"), text
    assert "tool: b c d" in [result["name"] for result in record["judgement"]["subresults"]]
    (result,) = record["files"]
    assert result["path"] == "/tmp/out.txt"
    plan = subprocess.run(
        [PROGRAM, "plan", "saved/tool.matrix.yml"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert plan.stdout.splitlines()[0] == "tool/x86_64/6.1"


@pytest.mark.boots
def test_a_service_that_does_not_answer_fails(tmp_path: Path) -> None:
    options = ("--arch", "x86_64", "--image", "bootmatrix/busybox", "--port", "81", "--timeout", "8s")
    command = ("/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done")
    status, text, record = attempt(tmp_path, *options, "--", *command)
    assert (status, record["judgement"]["verdict"]) == (1, "timeout"), text
    assert "try-probe" in record["judgement"]["reason"]


@pytest.mark.long
@pytest.mark.boots
def test_a_command_that_fails(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/status").write_text("3", encoding="utf-8")
    options = ("--arch", "x86_64", "--image", "bootmatrix/busybox")
    status, text, record = attempt(tmp_path, "./tree", *options, "--", "sh", "-c", "exit $(cat status)")
    assert (status, record["judgement"]["verdict"]) == (1, "fail"), text
    assert "3" in record["judgement"]["reason"]


def elf(names: int, name_bytes: int) -> bytes:
    """A program that needs libraries whose names share one long text."""
    tables_at = 64 + 2 * 56
    dynamic_bytes = 16 * (names + 2)
    needed = b"".join(struct.pack("<QQ", 1, number) for number in range(names))
    dynamic = struct.pack("<QQ", 5, tables_at + dynamic_bytes) + needed + bytes(16)
    size = tables_at + dynamic_bytes + name_bytes + 1
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    parts = ((2, tables_at, dynamic_bytes), (1, 0, size))
    table = b"".join(struct.pack("<IIQQQQQQ", kind, 4, at, at, at, length, length, 8) for kind, at, length in parts)
    return head + table + dynamic + b"x" * name_bytes + b"\0"


def test_names_of_libraries_that_share_one_long_text() -> None:
    program = read_program(BytesIO(elf(3, 10)))
    assert program
    assert program.libraries == ("x" * 10, "x" * 9, "x" * 8)
    assert read_program(BytesIO(elf(1000, 1 << 20))) is None

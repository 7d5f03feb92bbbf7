"""Guests that have failed and are held, services that are restarted, and ports that are published: in real guests."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import bootmatrix
from bootmatrix.cell.held import failed_container
from bootmatrix.errors import InputError
from free_ports import free_port
from guests import make_messages
from kills import adopting, wait_for_children

TOOL = Path(sys.executable).with_name("bootmatrix")
LIMIT_S = 300
SPEC = """\
init: ["bootmatrix/init", "bootmatrix/crun"]
services:
  - name: web
    image: bootmatrix/busybox
    command: [/bin/sh, -c, "echo hello >/tmp/index.html; exec /bin/busybox httpd -f -p 8080 -h /tmp"]
  - name: wrong
    image: bootmatrix/busybox
    command: [/bin/sh, -c, "trap 'exit 5' TERM; while :; do /bin/busybox sleep 0.1; done"]
  - name: fails
    image: bootmatrix/busybox
    command: [/bin/sh, -c, "echo seen >/tmp/seen; exit 3"]
    annotations: {bootmatrix.check: 30s}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "fails.yml"
    path.write_text(SPEC)
    return path


class Tool:
    """The command line, with a folder of its own for kept guests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "BOOTMATRIX_REPORTS": str(folder / "reports")}

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        pipe, out = subprocess.PIPE, subprocess.STDOUT
        process = subprocess.Popen([str(TOOL), *words], env=self.env, text=True, stdout=pipe, stderr=out)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def run(self, *words: str) -> tuple[int, str]:
        with self.started(*words) as process:
            out, _ = process.communicate(timeout=LIMIT_S)
            return process.returncode, out


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Return the next line with a text."""
    assert process.stdout
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return line
    raise AssertionError("".join(seen))


@pytest.mark.boots
def test_the_first_guest_that_fails_is_held(tmp_path: Path, spec: Path) -> None:
    tool = Tool(tmp_path)
    with tool.started(
        "matrix", str(spec), "--arch", "x86_64", "--kernel", "6.1", "--hold-on-fail", "--keep-alive", "5m"
    ) as process:
        line = line_with(process, "has failed in fails")
        command = re.search(r"bootmatrix (shell --guest (\w+))'", line)
        assert command, line
        inside = ("exec", "--guest", command[2])
        assert tool.run(*inside, "--", "/bin/busybox", "cat", "/tmp/seen") == (0, "seen\n")
        assert tool.run(*inside, "--at", "web", "--", "/bin/busybox", "cat", "/tmp/index.html") == (0, "hello\n")
        assert tool.run(*inside, "--", "/bin/busybox", "ls", str(tmp_path))[0] == 1, "it stays as it is"
        assert "fails x86_64 6.1.0-" in tool.run("guests")[1], "the kernel's release"
        assert tool.run("guests", "stop", command[2])[0] == 0
        rest, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 1, rest
    (record,) = bootmatrix.Run.load(tmp_path / "reports/latest").records
    assert record.verdict == "fail"
    assert "fails" in record.judgement.reason
    assert any("held for" in item.text for item in record.judgement.evidence)
    assert not list(tmp_path.glob("bootmatrix-*/*"))


@pytest.mark.boots
def test_a_service_is_restarted(spec: Path) -> None:
    async def run() -> None:
        with anyio.fail_after(LIMIT_S):
            async with bootmatrix.Workspace().guest(str(spec), arch="x86_64") as guest:
                await guest.wait_for_port(8080)
                assert (await guest.at("web").run(["/bin/busybox", "rm", "/tmp/index.html"])).status == 0
                await guest.restart("web", timeout=60)
                await guest.wait_for_port(8080)
                assert (await guest.at("web").run(["/bin/busybox", "cat", "/tmp/index.html"])).text == "hello\n"
                assert b"service web restart" not in guest.console  # messages are not printed
                for name in ("nothing", "fails", "a b"):
                    with pytest.raises(InputError, match="was not restarted: not "):
                        await guest.restart(name, timeout=60)
                with pytest.raises(InputError, match="did not end by the signal"):
                    await guest.restart("wrong", timeout=60)

    anyio.run(run)


@pytest.mark.boots
def test_a_port_is_published_until_interrupted(tmp_path: Path, spec: Path) -> None:
    port = free_port()
    with (
        adopting(),
        Tool(tmp_path).started("run", str(spec), "--arch", "x86_64", "--publish", f"{port}:8080") as process,
    ):
        line_with(process, "until Ctrl-C")
        until_s = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=20) as answer:
                    assert answer.read() == b"hello\n"
                break
            except OSError:  # it is being started
                assert time.monotonic() < until_s
                time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 130
        assert wait_for_children()[1] == ()


def test_a_taken_port_is_refused_before_anything_is_built(tmp_path: Path, spec: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("run", str(spec), "--arch", "x86_64", "--publish", f"{taken.getsockname()[1]}:8080")
        status, text = Tool(tmp_path).run(*words, "--cache", str(tmp_path / "none"))
    assert (status, "cannot be used: Address already in use" in text) == (2, True), text
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "hello", "--arch", "x86_64", "--publish", "x"], "'x' must be"),
        (
            ["run", "hello", "--arch", "x86_64", "--publish", "80", "--shell"],
            "cannot be combined with --shell",
        ),
        (
            ["run", "hello", "--arch", "x86_64", "--publish", "4000:80", "--publish", "4000:81"],
            "two of --publish have the same port",
        ),
        (["matrix", "hello", "--keep-alive", "1m"], "--keep-alive needs --hold-on-fail"),
        (["matrix", "hello", "--hold-on-fail", "--keep-alive", "soon"], "'soon' is not a duration"),
        (["matrix", "hello", "--hold-on-fail", "--executor", "dask"], "guests on this host"),
        (["exec", "--", "true"], "expected either --arch or --guest"),
        (["exec", "--arch", "x86_64", "--at", "web", "--", "true"], "--at needs --guest"),
        (["shell", "--guest", "aa"], "expected the id of one kept guest"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, words: list[str], message: str) -> None:
    status, text = Tool(tmp_path).run(*words)
    assert status in {2, 125}
    assert message in text


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (("onboot a exit 0", "onboot b exit 1"), "b"),
        (("check a exit timeout", "service b exit 0", "check c exit 0"), "b"),
        (("check a exit timeout",), "a"),
        (("check a start", "services up"), ""),
    ],
)
def test_the_container_that_failed(texts: tuple[str, ...], name: str) -> None:
    assert failed_container(make_messages(texts, end="")) == name

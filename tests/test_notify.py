"""Results told to chat and mail by apprise, against small servers of their kinds."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from bootmatrix.forge import notify
from bootmatrix.forge.notify import SecretAddress, run_message
from bootmatrix.model import Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.runs.run_store import load_run
from command_line import Result, Tool, refused, tool
from free_ports import free_port
from samples import make_cell, make_record, write_dated
from small_server import QuietHandler

__all__ = ["tool"]

TOKEN = "3ccdd113474722377935511fc85d3dd4"
P, F = Verdict.PASS, Verdict.FAIL


class Chat:
    """A server that keeps what it is sent; it refuses with `status`, and is silent while it may not answer."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.may_answer = threading.Event()
        self.may_answer.set()
        chat = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                chat.posts.append((self.path, json.loads(body)))
                chat.may_answer.wait(60)
                self.send_whole(chat.status, b"ok")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"

    @property
    def json(self) -> str:
        return f"json://{self.host}/{TOKEN}"

    @property
    def mattermost(self) -> str:
        return f"mmost://{self.host}/{TOKEN}"


@pytest.fixture
def chat() -> Iterator[Chat]:
    made = Chat()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        made.may_answer.set()
        made.server.shutdown()
        made.server.server_close()
        thread.join(60)


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_REPOSITORY", "GITHUB_RUN_ID", "CI_PIPELINE_URL", "BUILD_URL"):
        monkeypatch.delenv(name, raising=False)


def made(tmp_path: Path, day: int, *verdicts: Verdict, reason: str = "") -> str:
    cells = [make_cell(arch) for arch in ("x86_64", "aarch64", "armv7")]
    records = [make_record(cell, verdict, reason) for cell, verdict in zip(cells, verdicts, strict=False)]
    changed = [record.model_copy(update={"spec_sha256": f"{day}" * 64}) for record in records]
    return write_dated(tmp_path / "reports", day, changed)


def secret(done: Result, folder: Path) -> Result:
    """Check that the token is nowhere."""
    assert TOKEN not in done.stdout + done.stderr
    for file in folder.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    return done


def test_one_message_has_the_headline_the_changes_and_the_link(tool: Tool, tmp_path: Path, chat: Chat) -> None:
    before, after = made(tmp_path, 1, P, F, P), made(tmp_path, 2, F, P, P, reason="@everyone <!channel> look")
    done = tool("announce", after, "--baseline", before, "--link", "https://ci.example/r", "--notify", chat.json)
    assert secret(done, tmp_path / "reports").returncode == 0, done.stderr
    ((path, post),) = chat.posts
    assert path == f"/{TOKEN}"
    assert (post["title"], post["type"]) == (
        "influxdb: 2 of 3 cells as expected; 1 regression on x86_64/6.1 since 2 Nov",
        "failure",
    )
    assert post["message"].splitlines() == [
        "Regressed:",
        "- influxdb/x86_64/6.1: pass → fail",
        "Fixed:",
        "- influxdb/aarch64/6.1: fail → pass",
        "https://ci.example/r",
    ]


def test_a_title_commands_no_chat(tmp_path: Path) -> None:
    """It is the name of a matrix, which may be somebody else's."""
    run = load_run(tmp_path / "reports" / made(tmp_path, 1, P))
    hostile = run.model_copy(update={"title": "@everyone <!channel> [a](https://b.c) night_ly-7.2"})
    title = run_message(ReportContext(hostile, lambda _: None), "").title
    assert title == "everyone channel a(httpsb.c) night_ly-7.2: 1 cell as expected"


def test_merge_tells_a_chat_of_the_environment(
    tool: Tool, tmp_path: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTMATRIX_NOTIFY", f"{chat.mattermost} {chat.json}")
    monkeypatch.setenv("BUILD_URL", "https://jenkins.example/job/7/")
    done = secret(tool("merge", made(tmp_path, 1, P), made(tmp_path, 2, P)), tmp_path / "reports")
    assert done.returncode == 0, done.stderr
    posts = dict(chat.posts)
    assert posts[f"/{TOKEN}"]["type"] == "success"
    text = posts[f"/hooks/{TOKEN}"]["text"]
    assert "1 cell as expected" in text and "https://jenkins.example/job/7/" in text


def test_mail_is_sent(tool: Tool, tmp_path: Path) -> None:
    received: list[Any] = []

    class Inbox:
        async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
            received.append(envelope)
            return "250 OK"

    port = free_port()
    server = Controller(Inbox(), hostname="127.0.0.1", port=port)
    server.start()
    try:
        address = f"mailto://localhost:{port}?from=ci@example.org&to=dev@example.org&mode=insecure"
        done = tool("announce", made(tmp_path, 1, P, F), "--notify", address)
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        server.stop()
    (envelope,) = received
    assert envelope.rcpt_tos == ["dev@example.org"]
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert mail["Subject"] == "influxdb: 1 of 2 cells as expected; 1 fails on aarch64/6.1"
    assert "influxdb/aarch64/6.1: fail" in mail.as_string()


def test_a_service_that_does_not_take_it_fails_nothing(tool: Tool, tmp_path: Path, chat: Chat) -> None:
    chat.status = 403
    name = made(tmp_path, 1, P)
    done = secret(tool("announce", name, "--notify", chat.json), tmp_path / "reports")
    assert (done.returncode, done.stderr) == (0, "bootmatrix: not notified: json://…: refused or unreachable\n")
    done = secret(tool("announce", name, "--notify", f"json://127.0.0.1:1/{TOKEN}"), tmp_path / "reports")
    assert (done.returncode, done.stderr) == (0, "bootmatrix: not notified: json://…: refused or unreachable\n")


def test_a_silent_service_is_not_waited_for(
    tool: Tool, tmp_path: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT_S", 0.3)
    chat.may_answer.clear()
    done = tool("announce", made(tmp_path, 1, P), "--notify", chat.json)
    assert (done.returncode, done.stderr) == (0, "bootmatrix: not notified: json://…: no answer in time\n")


@pytest.mark.parametrize("address", [f"nonsense-{TOKEN}", f"nosuch://{TOKEN}", f"slack://{TOKEN}", f"http://{TOKEN}:x"])
def test_an_invalid_address_is_bad_input_and_stays_secret(tool: Tool, tmp_path: Path, address: str) -> None:
    done = tool("announce", made(tmp_path, 1, P), "--notify", address)
    refused(done, "--notify: address 1, ")
    assert TOKEN not in done.stderr


def test_the_project_names_variables_not_addresses(
    tool: Tool, tmp_path: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project that is somebody else's must not choose where this host sends something."""
    name = made(tmp_path, 1, P)
    project = tmp_path / "pyproject.toml"
    project.write_text(f'[tool.bootmatrix]\nnotify = ["{chat.json}"]\n')
    refused(tool("announce", name), "must be names of environment variables")
    project.write_text('[tool.bootmatrix]\nnotify = ["CI_COMMIT_MESSAGE"]\n')
    monkeypatch.setenv("CI_COMMIT_MESSAGE", chat.json)
    refused(tool("announce", name), "must be names of environment variables, BOOTMATRIX_NOTIFY_…")
    project.unlink()
    refused(tool("announce", name), "nobody is to be told")
    project.write_text('[tool.bootmatrix]\nnotify = ["BOOTMATRIX_NOTIFY_TEAM"]\n')
    assert tool("announce", name).returncode == 0 and not chat.posts
    monkeypatch.setenv("BOOTMATRIX_NOTIFY_TEAM", chat.json)
    assert tool("announce", name).returncode == 0 and len(chat.posts) == 1
    monkeypatch.setenv("BOOTMATRIX_NOTIFY", "")  # as ci/run.sh sets it for a shard
    assert tool("announce", name).returncode == 0 and len(chat.posts) == 1


def test_a_secret_address_shows_its_scheme_only() -> None:
    address = SecretAddress(f"slack://{TOKEN}/b/c")
    assert (address.shown, repr(address), f"{[address]}") == ("slack://…", "slack://…", "[slack://…]")

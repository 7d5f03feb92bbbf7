"""Forges that answer oddly: lost, slow, endless, redirected or damaged answers, and words that are too long."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.forge import api as forge_api
from bootmatrix.forge import message
from bootmatrix.model import SubResult, Verdict
from command_line import Tool, tool
from forge_server import TOKEN, Forge, Handler, serve_forge
from samples import make_cell, make_record, write_dated
from test_forge import ON_BOTH, F, P, announce, forge, made, main_branch

__all__ = ["forge", "main_branch", "tool"]

COMMENTS = pytest.mark.parametrize("option", ["--github-comment", "--gitlab-comment"])


def answer(status: int, body: Any, **headers: str) -> Callable[[Handler], None]:
    """An answer of its own; bytes as they are."""

    def act(handler: Handler) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name.replace("_", "-"), text)
        handler.end_headers()
        handler.wfile.write(data)

    return act


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge_api.ForgeApi.__init__, "__defaults__", (lambda _: None,))


@COMMENTS
@pytest.mark.parametrize("times", [1, 2])
def test_a_comment_whose_answer_was_lost_is_not_written_again(
    tool: Tool, tmp_path: Path, forge: Forge, option: str, times: int
) -> None:
    kind = "comments" if "github" in option else "notes"
    forge.odd = [("POST", kind, answer(502, {})), ("POST", kind, None)][-times:]
    assert announce(tool, made(tmp_path, 1, F), option).stdout == "comment created\n"
    assert len(forge.comments) == 1
    assert announce(tool, made(tmp_path, 2, F), option).stdout == "comment updated\n"
    assert len(forge.comments) == 1


@ON_BOTH
def test_an_issue_whose_answer_was_lost_is_not_opened_again(
    tool: Tool, tmp_path: Path, main_branch: Forge, option: str
) -> None:
    main_branch.odd = [("POST", "issues", None)]
    assert announce(tool, made(tmp_path, 1, F), option).stdout == "issues: 1 opened, 0 updated, 0 closed\n"
    assert len(main_branch.issues) == 1


def test_a_damaged_answer_to_what_was_written_is_no_fault(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    forge.odd = [("POST", "check-runs", answer(201, b'{"id": 1, "na'))]
    assert announce(tool, made(tmp_path, 1, P), "--github-status").stdout == "check run\n"
    assert len(forge.requests) == 1


@COMMENTS
@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'[{"id": 1, "bo', "the answer is not JSON"),
        (b"[" * 200_000, "the answer is not JSON"),
        (b"", "the answer is not JSON"),
        (b"<html>proxy</html>", "the answer is not JSON"),
        (b'{"message": "moved"}', "the answer is not a list of entries"),
        (b"[1, null]", "the answer is not a list of entries"),
    ],
    ids=["truncated", "deep", "empty", "a page", "no list", "no entries"],
)
def test_damaged_lists_lead_to_no_comment(
    tool: Tool, tmp_path: Path, forge: Forge, option: str, body: bytes, fault: str
) -> None:
    forge.odd = [("GET", "comments" if "github" in option else "notes", answer(200, body))]
    assert fault in announce(tool, made(tmp_path, 1, P), option).stderr
    assert not forge.comments


@COMMENTS
def test_entries_of_other_shapes_are_not_ours(tool: Tool, tmp_path: Path, forge: Forge, option: str) -> None:
    shapes: list[dict[str, Any]] = [
        {"author": "x", "user": "Bot", "body": 5},
        {"author": None, "user": None, "body": None},
        {},
    ]
    forge.comments = [{"id": number, **shape} for number, shape in enumerate(shapes, 10)]
    assert announce(tool, made(tmp_path, 1, P), option).stdout == "comment created\n"


def test_an_answer_that_is_cut_is_asked_for_again(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    forge.odd = [("GET", "comments", answer(200, b"[]", Content_Length="200"))]
    assert announce(tool, made(tmp_path, 1, P), "--github-comment").stdout == "comment created\n"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_endless_answer_ends(
    tool: Tool, tmp_path: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr(forge_api, "MAX_BYTES", 1 << 20)
    import gzip

    data = b"[" + b" " * (4 << 20)
    body = gzip.compress(data) if encoding == "gzip" else data
    forge.odd = [("GET", "comments", answer(200, body, Content_Encoding=encoding))]
    assert "answered with more than 1 MiB" in announce(tool, made(tmp_path, 1, P), "--github-comment").stderr


def test_a_server_that_drips_is_left(tool: Tool, tmp_path: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time; what follows is announced all the same."""
    monkeypatch.setattr(forge_api, "LIMIT_S", 1.0)

    def drip(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(40):
            handler.wfile.write(b"a")
            time.sleep(0.1)

    forge.odd = [("POST", "check-runs", drip)]
    done = announce(tool, made(tmp_path, 1, P), "--github-status", "--github-comment")
    assert done.stderr == "bootmatrix: not announced: no result within 1 s\n"
    assert done.stdout == "comment created\n"


def test_a_renamed_project_is_found(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    for status in (301, 307, 308):
        forge.odd.append(
            ("POST", "/repos/me/project/check-runs", answer(status, {}, Location="/repos/me/new/check-runs"))
        )
        assert announce(tool, made(tmp_path, status - 300, P), "--github-status").stdout == "check run\n"
    assert len(forge.sent("POST", "/repos/me/new/check-runs")) == 3


@pytest.mark.parametrize(
    ("target", "fault"),
    [("", "more than 3 redirections"), ("http://[::1", "RemoteProtocolError, after 4 attempts")],
)
def test_redirections_end(tool: Tool, tmp_path: Path, forge: Forge, target: str, fault: str) -> None:
    forge.odd = [("POST", "check-runs", answer(307, {}, Location=target or "/repos/x/check-runs"))] * 9
    assert fault in announce(tool, made(tmp_path, 1, P), "--github-status").stderr


@pytest.mark.parametrize("page", [False, True])
def test_no_other_host_gets_the_token(tool: Tool, tmp_path: Path, forge: Forge, page: bool) -> None:
    with serve_forge() as other:
        where = f"{other.address}/repos/me/project/issues/7/comments"
        headers = {"Link": f'<{where}>; rel="next"'} if page else {"Location": where}
        forge.odd = [("GET", "comments", answer(200 if page else 302, [], **headers))]
        done = announce(tool, made(tmp_path, 1, P), "--github-comment")
        assert f"is on another host, {other.address}" in done.stderr and not other.requests
    forge.odd = [("GET", "comments", answer(200, [], Link='<http://[::1>; rel="next"'))]
    assert "the address of the next page is invalid" in announce(tool, made(tmp_path, 2, P), "--github-comment").stderr


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "Validation Failed", "errors": [{"field": "body", "code": "too_long"}]}, "Validation Failed, [{"),
        ({"message": {"description": ["is too long"]}}, '{"description": ["is too long"]}'),
        ({"error": "insufficient_scope", "error_description": "needs api"}, "needs api, insufficient_scope"),
        ({"message": f"no such token: {TOKEN}"}, "no such token: …"),
        ({"message": "a\nb\x1b[31m"}, "a b"),
        (b"<html>", "Unprocessable Entity"),
        ({}, "no reason given"),
    ],
)
def test_a_refusal_is_told_in_the_forges_words(tool: Tool, tmp_path: Path, forge: Forge, body: Any, words: str) -> None:
    forge.odd = [("POST", "comments", answer(422, body))]
    done = announce(tool, made(tmp_path, 1, P), "--github-comment")
    assert done.stderr.startswith(f"bootmatrix: not announced: POST issues/7/comments: status 422: {words}")
    assert done.stderr.count("\n") == 1 and len(forge.requests) == 2


def test_a_limit_of_a_minute_is_waited_for(
    tool: Tool, tmp_path: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(forge_api.ForgeApi.__init__, "__defaults__", (waits.append,))
    forge.odd = [
        ("POST", "comments", answer(403, {"message": "You have exceeded a secondary rate limit"}, Retry_After="60"))
    ]
    assert announce(tool, made(tmp_path, 1, P), "--github-comment").stdout == "comment created\n"
    assert waits == [60.0] and len(forge.comments) == 1
    forge.odd = [("PATCH", "comments", answer(429, {}, Retry_After="9" * 400))]
    assert "status 429" in announce(tool, made(tmp_path, 2, P), "--github-comment").stderr


def test_a_comment_beyond_all_pages_is_not_repeated(
    tool: Tool, tmp_path: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forge_api, "MAX_PAGES", 2)
    forge.comments = [{"id": number, "body": "from others"} for number in range(1, 6)]
    assert "more than 2 pages" in announce(tool, made(tmp_path, 1, P), "--github-comment").stderr
    assert len(forge.comments) == 5


def test_words_are_cut_to_what_a_forge_takes(
    tool: Tool, tmp_path: Path, main_branch: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [make_cell("x86_64", kernel=f"6.{number}", spec="s" * 64) for number in range(100)]
    records = [make_record(cell, F, "`" * 5000) for cell in cells]
    name = write_dated(tmp_path / "reports", 1, records)
    before = write_dated(tmp_path / "reports", 2, [make_record(cell) for cell in cells])
    options = ("--github-status", "--github-issues", "--baseline", before)
    announce(tool, name, *options)
    monkeypatch.setattr(message, "MAX_TEXT", 5000)
    announce(tool, name, "--github-status")
    whole, cut = (value["output"]["summary"] for value in main_branch.sent("POST", "/check-runs"))
    assert 40_000 < len(whole) < 65_536 and "- and 60 more\n" in whole
    assert len(cut) < 5200 and " more lines\n" in cut and "[Report](" in cut
    assert all(len(issue["title"]) <= 255 and len(issue["body"]) < 65_536 for issue in main_branch.issues)


def test_annotations_are_on_the_lines_of_the_projects_specs(
    tool: Tool, tmp_path: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/shop.yml").write_text("services:\n  - name: shop\n    image: x\n  - name: check\n    image: y\n")
    elsewhere = tmp_path.parent / "else.yml"
    records = []
    for arch, spec in (("x86_64", tmp_path / "mine/shop.yml"), ("aarch64", elsewhere)):
        cell = make_cell(arch).model_copy(update={"spec": str(spec)})
        records.append(
            make_record(cell, F, "it broke", subresults=[SubResult(name="service check", verdict=Verdict.FAIL)])
        )
    announce(tool, write_dated(tmp_path / "reports", 1, records), "--github-status")
    (value,) = forge.sent("POST", "/check-runs")
    (note,) = value["output"]["annotations"]
    assert (note["path"], note["start_line"], note["end_line"]) == ("mine/shop.yml", 4, 4)

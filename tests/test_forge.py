"""Results told on GitHub and GitLab, against a small server with their faults."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.forge import api as forge_api
from bootmatrix.forge import issues
from bootmatrix.model import Plan, RunRequest, Verdict
from bootmatrix.runs.run_json import write_run as write_json
from bootmatrix.runs.run_store import load_run
from command_line import Result, Tool, refused, tool
from forge_server import TOKEN, Forge, serve_forge
from samples import make_cell, make_record, write_dated

__all__ = ["tool"]


@pytest.fixture
def forge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: Tool) -> Iterator[Forge]:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7, "head": {"sha": "f" * 40}}}))
    with serve_forge() as server:
        variables = {
            "GITHUB_TOKEN": TOKEN, "GITHUB_REPOSITORY": "me/project", "GITHUB_SHA": "a" * 40,
            "GITHUB_API_URL": server.address, "GITHUB_EVENT_PATH": str(event), "GITHUB_RUN_ID": "12",
            "GITLAB_TOKEN": TOKEN, "CI_API_V4_URL": server.address, "CI_PROJECT_ID": "3", "CI_COMMIT_SHA": "b" * 40,
            "CI_MERGE_REQUEST_IID": "9", "CI_PIPELINE_URL": "https://gitlab.example/p/1",
        }  # fmt: skip
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield server


def made(tmp_path: Path, day: int, *verdicts: Verdict) -> str:
    cells = [make_cell(arch) for arch in ("x86_64", "aarch64", "armv7")]
    records = [make_record(*pair) for pair in zip(cells, verdicts, strict=False)]
    changed = [record.model_copy(update={"spec_sha256": f"{day}" * 64}) for record in records]
    return write_dated(tmp_path / "reports", day, changed)


def announce(tool: Tool, name: str, *options: str) -> Result:
    done = tool("announce", name, *options)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done


P, F = Verdict.PASS, Verdict.FAIL


def test_a_check_run_with_annotations(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    done = announce(tool, made(tmp_path, 1, P, F), "--github-status")
    assert done.stdout == "check run\n"
    (value,) = forge.sent("POST", "/repos/me/project/check-runs")
    assert (value["head_sha"], value["conclusion"]) == ("f" * 40, "failure")
    assert value["details_url"] == "https://github.com/me/project/actions/runs/12"
    assert [note["title"] for note in value["output"]["annotations"]] == ["fail: influxdb/aarch64/6.1"]


def test_a_run_of_another_commit_is_not_announced(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    """As one that a cache restored, if this job made none."""
    name = made(tmp_path, 1, P, P)
    file = tmp_path / "reports" / name / "run.json"
    for commit, status in (("a" * 40, 0), ("c" * 40, 2)):
        run = load_run(file.parent)
        order = RunRequest(plan=Plan(cells=()), commit=commit)
        write_json(file, run.model_copy(update={"order": order}))
        done = tool("announce", name, "--github-status", "--github-comment")
        assert done.returncode == status, done.stderr
    assert f"tested the commit {'c' * 40}, and this job is of {'a' * 40}" in done.stderr
    assert len(forge.sent("POST", "/repos/me/project/check-runs")) == 1


@pytest.mark.parametrize("status", [403, 404, 422])
def test_a_token_that_may_not_create_check_runs_sets_a_status(
    tool: Tool, tmp_path: Path, forge: Forge, status: int
) -> None:
    forge.faults = [("check-runs", status, {})]
    assert announce(tool, made(tmp_path, 1, P, P), "--github-status").stdout == "commit status\n"
    (value,) = forge.sent("POST", "/statuses/" + "f" * 40)
    assert (value["state"], value["context"]) == ("success", "bootmatrix/influxdb")
    assert len(value["description"]) <= 140


def test_one_comment_that_is_updated_on_whatever_page_it_is(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    forge.comments = [{"id": number, "body": "from others"} for number in range(1, 6)]
    before = made(tmp_path, 1, P, F, P)
    after = made(tmp_path, 2, F, P, P)
    assert announce(tool, before, "--github-comment").stdout == "comment created\n"
    done = announce(tool, after, "--github-comment", "--baseline", before, "--link", "https://ci.example/r")
    assert done.stdout == "comment updated\n"
    assert len(forge.comments) == 6
    body = forge.comments[-1]["body"]
    assert "**Regressed**\n\n- `influxdb/x86_64/6.1` pass → fail" in body
    assert "**Fixed**\n\n- `influxdb/aarch64/6.1` fail → pass" in body
    assert "[Report](https://ci.example/r)" in body
    assert forge.comments[0]["body"] == "from others"


@pytest.fixture
def main_branch(forge: Forge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Forge:
    """A job for a commit on the main branch, on both forges."""
    event = tmp_path / "push.json"
    event.write_text(json.dumps({"repository": {"default_branch": "main"}}))
    variables = {
        "GITHUB_EVENT_PATH": str(event), "GITHUB_REF": "refs/heads/main", "CI_MERGE_REQUEST_IID": "",
        "CI_DEFAULT_BRANCH": "main", "CI_COMMIT_BRANCH": "main",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return forge


ON_BOTH = pytest.mark.parametrize("option", ["--github-issues", "--gitlab-issues"])


@ON_BOTH
def test_an_issue_is_opened_updated_and_closed(tool: Tool, tmp_path: Path, main_branch: Forge, option: str) -> None:
    for day, verdicts, words in (
        (1, (F, F, P), "2 opened, 0 updated, 0 closed"),
        (2, (F, Verdict.INFRA_ERROR, P), "0 opened, 1 updated, 0 closed"),
        (3, (P, F, P), "0 opened, 1 updated, 1 closed"),
        (4, (P, F, F), "1 opened, 1 updated, 0 closed"),
    ):
        assert announce(tool, made(tmp_path, day, *verdicts), option).stdout == f"issues: {words}\n"
    assert {entry["title"].split("/")[1]: entry["state"] for entry in main_branch.issues} == {
        "x86_64": "closed",
        "aarch64": "open",
        "armv7": "open",
    }


@ON_BOTH
@pytest.mark.parametrize(
    "variables",
    [
        {"GITHUB_REF": "refs/heads/next", "CI_COMMIT_BRANCH": "next"},
        {"GITHUB_REF": "refs/tags/v1", "CI_COMMIT_BRANCH": ""},
    ],
    ids=["another branch", "a tag"],
)
def test_issues_are_for_the_main_branch(
    tool: Tool,
    tmp_path: Path,
    main_branch: Forge,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    variables: dict[str, str],
) -> None:
    """A pass elsewhere says nothing about it, and must close none."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert announce(tool, made(tmp_path, 1, P, F), option).stdout == "not the main branch: no issues\n"
    assert not main_branch.requests


@ON_BOTH
def test_issues_are_not_for_pull_requests(tool: Tool, tmp_path: Path, forge: Forge, option: str) -> None:
    assert announce(tool, made(tmp_path, 1, F), option).stdout == "not the main branch: no issues\n"
    assert not forge.requests


def test_a_broken_kernel_does_not_flood_a_project(
    tool: Tool, tmp_path: Path, main_branch: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issues, "MAX_ISSUES", 2)
    done = announce(tool, made(tmp_path, 1, F, F, F), "--gitlab-issues")
    assert done.stdout == "issues: 2 opened, 0 updated, 0 closed, 1 more not opened\n"


@pytest.mark.parametrize("option", ["--github-comment", "--gitlab-comment"])
def test_a_comment_of_somebody_else_with_the_mark_stays(tool: Tool, tmp_path: Path, forge: Forge, option: str) -> None:
    """Its author could change it again, to a result that is none."""
    stranger = {"user": {"type": "User"}, "author": {"id": 666}, "author_association": "CONTRIBUTOR"}
    theirs = {"id": 1, "body": "<!-- bootmatrix: influxdb -->\nall passed", **stranger}
    forge.comments = [dict(theirs)]
    assert announce(tool, made(tmp_path, 1, F), option).stdout == "comment created\n"
    assert forge.comments[0] == theirs
    assert announce(tool, made(tmp_path, 2, F), option).stdout == "comment updated\n"
    assert len(forge.comments) == 2


@ON_BOTH
def test_an_issue_of_somebody_else_with_the_mark_is_neither_changed_nor_closed(
    tool: Tool, tmp_path: Path, main_branch: Forge, option: str
) -> None:
    announce(tool, made(tmp_path, 1, F), option)
    (ours,) = main_branch.issues
    main_branch.issues = [{**ours, "user": {"type": "User"}, "author": {"id": 666}, "author_association": "NONE"}]
    assert announce(tool, made(tmp_path, 2, P), option).stdout == "issues: 0 opened, 0 updated, 0 closed\n"
    assert main_branch.issues[0]["state"] == "open"


def test_gitlab_has_a_status_and_a_note(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    name = made(tmp_path, 1, P, F)
    for words in ("comment created", "comment updated"):
        done = announce(tool, name, "--gitlab-status", "--gitlab-comment")
        assert done.stdout == f"commit status\n{words}\n"
    assert forge.sent("POST", "/projects/3/statuses/" + "b" * 40)[0]["state"] == "failed"
    assert len(forge.comments) == 1 and "https://gitlab.example/p/1" in forge.comments[0]["body"]


def test_faults_that_pass_are_waited_for(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    forge.faults = [
        ("check-runs", 503, {}),
        ("check-runs", 429, {"Retry-After": "0"}),
        ("check-runs", 403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()))}),
    ]
    assert announce(tool, made(tmp_path, 1, P), "--github-status").stdout == "check run\n"
    assert len(forge.sent("POST", "check-runs")) == 4


def test_a_rate_limit_of_an_hour_is_not_waited_for(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    hour = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 3600)}
    forge.faults = [("comments", 403, hour)]
    began = time.monotonic()
    done = announce(tool, made(tmp_path, 1, P), "--github-comment")
    assert "not announced: GET issues/7/comments: status 403: no, not so" in done.stderr
    assert time.monotonic() - began < 600


def test_no_network_fails_nothing(tool: Tool, tmp_path: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge_api, "TRIES", 2)
    name = made(tmp_path, 1, P)
    forge.faults = [("check-runs", 500, {})] * 2
    assert (
        "not announced: POST check-runs: status 500, after 2 attempts" in announce(tool, name, "--github-status").stderr
    )
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1")
    assert "ConnectError" in announce(tool, name, "--github-status").stderr
    monkeypatch.setenv("GITHUB_API_URL", forge.address)
    forge.faults = [("comments", 200, {"Link": '<http://evil.example/x>; rel="next"'})]
    assert "the next page is on another host" in announce(tool, name, "--github-comment").stderr
    forge.faults = [("comments", 200, {})]  # such as of a proxy
    assert "the answer is not a list of entries" in announce(tool, name, "--github-comment").stderr
    assert not forge.comments


def test_words_of_guests_are_code_and_cannot_forge_a_mark(tool: Tool, tmp_path: Path, forge: Forge) -> None:
    reason = "@everyone <!-- bootmatrix: influxdb --> [x](http://evil.example) `a`"
    record = make_record(make_cell("x86_64"), F, reason)
    name = write_dated(tmp_path / "reports", 1, [record])
    announce(tool, name, "--github-comment")
    assert f"`` {reason} ``" in forge.comments[0]["body"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("GITHUB_TOKEN", "t\u00f6ken", "GITHUB_TOKEN is invalid"),
        ("GITHUB_TOKEN", "secret\n", "GITHUB_TOKEN is invalid"),
        ("GITHUB_API_URL", "http://[::1", "the address of the API or of a proxy is invalid"),
        ("GITHUB_API_URL", "ftp://forge.example", "the address of the API or of a proxy is invalid"),
        ("HTTPS_PROXY", "nosuch://proxy.example", "the address of the API or of a proxy is invalid"),
        ("SSL_CERT_FILE", "/nosuch/file", "SSL_CERT_FILE"),
        ("GITHUB_SHA", "../../user", "GITHUB_SHA '../../user': expected the id of a commit"),
        ("GITHUB_REPOSITORY", "me", "GITHUB_REPOSITORY 'me': expected OWNER/NAME"),
    ],
)
def test_settings_that_cannot_be_sent_are_bad_input(
    tool: Tool, tmp_path: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.delenv("GITHUB_EVENT_PATH")
    monkeypatch.setenv(name, value)
    done = tool("announce", made(tmp_path, 1, P), "--github-status")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith(message) and (name != "GITHUB_TOKEN" or value not in done.stderr)


def test_missing_settings_are_bad_input(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = made(tmp_path, 1, P)
    for variable in ("GITHUB_TOKEN", "GITLAB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    refused(tool("announce", name, "--github-status"), "GITHUB_TOKEN is not set")
    refused(tool("announce", name, "--gitlab-status"), "GITLAB_TOKEN is not set")

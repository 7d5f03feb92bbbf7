"""GitHub: status or check run, one comment, an issue per failing cell."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.forge import issues
from bootmatrix.forge.api import ForgeApi, ForgePlace, RefusedError, check_commit, check_token
from bootmatrix.forge.message import comment, headline, mark
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms.github import failed_line
from bootmatrix.report.sanitize import one_line

MAX_ANNOTATIONS = 50
"""Annotations of a check run in one request."""
MAX_TITLE = 255
"""Characters of an annotation's title."""
WRITERS = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})
"""Values of `author_association` of people who belong to the project."""


HINT = "In a GitHub job: env: {GITHUB_TOKEN: ${{ github.token }}}. Elsewhere, GITHUB_REPOSITORY and GITHUB_SHA too."


def open_api(place: ForgePlace) -> ForgeApi:
    """Open the API of a place."""
    headers = {
        "Authorization": f"Bearer {place.token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    return ForgeApi(f"{place.api}/repos/{place.project}/", place.token, headers)


def place_of(environment: Mapping[str, str], link: str = "") -> ForgePlace:
    """Find the place of a GitHub job. Raises InputError without a variable."""
    for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_SHA"):
        if not environment.get(name):
            raise InputError(f"{name} is not set", HINT)
    repository = environment["GITHUB_REPOSITORY"]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise InputError(f"GITHUB_REPOSITORY {repository[:80]!r}: expected OWNER/NAME")
    event = _event(environment.get("GITHUB_EVENT_PATH", ""))
    number, head = _pull_request(event)
    run = f"{environment.get('GITHUB_SERVER_URL') or 'https://github.com'}/{repository}/actions/runs/"
    run_id = environment.get("GITHUB_RUN_ID", "")
    return ForgePlace(
        api=(environment.get("GITHUB_API_URL") or "https://api.github.com").rstrip("/"),
        token=check_token("GITHUB_TOKEN", environment["GITHUB_TOKEN"]),
        project=repository,
        commit=check_commit(
            "GITHUB_SHA", head or environment["GITHUB_SHA"]
        ),  # GITHUB_SHA of a pull request is of a merge that nobody sees
        request=number,
        link=link or (run + run_id if run_id else ""),
        is_main=not number and _is_default(event, environment.get("GITHUB_REF", "")),
        root=environment.get("GITHUB_WORKSPACE") or ".",
    )


def _event(path: str) -> dict[str, Any]:
    """Read the event of the job; empty without one."""
    with suppress(OSError, ValueError):
        value = json.loads(Path(path).read_text(encoding="utf-8")) if path else None
        return value if isinstance(value, dict) else {}
    return {}


def _pull_request(event: dict[str, Any]) -> tuple[int, str]:
    """Return number and head of the event's pull request; 0 and empty."""
    with suppress(ValueError, KeyError, TypeError):
        pull = event["pull_request"]
        return int(pull["number"]), str(pull["head"]["sha"])
    return 0, ""


def _is_default(event: dict[str, Any], ref: str) -> bool:
    """Return whether a ref is the default branch; true if unknown."""
    repository = event.get("repository")
    branch = repository.get("default_branch") if isinstance(repository, dict) else None
    return not ref or not branch or ref == f"refs/heads/{branch}"


def tell_status(api: ForgeApi, place: ForgePlace, context: ReportContext) -> str:
    """Create a check run, or a commit status if the token may not; say which.

    Raises NetworkError if neither is possible.
    """
    name = f"bootmatrix/{context.run.title}"[:100]
    try:
        api.write("POST", "check-runs", _check_run(name, place, context))
    except RefusedError as error:
        if error.status not in {401, 403, 404, 422}:
            raise
        state = "success" if context.run.is_good else "failure"
        value = {"state": state, "context": name, "description": headline(context), "target_url": place.link or None}
        api.write("POST", f"statuses/{place.commit}", value)
        return "commit status"
    return "check run"


def _check_run(name: str, place: ForgePlace, context: ReportContext) -> dict[str, Any]:
    output = {
        "title": headline(context),
        "summary": comment(context, place.link),
        "annotations": list(_annotations(place, context))[:MAX_ANNOTATIONS],
    }
    conclusion = "success" if context.run.is_good else "failure"
    value = {"name": name, "head_sha": place.commit, "status": "completed", "conclusion": conclusion, "output": output}
    return value | ({"details_url": place.link} if place.link else {})


def _annotations(place: ForgePlace, context: ReportContext) -> Iterator[dict[str, Any]]:
    """Yield annotations of cells whose specs are files of the project."""
    for cell in context.view.attention:
        path = _in_project(cell.record.cell.spec, place.root)
        if not path:
            continue
        line = failed_line(cell)
        yield {
            "path": path,
            "start_line": line,
            "end_line": line,
            "annotation_level": "failure",
            "title": one_line(f"{cell.verdict}: {cell.id}", MAX_TITLE),
            "message": one_line(cell.reason, 1000) or cell.verdict,
        }


def _in_project(spec: str, root: str) -> str:
    """Return a spec's path in the project; empty for one that is elsewhere."""
    path = os.path.relpath(os.path.realpath(spec), os.path.realpath(root))
    return "" if path.startswith("..") else path


def tell_comment(api: ForgeApi, place: ForgePlace, context: ReportContext) -> str:
    """Write or update the pull request's comment; return which.

    Raises NetworkError if it cannot be written.
    """
    if not place.request:
        return "no pull request: no comment"
    body = {"body": comment(context, place.link)}
    number = _own_comment(api, place, context)
    if number is not None:
        api.write("PATCH", f"issues/comments/{number}", body)
        return "comment updated"
    path = f"issues/{place.request}/comments"
    api.write("POST", path, body, lambda: _own_comment(api, place, context) is not None)
    return "comment created"


def _own_comment(api: ForgeApi, place: ForgePlace, context: ReportContext) -> int | None:
    own = mark(context.view.title)
    for entry in api.pages(f"issues/{place.request}/comments?per_page=100", "id"):
        if _is_trusted(entry) and str(entry.get("body", "")).startswith(own):
            return int(entry["id"])
    return None


def _is_trusted(entry: dict[str, Any]) -> bool:
    """Return whether an entry is a program's, or of somebody who may write.

    Anybody can copy the mark into a comment, and could change it again after its update.
    """
    user = entry.get("user")
    is_bot = isinstance(user, dict) and user.get("type") == "Bot"
    return is_bot or entry.get("author_association") in WRITERS


def tell_issues(api: ForgeApi, place: ForgePlace, context: ReportContext) -> str:
    """Open, update and close issues of the main branch; return numbers.

    Raises NetworkError if one cannot be written.
    """
    return issues.tell_issues(_GithubIssues(api), place, context)


@dataclass(frozen=True)
class _GithubIssues:
    api: ForgeApi

    def known(self) -> Iterator[tuple[str, int]]:
        for entry in self.api.pages(f"issues?state=open&labels={issues.LABEL}&per_page=100", "number"):
            if _is_trusted(entry):
                yield str(entry.get("body") or ""), entry["number"]

    def open(self, title: str, text: str, is_done: Callable[[], bool]) -> None:
        self.api.write("POST", "issues", {"title": title, "body": text, "labels": [issues.LABEL]}, is_done)

    def update(self, number: int, title: str, text: str) -> None:
        self.api.write("PATCH", f"issues/{number}", {"title": title, "body": text})

    def close(self, number: int) -> None:
        self.api.write("PATCH", f"issues/{number}", {"state": "closed", "state_reason": "completed"})

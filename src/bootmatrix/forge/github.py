"""GitHub: status or check run, one comment, an issue per failing cell."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.forge import issues
from bootmatrix.forge.api import ForgeApi, ForgePlace, RefusedError
from bootmatrix.forge.message import comment, headline, mark
from bootmatrix.model import Record
from bootmatrix.report.context import ReportContext

MAX_ANNOTATIONS = 50
"""Annotations of a check run in one request."""
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
    return ForgeApi(f"{place.api}/repos/{place.project}/", headers)


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
    run = f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}/actions/runs/"
    run_id = environment.get("GITHUB_RUN_ID", "")
    return ForgePlace(
        api=environment.get("GITHUB_API_URL", "https://api.github.com"),
        token=environment["GITHUB_TOKEN"],
        project=repository,
        commit=head or environment["GITHUB_SHA"],  # GITHUB_SHA of a pull request is of a merge that nobody sees
        request=number,
        link=link or (run + run_id if run_id else ""),
        is_main=not number and _is_default(event, environment.get("GITHUB_REF", "")),
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
        api.send("POST", "check-runs", _check_run(name, place, context))
    except RefusedError as error:
        if error.status not in {401, 403, 404, 422}:
            raise
        state = "success" if context.run.is_good else "failure"
        value = {"state": state, "context": name, "description": headline(context), "target_url": place.link or None}
        api.send("POST", f"statuses/{place.commit}", value)
        return "commit status"
    return "check run"


def _check_run(name: str, place: ForgePlace, context: ReportContext) -> dict[str, Any]:
    wrong = [cell.record for cell in context.view.attention]
    output = {
        "title": headline(context),
        "summary": comment(context, place.link)[:60_000],
        "annotations": [_annotation(record) for record in wrong[:MAX_ANNOTATIONS]],
    }
    conclusion = "success" if context.run.is_good else "failure"
    value = {"name": name, "head_sha": place.commit, "status": "completed", "conclusion": conclusion, "output": output}
    return value | ({"details_url": place.link} if place.link else {})


def _annotation(record: Record) -> dict[str, Any]:
    return {
        "path": record.cell.spec,
        "start_line": 1,
        "end_line": 1,
        "annotation_level": "failure",
        "title": f"{record.verdict}: {record.cell.id}",
        "message": record.judgement.reason[:1000] or str(record.verdict),
    }


def tell_comment(api: ForgeApi, place: ForgePlace, context: ReportContext) -> str:
    """Write or update the pull request's comment; return which.

    Raises NetworkError if it cannot be written.
    """
    if not place.request:
        return "no pull request: no comment"
    body = {"body": comment(context, place.link)}
    own = mark(context.view.title)
    for entry in api.pages(f"issues/{place.request}/comments?per_page=100", "id"):
        if _is_trusted(entry) and str(entry.get("body", "")).startswith(own):
            api.send("PATCH", f"issues/comments/{entry['id']}", body)
            return "comment updated"
    api.send("POST", f"issues/{place.request}/comments", body)
    return "comment created"


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

    def open(self, title: str, text: str) -> None:
        self.api.send("POST", "issues", {"title": title, "body": text, "labels": [issues.LABEL]})

    def update(self, number: int, title: str, text: str) -> None:
        self.api.send("PATCH", f"issues/{number}", {"title": title, "body": text})

    def close(self, number: int) -> None:
        self.api.send("PATCH", f"issues/{number}", {"state": "closed", "state_reason": "completed"})

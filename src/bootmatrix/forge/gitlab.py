"""GitLab: commit status, one note, an issue for each failing cell."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.forge import issues
from bootmatrix.forge.api import ForgeApi, ForgePlace, check_commit, check_token
from bootmatrix.forge.message import comment, headline, mark
from bootmatrix.report.context import ReportContext

HINT = (
    "GITLAB_TOKEN is a project's token with the scope 'api'. Elsewhere than in a GitLab job, set CI_API_V4_URL, "
    "CI_PROJECT_ID and CI_COMMIT_SHA too."
)


def open_api(place: ForgePlace) -> ForgeApi:
    """Open the API of a place."""
    return ForgeApi(f"{place.api}/projects/{place.project}/", place.token, {"PRIVATE-TOKEN": place.token})


def place_of(environment: Mapping[str, str], link: str = "") -> ForgePlace:
    """Find the place in the variables of a GitLab job; the token is `GITLAB_TOKEN`.

    Raises InputError if one is missing.
    """
    for name in ("GITLAB_TOKEN", "CI_API_V4_URL", "CI_PROJECT_ID", "CI_COMMIT_SHA"):
        if not environment.get(name):
            raise InputError(f"{name} is not set", HINT)
    numbers = {name: environment.get(name, "") or "0" for name in ("CI_PROJECT_ID", "CI_MERGE_REQUEST_IID")}
    for name, value in numbers.items():
        if not re.fullmatch("[0-9]{1,18}", value):
            raise InputError(f"{name} {value[:40]!r}: expected a number")
    default, request = environment.get("CI_DEFAULT_BRANCH", ""), int(numbers["CI_MERGE_REQUEST_IID"])
    return ForgePlace(
        api=environment["CI_API_V4_URL"].rstrip("/"),
        token=check_token("GITLAB_TOKEN", environment["GITLAB_TOKEN"]),
        project=numbers["CI_PROJECT_ID"],
        commit=check_commit("CI_COMMIT_SHA", environment["CI_COMMIT_SHA"]),
        request=request,
        link=link or environment.get("CI_PIPELINE_URL", ""),
        is_main=not request and (not default or environment.get("CI_COMMIT_BRANCH", "") == default),
    )


def tell_status(api: ForgeApi, place: ForgePlace, context: ReportContext) -> str:
    """Set the commit's status. Raises NetworkError if it cannot be set."""
    value = {
        "state": "success" if context.run.is_good else "failed",
        "name": f"bootmatrix/{context.run.title}"[:100],
        "description": headline(context),
    }
    api.write("POST", f"statuses/{place.commit}", value | ({"target_url": place.link} if place.link else {}))
    return "commit status"


def tell_comment(api: ForgeApi, place: ForgePlace, context: ReportContext) -> str:
    """Write or update the merge request's note; return which.

    Raises NetworkError if it cannot be written.
    """
    if not place.request:
        return "no merge request: no comment"
    notes, body, user = (
        f"merge_requests/{place.request}/notes",
        {"body": comment(context, place.link)},
        _own_user(api, place),
    )

    def number() -> int | None:
        own = mark(context.view.title)
        for entry in api.pages(f"{notes}?per_page=100", "id"):
            if _is_own(entry, user) and str(entry.get("body", "")).startswith(own):
                return int(entry["id"])
        return None

    known = number()
    if known is not None:
        api.write("PUT", f"{notes}/{known}", body)
        return "comment updated"
    api.write("POST", notes, body, lambda: number() is not None)
    return "comment created"


def _own_user(api: ForgeApi, place: ForgePlace) -> object:
    """Return the id of the token's user; None if unknown."""
    user = api.get(f"{place.api}/user")
    return user.get("id") if isinstance(user, dict) else None


def _is_own(entry: dict[str, Any], user: object) -> bool:
    """Return whether a note or issue is of the token's user.

    Anybody can copy the mark into one, and could change it again after its update.
    """
    author = entry.get("author")
    return user is not None and isinstance(author, dict) and author.get("id") == user


def tell_issues(api: ForgeApi, place: ForgePlace, context: ReportContext) -> str:
    """Open, update and close issues of the main branch; return numbers.

    Raises NetworkError if one cannot be written.
    """
    return issues.tell_issues(_GitlabIssues(api, place), place, context)


@dataclass(frozen=True)
class _GitlabIssues:
    api: ForgeApi
    place: ForgePlace

    def known(self) -> Iterator[tuple[str, int]]:
        user = _own_user(self.api, self.place)
        for entry in self.api.pages(f"issues?state=opened&labels={issues.LABEL}&per_page=100", "iid"):
            if _is_own(entry, user):
                yield str(entry.get("description") or ""), entry["iid"]

    def open(self, title: str, text: str, is_done: Callable[[], bool]) -> None:
        self.api.write("POST", "issues", {"title": title, "description": text, "labels": issues.LABEL}, is_done)

    def update(self, number: int, title: str, text: str) -> None:
        self.api.write("PUT", f"issues/{number}", {"title": title, "description": text})

    def close(self, number: int) -> None:
        self.api.write("PUT", f"issues/{number}", {"state_event": "close"})

"""GitLab: commit status, and one note on the merge request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bootmatrix.errors import InputError
from bootmatrix.forge.api import ForgeApi
from bootmatrix.forge.message import comment, headline, mark
from bootmatrix.report.context import ReportContext


@dataclass(frozen=True)
class GitlabPlace:
    """A commit, and the merge request it belongs to, 0 if none. `link` leads to the report."""

    api: str
    token: str
    project: int
    commit: str
    merge_request: int = 0
    link: str = ""

    def open(self) -> ForgeApi:
        """Open the API."""
        return ForgeApi(f"{self.api}/projects/{self.project}/", {"PRIVATE-TOKEN": self.token})


def place_of(environment: Mapping[str, str], link: str = "") -> GitlabPlace:
    """Find the place in the variables of a GitLab job; the token is `GITLAB_TOKEN`.

    Raises:
        InputError: one is missing.
    """
    for name in ("GITLAB_TOKEN", "CI_API_V4_URL", "CI_PROJECT_ID", "CI_COMMIT_SHA"):
        if not environment.get(name):
            raise InputError(f"{name} is not set", "Set GITLAB_TOKEN to a project's token with the scope 'api'.")
    numbers = {name: environment.get(name, "") or "0" for name in ("CI_PROJECT_ID", "CI_MERGE_REQUEST_IID")}
    for name, value in numbers.items():
        if not value.isdecimal():
            raise InputError(f"{name} {value[:40]!r}: expected a number")
    return GitlabPlace(
        api=environment["CI_API_V4_URL"],
        token=environment["GITLAB_TOKEN"],
        project=int(numbers["CI_PROJECT_ID"]),
        commit=environment["CI_COMMIT_SHA"],
        merge_request=int(numbers["CI_MERGE_REQUEST_IID"]),
        link=link or environment.get("CI_PIPELINE_URL", ""),
    )


def tell_status(api: ForgeApi, place: GitlabPlace, context: ReportContext) -> str:
    """Set the commit's status.

    Raises:
        NetworkError: it cannot be set.
    """
    value = {
        "state": "success" if context.run.is_good else "failed",
        "name": f"bootmatrix/{context.run.title}"[:100],
        "description": headline(context),
    }
    api.send("POST", f"statuses/{place.commit}", value | ({"target_url": place.link} if place.link else {}))
    return "commit status"


def tell_comment(api: ForgeApi, place: GitlabPlace, context: ReportContext) -> str:
    """Write the note on the merge request, or update the one that is there; return which.

    Raises:
        NetworkError: it cannot be written.
    """
    if not place.merge_request:
        return "no merge request: no comment"
    notes = f"merge_requests/{place.merge_request}/notes"
    body = {"body": comment(context, place.link)}
    own, user = mark(context.view.title), api.send("GET", f"{place.api}/user")
    author = user.get("id") if isinstance(user, dict) else None
    for entry in api.pages(f"{notes}?per_page=100"):
        # Anybody can copy the mark into a note, and could change it again after its update.
        is_ours = author is not None and (entry.get("author") or {}).get("id") == author
        if is_ours and str(entry.get("body", "")).startswith(own):
            api.send("PUT", f"{notes}/{int(entry['id'])}", body)
            return "comment updated"
    api.send("POST", notes, body)
    return "comment created"

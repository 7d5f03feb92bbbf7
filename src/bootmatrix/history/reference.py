"""Names of runs: folders, `latest`, `last-good`, `tag:v1.8`, `branch:main`."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.fsio import opened_folder, replace_link, write_atomic_in
from bootmatrix.history.discover import is_run
from bootmatrix.history.index import LATEST, ask
from bootmatrix.history.queries import Rows
from bootmatrix.history.values import RunLine, RunState
from bootmatrix.runs.hold import end_cause, is_under_way

LAST_GOOD = "last-good"
"""The newest run that ended with every failure accepted."""
RELATIVE = frozenset({LATEST, LAST_GOOD})
"""Names that mean another run as time goes on."""
LATEST_PREFIX = f"{LATEST}:"
"""The newest run of a matrix, by its title."""
BRANCH_PREFIX = "branch:"
"""The newest good run of a branch."""
CLOCK_SLACK_S = 60
"""Difference of clocks that is ignored; a run dated later is dated in the future."""
TAG_PREFIX = "tag:"
TAGS_FOLDER = "tags"
"""Folder in the reports: one file per tag, containing the name of the run's folder."""
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}", re.ASCII)
MAX_NAME = 300


@dataclass(frozen=True, slots=True)
class RunLocation:
    """A run's name in a folder of runs."""

    reports: Path
    name: str

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.reports / self.name


def reports_folder(chosen: Path | None) -> Path:
    """Return the folder of runs: `chosen`, else `BOOTMATRIX_REPORTS`, else `reports`."""
    return Path(chosen or os.environ.get("BOOTMATRIX_REPORTS", "reports"))


def find_run(reports: Path, text: str) -> RunLocation:
    """Find a run by name; `latest` is the newest not in the future.

    Raises InputError if the run does not exist.
    """
    if text.startswith(TAG_PREFIX):
        return _tagged(reports, text.removeprefix(TAG_PREFIX))
    if text.startswith(LATEST_PREFIX):
        return _newest_of(reports, text.removeprefix(LATEST_PREFIX))
    if text == LATEST:
        name = newest_run(reports)
        if not name:
            raise InputError(
                f"{reports} contains no run", "Make one with 'bootmatrix matrix', or name another --reports."
            )
        return RunLocation(reports, name)
    if text == LAST_GOOD or text.startswith(BRANCH_PREFIX):
        name = ask(reports, lambda rows: baseline_before(rows, text, "", None))
        if not name:
            raise InputError(f"{reports} contains no run that is {text}", "'bootmatrix runs' lists them.")
        return RunLocation(reports, name)
    for folder in (Path(text), reports / text):
        if is_run(folder):
            real = folder.resolve()
            return RunLocation(real.parent, real.name)
    if Path(text).is_dir():
        raise InputError(f"{text}: not a run: contains neither run.json nor started.json", _HINT)
    raise InputError(f"{text}: no such run", _close(reports, text) or _HINT)


def _newest_of(reports: Path, title: str) -> RunLocation:
    lines = ask(reports, lambda rows: rows.runs(title, limit=1, until=now())) if title else []
    if not lines:
        raise InputError(f"{reports} contains no run of {title!r}", "'bootmatrix runs --title TITLE' lists them.")
    return RunLocation(reports, lines[0].name)


def find_runs(reports: Path, names: Sequence[str]) -> list[Path]:
    """Find runs by name; a folder that contains runs means all of them.

    Raises InputError if the run does not exist, or is named twice.
    """
    folders: list[Path] = []
    for name in names:
        path = Path(name)
        inner = (
            sorted(entry for entry in path.iterdir() if is_run(entry) and not entry.is_symlink())
            if path.is_dir()
            else []
        )
        folders += (
            [entry.resolve() for entry in inner]
            if inner and not is_run(path)
            else [find_run(reports, name).folder.resolve()]
        )
    twice = {folder for folder in folders if folders.count(folder) > 1}
    if twice:
        raise InputError(f"the same run twice: {', '.join(map(str, sorted(twice)))}", "Name each run once.")
    return folders


def find_baseline(
    reports: Path, text: str, *, title: str, before: RunLine | None = None, branch: str = ""
) -> RunLocation | None:
    """Find the run to compare with; None without a match.

    `latest` is the newest finished run of the same title, before `before` if set; `last-good` the newest of them in
    which every failure was accepted.

    Raises InputError if the run does not exist.
    """
    if text not in RELATIVE and not text.startswith(BRANCH_PREFIX):
        return find_run(reports, text)

    name = ask(reports, lambda rows: baseline_before(rows, text, title, before, branch))
    return RunLocation(reports, name) if name else None


def baseline_before(rows: Rows, text: str, title: str, before: RunLine | None, branch: str = "") -> str:
    """Return the run of a relative baseline before `before`; or empty.

    The last good run is one of the same branch, if there is any.
    """
    branch = before.branch if before else branch
    lines = [line for line in rows.runs(title, until=now()) if _is_earlier(line, before) and line.is_tested]
    if text == LATEST:
        return next((line.name for line in lines if line.is_finished), "")
    good = [line for line in lines if line.is_good]
    if text.startswith(BRANCH_PREFIX):
        return next((line.name for line in good if line.branch == text.removeprefix(BRANCH_PREFIX)), "")
    same = (line.name for line in good if line.branch == branch)
    return next(same, good[0].name if good else "")


def _is_earlier(line: RunLine, before: RunLine | None) -> bool:
    return before is None or (line.started_at, line.name) < (before.started_at, before.name)


def now() -> str:
    """Return the current time, with some slack for clocks, as runs are dated."""
    return (datetime.now(UTC) + timedelta(seconds=CLOCK_SLACK_S)).isoformat(timespec="seconds")


def newest_run(reports: Path) -> str:
    """Return the newest run, or empty; the link `latest` follows."""
    newest = ask(reports, lambda rows: rows.runs(limit=1, until=now()))
    name = newest[0].name if newest else ""
    link = reports / LATEST
    with suppress(OSError):
        if name and link.is_symlink() and str(link.readlink()) != name:
            replace_link(link, name)
    return name


def with_life(line: RunLine, reports: Path) -> RunLine:
    """Return the line of an unended run: under way, or why it has no end."""
    if line.state is not RunState.INTERRUPTED or line.ended_at:
        return line
    is_running = is_under_way(reports / line.name)
    if is_running:
        return replace(line, state=RunState.UNDER_WAY)
    return replace(line, interruption=end_cause(reports / line.name))


def tags_of(reports: Path) -> dict[str, str]:
    """Return the run's name for each tag; tags of removed runs are omitted."""
    tags = {}
    with suppress(OSError):
        for file in sorted((reports / TAGS_FOLDER).iterdir()):
            if TAG.fullmatch(file.name) and file.is_file() and not file.is_symlink():
                name = _read(file)
                if name and is_run(reports / name):
                    tags[file.name] = name
    return tags


def add_tag(place: RunLocation, tag: str) -> None:
    """Tag a run, moving an existing tag of that name.

    Raises InputError for an invalid tag, OSError if the tag cannot be written.
    """
    _check(tag)
    with suppress(FileExistsError):
        (place.reports / TAGS_FOLDER).mkdir()
    with opened_folder(place.reports, [TAGS_FOLDER]) as folder:  # it may be somebody else's link to any folder
        write_atomic_in(folder, tag, f"{place.name}\n".encode())


def remove_tag(reports: Path, tag: str) -> None:
    """Remove a tag. Raises InputError if the tag does not exist."""
    _check(tag)
    try:
        with opened_folder(reports, [TAGS_FOLDER]) as folder:
            os.unlink(tag, dir_fd=folder)
    except FileNotFoundError:
        raise InputError(f"no tag {tag!r} in {reports}") from None


_HINT = "Name a folder under reports/, latest, latest:TITLE, last-good, tag:NAME or branch:NAME; see 'bootmatrix runs'."


def _check(tag: str) -> None:
    if not TAG.fullmatch(tag) or tag in RELATIVE:
        raise InputError(f"{tag!r} is not a valid tag", "Use letters, digits and _ . + -, such as v1.8.")


def _tagged(reports: Path, tag: str) -> RunLocation:
    _check(tag)
    tags = tags_of(reports)
    if tag not in tags:
        near = get_close_matches(tag, tags, 1)
        hint = f"Did you mean 'tag:{near[0]}'?" if near else f"'bootmatrix runs tag RUN {tag}' creates it."
        raise InputError(f"no run in {reports} has the tag {tag!r}", hint)
    return RunLocation(reports, tags[tag])


def _read(file: Path) -> str:
    """Read a run's name from a tag's file; empty for an invalid name."""
    with file.open("rb") as stream:
        name = stream.read(MAX_NAME).decode("utf-8", "replace").strip()
    return "" if "/" in name or name.startswith(".") else name


def _close(reports: Path, text: str) -> str:
    names = [line.name for line in ask(reports, lambda rows: rows.runs())]
    near = get_close_matches(text, [*RELATIVE, *names], 1)
    return f"Did you mean '{near[0]}'?" if near else ""

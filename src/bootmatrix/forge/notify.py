"""One message about a result to chat, mail and other services, by apprise.

Their addresses hold tokens, and appear nowhere.
"""

import logging
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bootmatrix.errors import HostError, InputError
from bootmatrix.forge.message import headline
from bootmatrix.history.values import CellChange, ChangeKind
from bootmatrix.report.context import ReportContext
from bootmatrix.report.sanitize import one_line

VARIABLE = "BOOTMATRIX_NOTIFY"
"""Addresses, separated by blanks."""
MAX_ADDRESSES = 20
MAX_CELLS = 20
"""Cells of a kind that a message names; chat services cut long ones anywhere."""
_NOT_NAME = re.compile(r"[^\w .,()+-]")
"""Left out of a run's title, which is a matrix's file name and may be anybody's: `@everyone`, `<!channel>`, links."""
TIMEOUT_S = 60.0
"""Longest wait for all services: a run does not wait for a chat."""


@dataclass(frozen=True)
class Message:
    """A message: its first line, the others, and whether all is as expected."""

    title: str
    text: str
    is_good: bool


class SecretAddress(str):
    """An address of a service, with its tokens; only its scheme may be shown."""

    __slots__ = ()

    @property
    def shown(self) -> str:
        """The scheme, such as `slack://…`."""
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,20}(?=://)", self)
        return f"{scheme[0].lower()}://…" if scheme else "…"

    def __repr__(self) -> str:
        return self.shown


class _Service(Protocol):
    def notify(self, *, title: str, body: str, notify_type: str, body_format: str) -> object: ...


@dataclass(frozen=True)
class Notifier:
    """Services that are told a result."""

    services: tuple[tuple[str, _Service], ...] = ()

    def tell(self, message: Message) -> list[str]:
        """Tell all services at once, for a minute; return a line per failure."""
        untold: dict[int, str] = dict.fromkeys(range(len(self.services)), "no answer in time")
        threads = [
            threading.Thread(target=_tell, args=(service, message, untold, index), daemon=True)
            for index, (_, service) in enumerate(self.services)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S / len(threads))
        faults = dict(untold)
        return [f"{self.services[index][0]}: {fault}" for index, fault in sorted(faults.items())]


def open_notifier(addresses: Iterable[str]) -> Notifier:
    """Make a notifier of addresses as apprise takes them; nothing is sent yet.

    Raises InputError for an address that apprise does not take, or too many; HostError if apprise is not installed.
    """
    secrets = [SecretAddress(text) for text in dict.fromkeys(addresses)]
    if not secrets:
        return Notifier()
    if len(secrets) > MAX_ADDRESSES:
        raise InputError(f"--notify: {len(secrets)} addresses; at most {MAX_ADDRESSES}")
    try:
        import apprise
    except ModuleNotFoundError as error:
        raise HostError("--notify needs apprise", "Install it: pip install 'bootmatrix[notify]'") from error
    log = logging.getLogger("apprise")  # which names hosts and parts of addresses
    log.handlers[:], log.propagate = [logging.NullHandler()], False
    services = []
    for number, secret in enumerate(secrets, 1):
        plugin = apprise.Apprise.instantiate(str(secret), suppress_exceptions=True)
        if plugin is None:
            hint = (
                "Addresses are those of apprise, such as slack://…, mailto://… or json://…; scheme and parts must fit."
            )
            raise InputError(f"--notify: address {number}, {secret.shown}, is not valid", hint)
        service = apprise.Apprise()
        service.add(plugin)
        services.append((secret.shown, service))
    return Notifier(tuple(services))


def _tell(service: _Service, message: Message, untold: dict[int, str], index: int) -> None:
    """Tell one service; remove its entry from `untold` when it is told."""
    try:
        kind = "success" if message.is_good else "failure"
        is_told = bool(service.notify(title=message.title, body=message.text, notify_type=kind, body_format="text"))
    except Exception as error:  # a plug-in of a service may fail in any way
        untold[index] = type(error).__name__
        return
    if is_told:
        del untold[index]
    else:
        untold[index] = "refused or unreachable"


def run_message(context: ReportContext, link: str) -> Message:
    """Return a run's message: headline, regressions, fixes, link.

    Nothing that a guest printed is in it, as services interpret words such as @everyone.
    """
    comparison = context.past.comparison
    changes = comparison.changes if comparison else ()
    if comparison:
        wrong = _listed("Regressed", [_change(change) for change in changes if change.is_regression])
    else:
        attention = context.view.attention
        wrong = _listed("Not as expected", [f"{cell.id}: {cell.verdict}" for cell in attention])
    fixed = _listed("Fixed", [_change(change) for change in changes if change.kind is ChangeKind.FIXED])
    lines = [*wrong, *fixed, *([link] if link else [])]
    title = one_line(f"{_NOT_NAME.sub('', context.run.title)}: {headline(context)}")
    return Message(title, "\n".join(lines) or headline(context), context.run.is_good)


def _change(change: CellChange) -> str:
    return f"{change.id}: {change.before or 'none'} → {change.now}"


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{title}:"
        yield from (f"- {one_line(line)}" for line in lines[:MAX_CELLS])
        if len(lines) > MAX_CELLS:
            yield f"- and {len(lines) - MAX_CELLS} more"


def job_page(environment: Mapping[str, str]) -> str:
    """Return the CI job's page (GitHub, GitLab, Jenkins); empty outside."""
    repository, run_id = environment.get("GITHUB_REPOSITORY", ""), environment.get("GITHUB_RUN_ID", "")
    if repository and run_id:
        server = environment.get("GITHUB_SERVER_URL", "https://github.com")
        return f"{server}/{repository}/actions/runs/{run_id}"
    return environment.get("CI_PIPELINE_URL", "") or environment.get("BUILD_URL", "")

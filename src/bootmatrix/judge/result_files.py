"""Files that containers leave: each one that the spec names has to come; JUnit and TAP among them are sub-results."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from bootmatrix.judge.junit import UnreadableReport, read_report
from bootmatrix.judge.printed import Printed
from bootmatrix.judge.tap import MAX_RESULTS, parse
from bootmatrix.model import Bootable, GuestMessage, Outcome, Verdict
from bootmatrix.model.finding import Finding, piece

MAX_FILE_BYTES = 1 << 20
"""Of one file; its guest sends half of that at most."""
MISSING_ADVICE = (
    "Files are taken from the container's own root when it has ended: what is on a bind or a tmpfs is not there."
)
GZIP = zlib.MAX_WBITS | 16


class UnreadableFile(ValueError):
    """A file that did not arrive in one piece."""


@dataclass(frozen=True)
class Sent:
    """A file as it came: `data` is its beginning, `size_bytes` that of the whole. None: there was no such file."""

    container: str
    path: str
    data: bytes | None
    size_bytes: int = 0

    @property
    def is_cut(self) -> bool:
        """Whether only its beginning came."""
        return self.data is not None and len(self.data) < self.size_bytes


def sent_files(outcome: Outcome) -> Iterator[Sent]:
    """The files of a boot.

    Raises:
        UnreadableFile: one of them is damaged.
    """
    return (unpack(message) for message in outcome.messages if message.kind == "file")


def unpack(message: GuestMessage) -> Sent:
    """The file that a message holds.

    Raises:
        UnreadableFile: it is damaged, or too large.
    """
    try:
        container, path64, state, *data = message.words
        path = base64.b64decode(path64, validate=True).decode("utf-8", "replace")
        if state == "missing":
            return Sent(container, path, None)
        stream = zlib.decompressobj(GZIP)
        plain = stream.decompress(base64.b64decode(data[0], validate=True), MAX_FILE_BYTES)
        if stream.unconsumed_tail or not stream.eof:
            raise UnreadableFile(f"{path} is larger than {MAX_FILE_BYTES} bytes, or its end is missing")
        return Sent(container, path, plain, int(state))
    except (ValueError, IndexError, binascii.Error, zlib.error) as error:
        raise UnreadableFile(f"a file did not arrive in one piece: {error}") from error


def read_files(outcome: Outcome, bootable: Bootable) -> Iterator[Printed]:
    """Sub-results and complaints of each file that came, and complaints for those that did not."""
    came: Counter[tuple[str, str]] = Counter()
    lacking: Counter[tuple[str, str]] = Counter()
    for message in outcome.messages:
        if message.kind != "file":
            continue
        try:
            file = unpack(message)
        except UnreadableFile as error:
            yield Printed((), (Finding(Verdict.FAIL, str(error)),))
            continue
        if file.data is None:
            lacking[file.container, file.path] += 1
        else:
            came[file.container, file.path] += 1
            yield _read(file)
    yield from (Printed((), (one,)) for one in _absent(came, lacking, bootable))


def _absent(came: Counter[tuple[str, str]], lacking: Counter[tuple[str, str]], bootable: Bootable) -> Iterator[Finding]:
    """A complaint for each file that did not come. Containers may share a name: each has to leave its own.

    One that the guest calls missing is so, however often a file of that name and path came.
    """
    wanted = Counter((one.container, path) for one in bootable.results for path in one.paths)
    for (container, path), number in wanted.items():
        reason = f"{container} left no file {path}, which the spec names as a result"
        if number > 1:
            reason = f"{number} containers {container} were to leave a file {path}, and {came[container, path]} did"
        if came[container, path] < number or lacking[container, path]:
            yield Finding(Verdict.FAIL, reason, (piece("result", reason),), MISSING_ADVICE)


def _read(file: Sent) -> Printed:
    readers = {".xml": _junit, ".tap": _tap}
    reader = readers.get(PurePosixPath(file.path).suffix.lower())
    if reader is None:
        return Printed()
    if file.is_cut:
        reason = f"{file.container}: {file.path} is too large to be sent whole ({file.size_bytes} bytes)"
        advice = "Have the tests write shorter reports, or several."
        return Printed((), (Finding(Verdict.FAIL, reason, (), advice),))
    return reader(file)


def _tap(file: Sent) -> Printed:
    reading = parse((file.data or b"").decode("utf-8", "replace"), file.container)
    if reading.planned is None:
        reading.faults.append(f"{file.path}: its plan is missing, so results may be")
    complaints = (Finding(Verdict.FAIL, f"{file.container}: {fault}") for fault in reading.faults[:5])
    return Printed(tuple(reading.results[:MAX_RESULTS]), tuple(complaints))


def _junit(file: Sent) -> Printed:
    try:
        report = read_report(file.data or b"")
    except UnreadableReport as error:
        return Printed((), (Finding(Verdict.FAIL, f"{file.container}: {file.path} is not JUnit's XML: {error}"),))
    results = [one.model_copy(update={"name": f"{file.container}: {one.name}"}) for one in report.results]
    bad = [one for one in results if one.verdict is Verdict.FAIL]
    complaints = [Finding(Verdict.FAIL, f"{one.name}: {one.detail}"[:400]) for one in bad[:5]]
    complaints += [Finding(Verdict.FAIL, f"{file.container}: {file.path}: {one}") for one in report.troubles]
    if not results:
        complaints.append(Finding(Verdict.FAIL, f"{file.container}: {file.path} has no test in it"))
    notes = tuple(f"{file.container}: {file.path}: {one}" for one in report.notes)
    return Printed(tuple(results[:MAX_RESULTS]), tuple(complaints), notes)

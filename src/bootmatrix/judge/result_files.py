"""Result files: each is required; JUnit and TAP become sub-results."""

import base64
import binascii
import hashlib
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from bootmatrix.judge.foreign_reports import ForeignReport, count_failures, find_report, foreign_root
from bootmatrix.judge.junit import UnreadableReport, read_report
from bootmatrix.judge.tap import MAX_NAME, MAX_RESULTS, MAX_TESTS, ParsedResults, parse
from bootmatrix.model import Bootable, CollectedFile, GuestMessage, Outcome, Verdict
from bootmatrix.model.verdict import Finding, piece

MAX_FILE_BYTES = 1 << 20
"""Limit of one file; a guest sends half of it at most."""
MISSING_ADVICE = (
    "Files are taken from the container's own root after its exit; files on a bind or a tmpfs are not there. "
    "Pipes, sockets and devices do not count."
)
GZIP = zlib.MAX_WBITS | 16
MAX_FAULTS = 5
DIGEST = "sha256:"
"""In the place of what was sent of a file that was then fetched."""

MAX_REPORT_BYTES = 64 << 20
"""Of a report that was fetched."""
MAX_REPORTS = 1000
"""Of one tree."""
MAX_ALL_TESTS = 4 * MAX_TESTS
"""Of all reports of a cell: it takes a minute to judge them."""
MAX_MEMBERS = 250_000
"""Of one tree, which are held in memory; an agent sends fewer, but the run may be from elsewhere."""
TREE_ADVICE = "Folders, patterns and large files are fetched by the agent, which this machine lacks: name files."

TREE_TYPES = {tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE}
LONG_NAMES = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
MAX_LONG_NAME_BYTES = 8192
"""PATH_MAX of Linux and more."""
FileReader = Callable[[str], BinaryIO]
"""Opens a file that was fetched, by its name below the cell's folder."""
FileCounts = Counter[tuple[str, str]]
"""Numbers of files by container and path."""


class TreeHeader(tarfile.TarInfo):
    """A header as guest/archive.py writes it. The run may be from elsewhere."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a header. Raises ReadError for one that would fill the memory."""
        header = super().frombuf(buf, encoding, errors)
        is_long = header.type in LONG_NAMES and header.size <= MAX_LONG_NAME_BYTES
        if header.type not in TREE_TYPES and not is_long:
            raise tarfile.ReadError(f"unexpected type {header.type!r}")
        return header


class UnreadableFile(ValueError):
    """A damaged or oversized file."""


@dataclass(frozen=True)
class SentFile:
    """A file as sent: `data` begins it (None: missing), of `size_bytes`."""

    container: str
    path: str
    data: bytes | None
    size_bytes: int = 0
    is_tree: bool = False

    @property
    def is_cut(self) -> bool:
        """True if only its beginning was sent."""
        return self.data is not None and len(self.data) < self.size_bytes


def unpack(message: GuestMessage) -> SentFile:
    """Unpack a message's file. Raises UnreadableFile if damaged or too large."""
    try:
        container, path64, state, *data = message.words
        path = base64.b64decode(path64, validate=True).decode("utf-8", "replace")
        if data and data[0].startswith(DIGEST):
            return SentFile(container, path, b"", int(state))
        if state in {"missing", "tree"}:
            return SentFile(container, path, None, is_tree=state == "tree")
        stream = zlib.decompressobj(GZIP)
        plain = stream.decompress(base64.b64decode(data[0], validate=True), MAX_FILE_BYTES)
        if stream.unconsumed_tail or not stream.eof:
            raise UnreadableFile(f"{path} is larger than {MAX_FILE_BYTES} bytes, or its end is missing")
        return SentFile(container, path, plain, int(state))
    except (ValueError, IndexError, binascii.Error, zlib.error) as error:
        raise UnreadableFile(f"a file was damaged in transfer: {error}") from error


def without_fetched(outcome: Outcome) -> Outcome:
    """Replace files in messages by those fetched later, in `collected`.

    A record would hold half a mebibyte of each otherwise.
    """
    fetched = {(file.container, file.asked) for file in outcome.collected if file.file}
    if not fetched:
        return outcome
    messages = tuple(_slim(message, fetched) if message.kind == "file" else message for message in outcome.messages)
    return outcome.model_copy(update={"messages": messages})


def _slim(message: GuestMessage, fetched: Collection[tuple[str, str]]) -> GuestMessage:
    try:
        sent = unpack(message)
    except UnreadableFile:
        return message
    if not (sent.is_cut and sent.data) or (sent.container, sent.path) not in fetched:
        return message
    words = (*message.words[:3], f"{DIGEST}{hashlib.sha256(sent.data).hexdigest()}")
    return message.model_copy(update={"words": words})


def no_files(name: str) -> BinaryIO:
    """Refuse to open a file, where none were fetched."""
    raise FileNotFoundError(name)


def read_files(outcome: Outcome, bootable: Bootable, read: FileReader = no_files) -> Iterator[ParsedResults]:
    """Parse each file, and yield findings for required ones without.

    The reports are read up to a limit of tests, beyond which the cell fails.
    """
    count = 0
    for parsed in _read_all(outcome, bootable, read):
        yield parsed
        count += parsed.judged
        if count > MAX_ALL_TESTS:
            reason = f"the reports have more than {MAX_ALL_TESTS} tests: not all of them were read"
            yield ParsedResults((), (Finding(Verdict.FAIL, reason, (), "Have the tests write shorter reports."),))
            return


def _read_all(outcome: Outcome, bootable: Bootable, read: FileReader) -> Iterator[ParsedResults]:
    sent: FileCounts = Counter()
    missing: FileCounts = Counter()
    fetched: dict[tuple[str, str], list[CollectedFile]] = {}
    for collected in outcome.collected:
        fetched.setdefault((collected.container, collected.asked), []).append(collected)
    for message in outcome.messages:
        if message.kind != "file":
            continue
        try:
            file = unpack(message)
        except UnreadableFile as error:
            yield ParsedResults((), (Finding(Verdict.FAIL, str(error)),))
            continue
        key = file.container, file.path
        if file.is_tree or (file.is_cut and any(each.file for each in fetched.get(key, ()))):
            sent[key] += 1
            yield from _read_fetched(file, fetched.get(key, []), read)
        elif file.data is None:
            missing[key] += 1
        else:
            sent[key] += 1
            yield _parse(file)
    yield from (ParsedResults((), (finding,)) for finding in _find_missing(sent, missing, bootable))


def _read_fetched(sent: SentFile, files: Sequence[CollectedFile], read: FileReader) -> Iterator[ParsedResults]:
    """Parse what was fetched for one path of a spec."""
    faults = [file.fault for file in files if file.fault] or ([] if files else ["it was not fetched"])
    for fault in faults[:MAX_FAULTS]:
        reason = f"{sent.container}: the result {sent.path} cannot be fetched: {fault}"
        yield ParsedResults((), (Finding(Verdict.FAIL, reason, (), "" if files else TREE_ADVICE),))
    for file in files:
        reports: list[ParsedResults] = []
        if file.file:
            try:
                for report in _read_saved(file, read):
                    reports.append(report)
                    yield report
            except (OSError, tarfile.TarError) as error:
                reason = f"{file.container}: {file.path} cannot be read: {error}"
                # What the guest's agent broke off is no fault of this host's.
                yield ParsedResults((), (Finding(Verdict.FAIL if file.cut else Verdict.INFRA_ERROR, reason),))
        if file.cut and (any(report.results for report in reports) or _is_report(file.asked)):
            reason = f"{file.container}: reports of tests may be missing: {file.cut}"
            yield ParsedResults(
                (), (Finding(Verdict.FAIL, reason, (), "Raise --get-limit, or name the reports alone."),)
            )
        notes = [*([f"cut: {file.cut}"] if file.cut else []), *file.notes]
        yield ParsedResults((), (), tuple(notes[:MAX_FAULTS]))


def _read_saved(file: CollectedFile, read: FileReader) -> Iterator[ParsedResults]:
    if file.is_tree and _is_report(file.path):
        reason = f"{file.container}: {file.path} is a folder, not a report of tests"
        yield ParsedResults((), (Finding(Verdict.FAIL, reason),))
    with read(file.file) as saved:
        if file.is_tree:
            yield from _read_tree(file, saved)
        elif _is_report(file.path):
            yield _parse(SentFile(file.container, file.path, saved.read(MAX_REPORT_BYTES), file.size_bytes))


def _read_tree(file: CollectedFile, saved: BinaryIO) -> Iterator[ParsedResults]:
    """Parse the reports of a tree, each once in each format.

    A report may be the second name of a file of another kind, or of a report in another format.
    """
    count = 0
    files: dict[str, tarfile.TarInfo] = {}
    parsed: set[tuple[int, str]] = set()  # a content may have thousands of names
    with tarfile.open(None, "r:", saved, tarinfo=TreeHeader, encoding="utf-8", errors="surrogateescape") as archive:
        for number, member in enumerate(archive):
            if number >= MAX_MEMBERS:
                raise tarfile.ReadError(f"more than {MAX_MEMBERS} files")
            path = f"{file.path}/{member.name}".encode("utf-8", "replace").decode()
            content = files[member.name] = files.get(member.linkname, member) if member.islnk() else member
            if not _is_report(member.name) or member.isdir():
                continue
            if not content.isreg():
                yield ParsedResults((), (), (f"{path} is a link, and not read as a report",))
                continue
            kind = PurePosixPath(member.name).suffix.lower()
            if (content.offset_data, kind) in parsed:
                continue
            parsed.add((content.offset_data, kind))
            count += 1
            if count > MAX_REPORTS:
                reason = f"{file.container}: {file.path} has more than {MAX_REPORTS} reports: {path} was not read"
                yield ParsedResults((), (Finding(Verdict.FAIL, reason, (), "Merge them, or name some of them."),))
                return
            source = archive.extractfile(content)
            assert source
            yield _parse(SentFile(file.container, path, source.read(MAX_REPORT_BYTES), content.size))


def _is_report(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in {".xml", ".tap"}


def counts_as_report(file: Path) -> bool:
    """Return whether a file, if it came from a guest, would be judged."""
    suffix = file.suffix.lower()
    if suffix != ".xml":
        return suffix == ".tap"
    with file.open("rb") as stream:
        root = foreign_root(stream.read(MAX_FILE_BYTES))
    return not root or find_report(root) is not None


def _find_missing(sent: FileCounts, missing: FileCounts, bootable: Bootable) -> Iterator[Finding]:
    """Yield a finding for each required file that is missing.

    Containers may share a name, and each needs its own file: one reported as missing is missing, even if another
    container of that name sent it.
    """
    required = Counter((files.container, path) for files in bootable.results for path in files.paths)
    for (container, path), number in required.items():
        reason = f"{container} left no file {path}, which the spec names as a result"
        if number > 1:
            reason = f"expected a file {path} from {number} containers {container}, got {sent[container, path]}"
        if sent[container, path] < number or missing[container, path]:
            yield Finding(Verdict.FAIL, reason, (piece("result", reason),), MISSING_ADVICE)


def _parse(file: SentFile) -> ParsedResults:
    suffix = PurePosixPath(file.path).suffix.lower()
    if suffix not in {".xml", ".tap"}:
        return ParsedResults()
    root = foreign_root(file.data or b"") if suffix == ".xml" else ""
    report = find_report(root)
    if root and not report:
        note = f"{file.container}: {file.path} is XML of <{root[:MAX_NAME]}>, not JUnit's: it decides nothing"
        return ParsedResults((), (), (note,))
    if file.is_cut:
        reason = f"{file.container}: {file.path} is too large to be sent whole ({file.size_bytes} bytes)"
        advice = "Have the tests write shorter reports, or several."
        return ParsedResults((), (Finding(Verdict.FAIL, reason, (), advice),))
    if report:
        return _parse_foreign(file, report)
    return _parse_junit(file) if suffix == ".xml" else _parse_tap(file)


def _parse_foreign(file: SentFile, report: ForeignReport) -> ParsedResults:
    """Fail for failures in another report of tests; its tests become no results."""
    name = f"{file.container}: {file.path}"
    try:
        failures = count_failures(file.data or b"", report)
    except UnreadableReport as error:
        return ParsedResults((), (Finding(Verdict.FAIL, f"{name} is a report of {report.name}, and damaged: {error}"),))
    if failures:
        count = f"{failures} failure{'' if failures == 1 else 's'}"
        return ParsedResults((), (Finding(Verdict.FAIL, f"{name}: {report.name} reports {count}"),))
    return ParsedResults((), (), (f"{name} is a report of {report.name} without failures: it gives no results",))


def _parse_tap(file: SentFile) -> ParsedResults:
    tap = parse((file.data or b"").decode("utf-8", "replace"), file.container)
    if tap.planned is None:
        tap.faults.append(f"{file.path}: no plan: results may be missing")
    findings = (Finding(Verdict.FAIL, f"{file.container}: {fault}") for fault in tap.faults[:5])
    return ParsedResults(tuple(tap.results[:MAX_RESULTS]), tuple(findings), judged=len(tap.results))


def _parse_junit(file: SentFile) -> ParsedResults:
    try:
        report = read_report(file.data or b"")
    except UnreadableReport as error:
        return ParsedResults((), (Finding(Verdict.FAIL, f"{file.container}: {file.path} is not JUnit's XML: {error}"),))
    name = f"{file.container}: {file.path}"
    results = [test.model_copy(update={"name": f"{file.container}: {test.name}"}) for test in report.results]
    failed = [test for test in results if test.verdict is Verdict.FAIL]
    findings = [Finding(Verdict.FAIL, f"{test.name}: {test.detail or 'failed'}"[:400]) for test in failed[:5]]
    findings += [Finding(Verdict.FAIL, f"{name}: {fault}") for fault in report.faults]
    if not results:
        findings.append(Finding(Verdict.FAIL, f"{name} has no tests"))
    notes = tuple(f"{name}: {note}" for note in report.notes)
    return ParsedResults(tuple(results[:MAX_RESULTS]), tuple(findings), notes, len(results))

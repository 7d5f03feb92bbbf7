"""Public boot logs, judged as if all other evidence were of a pass: false alarms, and faults without a sign.

    git clone --mirror https://lore.kernel.org/linux-pci/0 pci.git
    python -m benchmarks.boot_logs pci.git …

Reads mail archives (public-inbox: one mail a blob) for logs of whole boots, in mails and their attachments. Prints each
log's verdict and fatal signs, lines of a crash without a sign, and counts. To be read by eye: a log with a fatal sign
should have a fault. Nothing is kept.
"""

from __future__ import annotations

import bz2
import email
import gzip
import hashlib
import lzma
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from bootmatrix.judge import judge  # noqa: E402
from guests import make_bootable, make_machine, make_outcome  # noqa: E402

MIN_MAIL_BYTES, MAX_LOG_BYTES = 12_000, 4_000_000
MIN_STAMPED = 150
"""Lines with the kernel's time stamp in a log of a whole boot."""
MAX_PROSE = 60
"""Lines without a stamp after which a mail's log has ended."""
BANNER = re.compile(rb"Linux version [3-9]\.\d")
STAMPED = re.compile(rb"^[ \t]*(?:<\d+>)?(?:\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ kernel: )?(\[ *\d+\.\d{6}\].*)$")
CRASHED = re.compile(rb"\] (?:Call Trace|Call trace|-+\[ cut here \]|CPU: .* Comm: .* (?:Not t|T)ainted)")
UNPACK = ((b"\x1f\x8b", gzip.decompress), (b"\xfd7zXZ\x00", lzma.decompress), (b"BZh", bz2.decompress))


def blobs(repository: str) -> Iterator[bytes]:
    """Yield the blobs of a repository that are large enough."""
    words = ("git", "-C", repository, "cat-file", "--batch-all-objects", "--unordered", "--batch")
    with subprocess.Popen(words, stdout=subprocess.PIPE) as git:
        assert git.stdout
        while header := git.stdout.readline().split():
            data = git.stdout.read(int(header[2]) + 1)
            if header[1] == b"blob" and len(data) >= MIN_MAIL_BYTES:
                yield data


def parts(mail: bytes) -> Iterator[bytes]:
    """Yield the texts and attachments of a mail, unpacked."""
    for part in email.message_from_bytes(mail).walk():
        data = part.get_payload(decode=True)
        if not isinstance(data, bytes):
            continue
        unpack = next((unpack for magic, unpack in UNPACK if data.startswith(magic)), None)
        try:
            yield unpack(data) if unpack else data
        except (OSError, EOFError, lzma.LZMAError):
            continue


def boot_log(text: bytes) -> bytes:
    """Return the log of a boot in a text, from its banner to prose; empty if there is none."""
    banner = BANNER.search(text) if len(text) <= MAX_LOG_BYTES else None
    if not banner or text.count(b"\n>") > MAX_PROSE:
        return b""
    lines: list[bytes] = []
    stamped = last = 0
    for line in text[text.rfind(b"\n", 0, banner.start()) + 1 :].splitlines():
        match = STAMPED.match(line)
        lines.append(match[1] if match else line)
        stamped += bool(match)
        last = len(lines) if match else last
        if len(lines) - last > MAX_PROSE:
            break
    return b"\n".join(lines[:last]) + b"\n" if stamped >= MIN_STAMPED else b""


def main() -> int:
    """Judge the logs in the archives that are named."""
    verdicts: Counter[str] = Counter()
    seen: set[str] = set()
    logs = (boot_log(text) for name in sys.argv[1:] for mail in blobs(name) for text in parts(mail))
    for log in filter(None, logs):
        name = hashlib.sha256(b"".join(log.splitlines()[:3])).hexdigest()[:10]
        if name in seen:
            continue
        seen.add(name)
        judgement = judge(make_outcome(), make_machine(), make_bootable(), log)
        fatal = [fault.text for fault in judgement.kernel_faults if fault.is_fatal]
        verdicts[str(judgement.verdict)] += 1
        if judgement.verdict != "pass":
            print(f"{name} {judgement.verdict}: {judgement.reason}", *fatal, sep="\n    ")
        elif not judgement.kernel_faults and (crash := CRASHED.search(log)):
            print(f"{name} has no sign, but: {crash[0].decode(errors='replace')}")
    print(f"{len(seen)} logs: {', '.join(f'{count} {verdict}' for verdict, count in verdicts.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

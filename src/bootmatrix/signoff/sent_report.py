"""The single-file report of a sign-off, with its attestation.

The attestation has the digest of the report without its last line, and that line is the attestation.
"""

import base64
import binascii
import hashlib
import re
from pathlib import Path

from bootmatrix.errors import InputError, readable
from bootmatrix.history.values import Past
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms.html import render
from bootmatrix.report.headline import long_date
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.writer import console_reader
from bootmatrix.signoff.content import SignOff
from bootmatrix.signoff.page import sentence

REPORT_FILE = "report.html"
MAX_BYTES = 256 << 20
_LINE = re.compile(rb"<!-- bootmatrix-signoff ([A-Za-z0-9+/]+={0,2}) -->\n\Z")
_MAIN = b'<main class="wrap">'


def render_sent(signed: SignOff, folder: Path, signer: str, options: str) -> bytes:
    """Render the report in one file, with release, digest, signer; unattested.

    `options` are those of the command that verifies it.
    """
    context = ReportContext(signed.run, console_reader(folder), Past(signed.comparison))
    words = (
        f"Signed off as {signed.release}: {signed.result}, {long_date(signed.date)}. {sentence(signed)} "
        f"Digest of the run: sha256 {signed.manifest_sha256}; {signer or 'not signed with a key'}. "
        f"'bootmatrix signoff verify {REPORT_FILE}{options}' checks this file."
    )
    return with_notice(render(context), words, "notice signed")


def with_notice(page: bytes, words: str, style: str = "notice") -> bytes:
    """Add a notice above the contents of a report."""
    text = one_line(words, 1000).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    notice = f'\n<section class="{style}" aria-label="Sign-off"><p>{text}</p></section>'
    return page.replace(_MAIN, _MAIN + notice.encode(), 1)


def attested(page: bytes, attestation: bytes) -> bytes:
    """Append the attestation to a report."""
    return b"%s\n<!-- bootmatrix-signoff %s -->\n" % (page.rstrip(b"\n"), base64.b64encode(attestation))


def split(data: bytes) -> tuple[bytes, bytes]:
    """Return report and attestation. Raises InputError without the latter."""
    match = _LINE.search(data, max(data.rfind(b"\n<!-- bootmatrix-signoff "), 0))
    if not match:
        raise InputError("not a report that was signed off", "'bootmatrix signoff' writes it beside its page.")
    try:
        return data[: match.start()].rstrip(b"\n"), base64.b64decode(match[1], validate=True)
    except binascii.Error as error:
        raise InputError(f"its attestation is damaged: {error}") from error


def digest_of(page: bytes) -> str:
    """Return the digest that the attestation has of a report."""
    return hashlib.sha256(page.rstrip(b"\n")).hexdigest()


def read_sent(file: Path) -> tuple[bytes, bytes]:
    """Read report and attestation. Raises InputError if one is missing."""
    with readable(file), file.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{file}: larger than {MAX_BYTES} bytes")
    try:
        return split(data)
    except InputError as error:
        raise InputError(f"{file}: {error.message}", error.hint) from error

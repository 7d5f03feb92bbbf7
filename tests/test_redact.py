"""Passwords and signatures in URLs: cut out of all that is printed and kept, and still used to ask by."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_forms
from archive_client import Opener, kernel_source
from bootmatrix.cli.progress import PlainScreen, plain_console
from bootmatrix.errors import BuildError, Fault, FileError, InfraError, InputError
from bootmatrix.model import KernelPart, KernelSource, Plan
from bootmatrix.progress import NullObserver
from bootmatrix.redact import RedactedUrl, redacted, redacted_reference
from bootmatrix.source.archive import open_archive
from bootmatrix.source.deb import open_data
from bootmatrix.source.download import DownloadRequest
from bootmatrix.source.kernel_formats.member import of_tar
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store, default_cache
from command_line import Tool
from registry_fixtures import serving

pytest_plugins = ("archive_fixtures", "command_line")

SECRETS = ("hunter2hunter2", "s1gnatures1gnature", "t0kent0ken")
USER = f"captain:{SECRETS[0]}@"
QUERY = f"?X-Amz-Signature={SECRETS[1]}&token={SECRETS[2]}"


def is_clean(data: bytes | str) -> bool:
    text = data if isinstance(data, bytes) else data.encode()
    return not any(secret.encode() in text for secret in SECRETS) and b"captain" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/b/c", "https://a.example/b/c"),
        ("https://a.example:81/b", "https://a.example:81/b"),
        ("https://captain:pw@a.example/b", "https://a.example/b"),
        ("https://captain@a.example/b", "https://a.example/b"),
        ("https://captain:p@w@a.example/b", "https://a.example/b"),
        ("https://captain:p/w?x#y@a.example/b", "https://a.example/b"),
        ("https://captain:p w@a.example/b", "https://a.example/b"),
        ("https://captain:pw@[::1]:80/b?x=1#y", "https://[::1]:80/b"),
        ("https://[::1]/b", "https://[::1]/b"),
        ("https://a.example/b?sig=1", "https://a.example/b"),
        ("https://a.example/b#token=1", "https://a.example/b"),
        ("https://a.example?x", "https://a.example"),
        ("https://a.example/@scope/b", "https://a.example/@scope/b"),
        ("captain:pw@a.example/b?x", "a.example/b"),
        ("//captain:pw@a.example/b?x", "//a.example/b"),
        ("http:/captain:pw@a.example/b?x", "http:/a.example/b"),
        ("http:\\\\captain:pw@a.example/b?x", "http:\\\\a.example/b"),
        ("://captain:pw@a.example/b?x", "://a.example/b"),
        ("docker://localhost:5000/a@sha256:00", "docker://localhost:5000/a@sha256:00"),
        ("", ""),
    ],
)
def test_a_url_is_redacted(url: str, shown: str) -> None:
    assert RedactedUrl(url) == shown
    assert RedactedUrl(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no URL, just a?b@c: d", "no URL, just a?b@c: d"),
        ("'http://c:pw@a/b?x=1' is not", "'http://a/b' is not"),
        ("see http://c:pw@a/b?x, and https://d@e (https://f/?g).", "see http://a/b, and https://e (https://f/)."),
        ("http://a/b?x: refused\nftp://c:d@e\n", "http://a/b: refused\nftp://e\n"),
        ("http://a,http://c:pw@b/", "http://a,http://b/"),
    ],
)
def test_urls_in_a_text_are_redacted(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("captain:pw@r.example:5000/x:1", "r.example:5000/x:1"),
        ("captain:pw@r.example/x@sha256:00", "r.example/x@sha256:00"),
        ("redis:7@sha256:00", "redis:7@sha256:00"),
        ("Redis", "Redis"),
    ],
)
def test_a_reference_keeps_its_digest(text: str, shown: str) -> None:
    assert redacted_reference(text) == shown


@given(st.text(max_size=60), st.text(alphabet="abc/:@?#[].'", max_size=30))
def test_no_text_keeps_what_stands_before_a_host(before: str, after: str) -> None:
    shown = redacted(f"{before} https://captain:hunter2hunter2@host.example/{after}?t0kent0ken=1")
    assert "hunter2hunter2" not in shown
    assert "t0kent0ken" not in shown


def test_errors_redact_themselves() -> None:
    url = f"https://{USER}a.example/b{QUERY}"
    for error in (InputError(f"{url}: no", f"See {url}."), FileError([Fault("a.yml", 3, f"{url!r} is wrong")])):
        assert is_clean(str(error))
        assert is_clean(repr(error))
        assert "https://a.example/b" in str(error)
    assert is_clean(str(KernelPart(kind="deb", url=url)))


def test_progress_shows_no_secret() -> None:
    """The label of a repository's list of packages is its address."""
    address = "https://user:hunter2@mirror.example.org/os/?sig=hunter3"
    label = DownloadRequest(f"{address}x", "0" * 64, 20_000_000, f"{address} packages").label
    assert label == "https://mirror.example.org/os/ packages"
    stream = io.StringIO()
    screen = PlainScreen(plain_console(stream), Plan(cells=()))
    screen.download(label, 0, 20_000_000)
    screen.note(f"{address}: trying again")
    assert stream.getvalue().startswith("downloading  https://mirror.example.org/os/ packages")
    assert "hunter" not in stream.getvalue()


@pytest.mark.parametrize(
    "address", [f"http://{USER}127.0.0.1:9/debian{QUERY}", f"ftp://{USER}a/b{QUERY}", f"{USER}a/b", f"http://{USER}[x/"]
)
def test_an_archives_address_is_shown_without_its_secrets(
    opened: Opener, store: Store, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []

    class Listener(NullObserver):
        def note(self, text: str) -> None:
            notes.append(text)

    archive = open_archive(store, offline=False, lock=None, address=address, progress=Listener())
    with pytest.raises((InfraError, InputError, BuildError)) as caught:
        archive.kernel("6.12", kernel_source(suites="old"), "amd64")
    assert is_clean(str(caught.value) + "\n".join(notes))


def test_the_command_line_shows_no_secret(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.source.download.PAUSES_S", ())
    address = f"http://{USER}127.0.0.1:9/debian{QUERY}"
    Path("registries.yml").write_text(f"registries: {{r.example: {{mirrors: ['https://{USER}m.example{QUERY}']}}}}\n")
    Path("named.yml").write_text(f"onboot: [{{name: a, image: '{USER}r.example/x:1'}}]\n")
    for words in (
        ("kernels", "--arch", "x86_64", "--archive", address),
        ("kernels", "add", "mine", address),
        ("kernels", "add", "mine", address, "--sha256", "0" * 64),
        ("kernels", "add", "mine", f"ftp://{USER}a/b{QUERY}", "--sha256", "0" * 64),
        ("plan", "hello", "--arch", "x86_64", "--image", f"x=docker://{USER}r.example/x{QUERY}"),
        ("fetch", "hello", "--arch", "x86_64", "--image", f"x=docker://{USER}r.example/x{QUERY}"),
        ("plan", "named.yml", "--arch", "x86_64"),
        ("fetch", "named.yml", "--arch", "x86_64"),
        ("validate", "named.yml"),
        ("build", "hello", "--arch", "x86_64", "--kernel", "6.1", "--format", "kernel+initrd", "--archive", address),
    ):
        done = tool(*words)
        assert done.returncode != 0 or words[1] == "named.yml", words
        assert is_clean(done.stdout + done.stderr), (words, done.stdout + done.stderr)


def small_kernel(folder: Path) -> bytes:
    """Debian's kernel for one board, cut down to what it needs, as an RPM."""
    archive = open_archive(Store(default_cache()), offline=False, lock=None, address=None, progress=NullObserver())
    kernel = archive.kernel("6.1", KernelSource(flavour="cloud-arm64", suites=("bookworm",)), "arm64")
    with open_data(archive.fetch(kernel.packages[0])) as members:
        wanted = {one.path: one.read() for one in of_tar(members) if re.search(r"^boot/|/virtio[^/]*\.ko$", one.path)}
    return kernel_forms.rpm(wanted, folder, lambda data: gzip.compress(data, 1)).read_bytes()


def test_a_run_keeps_no_secret_of_an_images_name(tool: Tool, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yml"
    spec.write_text(f"onboot: [{{name: a, image: 'docker://{USER}registry.example/x/y:z'}}]\n")
    cells = ("--arch", "x86_64", "--kernel", "6.1", "--reports", str(tmp_path / "reports"))
    tool("matrix", str(spec), *cells, "--archive", "http://127.0.0.1:9/")
    kept = [file for file in (tmp_path / "reports").rglob("*") if file.is_file()]
    assert kept
    assert [file for file in kept if not is_clean(file.read_bytes())] == []


@pytest.mark.boots
def test_a_run_keeps_no_secret_of_an_override(tool: Tool, tmp_path: Path) -> None:
    """It would be in the plan, which a run begins with."""
    source = f"busybox=docker://{USER}r.example/x"
    done = tool("matrix", "hello", "--arch", "x86_64", "--reports", str(tmp_path / "reports"), "--image", source)
    assert (done.returncode, "is not a valid name of an image" in done.stderr) == (2, True)
    assert not list(tmp_path.rglob("*.json")) and SECRETS[0] not in done.stdout + done.stderr


def test_a_run_keeps_no_secret_of_any_url(tmp_path: Path) -> None:
    """Archive and kernels are asked for by URLs with secrets; one of these is not to be had."""
    (tmp_path / "rpm").mkdir()
    package, logins = small_kernel(tmp_path / "rpm"), set[bool]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            logins.add(self.headers.get("Authorization", "").startswith("Basic ") and QUERY in self.path)
            found = package if "mine.rpm" in self.path else b""
            self.send_response(200 if found else 403, SECRETS[0])
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with serving(Handler) as host:
        url = f"http://{USER}{host}/mine.rpm{QUERY}"
        said = commands(tmp_path, url, hashlib.sha256(package).hexdigest(), f"http://{USER}{host}/gone.rpm{QUERY}")
    assert logins == {True}
    records = json.loads(next(tmp_path.glob("reports/2*/run.json")).read_text())["records"]
    assert {one["cell"]["kernel"]: one["judgement"]["verdict"] for one in records} == {
        "mine": "pass",
        "gone": "infra-error",
    }
    assert "gone.rpm" in said
    assert "$ signoff: 0" in said, said
    kept = [file for file in tmp_path.rglob("*") if file.is_file() and not file.is_symlink() and file.name != "own.yml"]
    assert len(kept) > 15
    unclean = [file for file in kept if not is_clean(file.read_bytes())]
    assert (unclean, is_clean(said)) == ([], True)


def commands(folder: Path, url: str, sha256: str, gone: str) -> str:
    """Add a kernel, boot it and one that is gone, and have all of it written; what was printed."""
    address = Settings().address.replace("://", f"://{USER}")
    environment = {
        **os.environ,
        "CI": "true",
        "BOOTMATRIX_ARCHIVE": address,
        "GITHUB_STEP_SUMMARY": str(folder / "sum"),
    }
    said = ""

    def run(*words: str, kernels: str = "own.yml") -> None:
        nonlocal said
        done = subprocess.run(
            [sys.executable, "-m", "bootmatrix.cli.main", *words],
            cwd=folder,
            env={**environment, "BOOTMATRIX_KERNELS": kernels},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "Traceback" not in done.stderr
        said += f"$ {words[0]}: {done.returncode}\n{done.stdout}{done.stderr}"

    run("kernels", "add", "mine", url, "--sha256", sha256, "--arch", "aarch64", kernels="kernels.yml")
    text = (folder / "kernels.yml").read_text()
    # What the user writes there stays there, and is used; nothing of it goes anywhere else.
    part = {"kind": "rpm", "url": gone, "sha256": "0" * 64, "size_bytes": 5}
    (folder / "own.yml").write_text(f"{text}  gone: {{aarch64: {{parts: [{json.dumps(part)}]}}}}\n")
    run("matrix", "hello", "--arch", "aarch64", "--kernel", "mine,gone", "--reports", "reports")
    for form in ("md", "json", "csv"):
        run("report", "latest", "--format", form, "--reports", "reports")
    accepted = ("--accept", "*", "--reason", "gone", "--by", "Ann", "--no-pdf")
    run("signoff", "latest", "--release", "r1", *accepted, "--reports", "reports")
    run("lock", "hello", "--arch", "aarch64", "--kernel", "mine")
    return said


def test_a_url_without_its_scheme_is_no_file_and_keeps_its_password(tool: Tool) -> None:
    done = tool("kernels", "add", "mine", f"{USER}example.org/kernel.deb")
    assert done.returncode == 2
    assert done.stderr == "example.org/kernel.deb: no such file or folder\n"

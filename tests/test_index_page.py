"""The page of all runs, and the server that shows it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest

from bootmatrix.cli.main import main
from bootmatrix.errors import InputError
from bootmatrix.fsio import open_below
from bootmatrix.model import Verdict
from bootmatrix.report.index_page import write_index
from bootmatrix.report.writer import write_reports
from bootmatrix.runs.run_store import RunWriter, load_run
from bootmatrix.server import Server
from samples import green_records, make_cell, make_record, mixed_records, write_dated

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    for day in range(1, 4):
        write_dated(folder, day, mixed_records() if day == 3 else green_records())
    for run in folder.glob("2026*"):
        write_reports(load_run(run), run)
    return folder


class Links(HTMLParser):
    """The addresses in a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_tells_trend_and_last_green(reports: Path) -> None:
    page = Links(write_index(reports).read_text())
    text = " ".join(page.words.split())
    assert "Newest: influxdb, 3 Nov 2026, 02:00 UTC: 5 of 11 not as expected, 2 without a verdict" in text
    assert re.search(r"influxdb/aarch64/7.2 panic .* 2 Nov 2026, 02:00 6.9 s fails since 3 Nov 2026, 02:00", text)
    assert text.index("influxdb/aarch64/7.2") < text.index("influxdb/x86_64/6.1 ")
    assert len(re.findall("[12] Nov 2026, 02:00: 8 as expected", text)) == 2


def test_weeks_are_counted_by_architecture(tmp_path: Path) -> None:
    """1 November 2026 was a Sunday."""
    x86, arm = make_cell("x86_64"), make_cell("aarch64")
    write_dated(tmp_path, 1, [make_record(x86), make_record(arm)])
    write_dated(tmp_path, 2, [make_record(x86), make_record(arm, Verdict.FAIL, "it broke")])
    write_dated(tmp_path, 3, [make_record(x86), make_record(arm, Verdict.INFRA_ERROR, "ours")])
    text = write_index(tmp_path).read_text()
    assert "By week, since 26 October 2026" in text
    labels = re.findall(r'role="img" aria-label="(26 Oct [^"]*)"', text)
    weeks = [re.findall(r"(\d) of (\d) passed", label) for label in labels]
    assert weeks == [[("2", "2"), ("2", "3")], [("1", "1"), ("0", "1")], [("1", "1"), ("2", "2")]]
    assert "2 Nov to 8 Nov 2026: 0 of 1 passed" in labels[1]


def test_one_week_is_no_trend(tmp_path: Path) -> None:
    write_dated(tmp_path, 3, green_records())
    write_dated(tmp_path, 4, green_records())
    assert "By week" not in write_index(tmp_path).read_text()


def test_the_input_that_changed_with_the_verdict_is_named(reports: Path) -> None:
    text = " ".join(Links(write_index(reports).read_text()).words.split())
    assert re.search(r"fails since 3 Nov 2026, 02:00, with (unchanged inputs|\w+ \S+: .+ → )", text)


def test_its_links_lead_to_files_and_cells(reports: Path) -> None:
    page = Links(write_index(reports).read_text())
    assert len(page.hrefs) > 20
    for href in page.hrefs:
        path, _, cell = href.partition("#")
        assert not path.startswith(("/", "http"))
        assert (reports / unquote(path)).is_file()
        if cell:
            assert f'id="{unquote(cell)}"' in (reports / unquote(path)).read_text()


def test_a_page_without_runs(tmp_path: Path) -> None:
    assert "No runs yet." in write_index(tmp_path).read_text()


def test_another_page_is_left_alone(tmp_path: Path) -> None:
    """The folder of the runs may be a link of somebody else's checkout."""
    write_index(tmp_path)
    write_index(tmp_path)
    page = tmp_path / "index.html"
    page.write_text("<title>My site</title>")
    with pytest.raises(FileExistsError, match="not bootmatrix's"):
        write_index(tmp_path)
    assert page.read_text() == "<title>My site</title>"
    page.unlink()
    os.mkfifo(page)
    with pytest.raises(OSError, match="not a regular file"):
        write_index(tmp_path)


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    write_dated(tmp_path, 1, [make_record(make_cell("x86_64"), Verdict.FAIL, HOSTILE)])
    run = next(tmp_path.glob("2026*"))
    text = (run / "run.json").read_text().replace('"title": "influxdb"', f'"title": "{HOSTILE}"')
    (run / "run.json").write_text(text)
    page = write_index(tmp_path).read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_report_makes_the_page_anew_but_not_around_a_run_elsewhere(
    reports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next(reports.glob("2026-11-01*"))
    assert main(["report", run.name, "--reports", str(reports)]) == 0
    assert (reports / "index.html").exists()
    copy = tmp_path / "downloads" / run.name
    copy.parent.mkdir()
    run.rename(copy)
    assert main(["report", str(copy), "--reports", str(reports)]) == 0
    assert [path.name for path in copy.parent.iterdir()] == [run.name]


@pytest.fixture
def server(reports: Path) -> Iterator[Server]:
    with Server(reports, 0) as found:
        thread = Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join(60)


Answer = tuple[int, dict[str, str], bytes]


def get(server: Server, path: str, host: str = "", method: str = "GET") -> Answer:
    """One request with just this path: nothing is tidied up on the way."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_address[1]}")
    connection.endheaders()
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, data


def test_pages_are_served(server: Server, reports: Path) -> None:
    assert b"All runs" in get(server, "/")[2]
    name = next(reports.glob("2026-11-01*")).name
    assert get(server, f"/{name}/")[1]["location"] == f"/{name}/report.html"
    status, headers, data = get(server, f"/{name}/report.html")
    assert (status, data) == (200, (reports / name / "report.html").read_bytes())
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert get(server, f"/{name}/run.json")[1]["content-type"].startswith("application/json")
    assert get(server, f"/{name}/report.html", method="HEAD")[2] == b""
    assert get(server, "/latest/live")[0] in {302, 404}


def test_a_link_that_comes_during_a_request_is_not_followed(
    server: Server, reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer in a run could read any file of the user's by such a swap."""
    (tmp_path / "secret").write_text("secret")
    name = next(reports.glob("2026-11-01*")).name
    page = reports / name / "report.html"
    resolve = Path.resolve

    def swapped(path: Path, strict: bool = False) -> Path:
        found = resolve(path, strict)
        if path == page:
            page.unlink()
            page.symlink_to(tmp_path / "secret")
        return found

    monkeypatch.setattr(Path, "resolve", swapped)
    assert b"secret" not in get(server, f"/{name}/report.html")[2]


@pytest.mark.parametrize("link", ["a", "a/b", "a/b/file"])
def test_no_part_of_a_path_below_a_folder_is_a_link(tmp_path: Path, link: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        (folder / "a/b").mkdir(parents=True)
        (folder / "a/b/file").write_text(folder.name)
    with open_below(inside, ["a", "b", "file"]) as file:
        assert file.read() == b"inside"
    (inside / link).rename(tmp_path / "moved")
    (inside / link).symlink_to(outside / link)
    with pytest.raises(OSError, match="link"):
        open_below(inside, ["a", "b", "file"])


def test_behind_a_proxy_below_a_path(reports: Path) -> None:
    with Server(reports, 0, "https://ci.example.org/results/") as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        name = next(reports.glob("2026-11-01*")).name
        for path in (f"/results/{name}/", f"/{name}/"):
            status, headers, _data = get(server, path, "ci.example.org")
            assert (status, headers["location"]) == (302, f"/results/{name}/report.html")
        page = f"/results/{name}/report.html"
        assert get(server, page, "CI.example.org:443")[2] == (reports / name / "report.html").read_bytes()
        assert b"All runs" in get(server, "/results/", "ci.example.org")[2]
        assert get(server, page, "elsewhere.example.org")[0] == 421
        assert get(server, "/results/../secret", "ci.example.org")[0] == 404
        server.shutdown()
        thread.join(60)


@pytest.mark.parametrize(
    "address", ["ci.example.org", "ftp://x/", "https://", "https://x:y/", "https://u:p@x/", "http://x/?q"]
)
def test_a_base_url_is_an_address(reports: Path, address: str) -> None:
    with pytest.raises(InputError, match="invalid address"):
        Server(reports, 0, address)


def test_fifty_readers_at_once(server: Server, reports: Path) -> None:
    page = f"/{next(reports.glob('2026-11-01*')).name}/report.html"
    with ThreadPoolExecutor(50) as pool:
        statuses = pool.map(lambda number: get(server, page if number % 2 else "/")[0], range(200))
    assert set(statuses) == {200}


def test_what_a_guest_left_is_plain_text_in_a_sandbox(server: Server, reports: Path) -> None:
    run = next(reports.glob("2026-11-01*"))
    left = run / "cells" / "influxdb" / "x86_64" / "pc" / "6.1" / "files" / "0-evil.html"
    left.parent.mkdir()
    left.write_text(HOSTILE)
    status, headers, data = get(server, f"/{left.relative_to(reports)}")
    assert (status, data.decode()) == (200, HOSTILE)
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["x-content-type-options"] == "nosniff"
    junit = get(server, f"/{run.name}/junit.xml")[1]
    assert "sandbox" in junit["content-security-policy"]


def test_nothing_outside_of_runs_is_served(server: Server, reports: Path) -> None:
    (reports.parent / "secret").write_text("secret")
    (reports / "mine.txt").write_text("secret")
    (reports / "folder").mkdir()
    (reports / "folder" / "mine.txt").write_text("secret")
    run = next(reports.glob("2026-11-01*"))
    (run / "link").symlink_to(reports.parent / "secret")
    (run / "up").symlink_to(reports.parent)
    (run / ".hidden").write_text("secret")
    (reports / "linked").symlink_to(run)
    assert (reports / "linked").is_dir()
    paths = [
        *("/../secret", "/%2e%2e/secret", f"/{run.name}/../../secret", f"/{run.name}/%2e%2e/%2e%2e/secret"),
        *(f"/{run.name}/..%2f..%2fsecret", f"/{run.name}//{reports.parent}/secret", f"//{reports.parent}/secret"),
        *(f"/{run.name}/link", f"/{run.name}/up/secret", f"/{run.name}/.hidden", "/mine.txt", "/folder/mine.txt"),
        *("/.index.sqlite", f"/{run.name}/%00", f"/{run.name}/cells", f"/{run.name}/cells/", "/linked/run.json", "*"),
        *(f"/{run.name}/..%5c..%5csecret", "/..", "/.", f"/{run.name}/cells/..", f"/{run.name}/{'x' * 5000}"),
    ]
    for path in paths:
        status, _, data = get(server, path)
        assert status in {404, 400}, path
        assert b"secret" not in data, path


def test_only_names_of_loopback_are_answered(server: Server) -> None:
    assert get(server, "/", host="evil.example")[0] == 421
    assert get(server, "/", host="127.0.0.1.evil.example:80")[0] == 421
    assert get(server, "/", host="localhost:1")[0] == 200
    assert get(server, "/", host="localhost")[0] == 200
    assert get(server, "/", method="POST")[0] == 501
    assert server.server_address[0] == "127.0.0.1"


def test_a_run_is_followed_as_it_grows(server: Server, reports: Path) -> None:
    writer = RunWriter.create(reports, "going")
    name = writer.path.name
    assert get(server, "/latest/")[1]["location"] == f"/{name}/"
    assert get(server, f"/{name}/")[1]["location"] == f"/{name}/live"
    assert b"Follows a run" in get(server, f"/{name}/live")[2]

    def state() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(get(server, f"/{name}/live.json")[2])
        return found

    assert (state()["ended"], state()["cells"], state()["under_way"]) == (False, [], [])
    record = make_record(make_cell("x86_64"), Verdict.FAIL, "broken\x1b[2J")
    folder = writer.folder(record.cell)
    one = {"id": "influxdb/x86_64/pc/6.1", "last": "", "quiet_s": 0}
    assert state()["under_way"] == [one]
    (folder / "console.log").write_bytes(b"x" * 9000 + b"\n<b>Starting</b>\x1b[2J\xff\n\n \n")
    os.utime(folder / "console.log", (0, time.time() - 25))
    [seen] = state()["under_way"]
    assert seen["last"] == "<b>Starting</b>\N{REPLACEMENT CHARACTER}"
    assert 25 <= seen["quiet_s"] < 60
    moved = folder.rename(reports.parent / "elsewhere")
    folder.symlink_to(moved)  # nothing is read through it
    assert state()["under_way"] == []
    folder.unlink()
    moved.rename(folder)
    writer.add(record)
    assert state()["cells"] == [
        {"id": "influxdb/x86_64/6.1", "verdict": "fail", "standing": "bad", "seconds": 4.1, "reason": "broken"}
    ]
    write_reports(writer.finish(), writer.path)
    assert (state()["ended"], state()["report"], state()["under_way"]) == (True, True, [])


def test_the_command_serves_until_it_is_interrupted(reports: Path) -> None:
    heeds_interrupts = ("env", "--default-signal=INT")  # a shell's background jobs, and what they start, ignore them
    child = subprocess.Popen(
        [
            *heeds_interrupts,
            sys.executable,
            "-m",
            "bootmatrix.cli.main",
            "serve",
            "--port",
            "0",
            "--reports",
            str(reports),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        port = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert port, line
        connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=20)
        connection.request("GET", "/")
        assert b"All runs" in connection.getresponse().read()
        connection.close()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
        assert (child.returncode, out, err) == (130, "", "bootmatrix: interrupted\n")
    finally:
        child.kill()
        child.wait(60)


def test_bad_ports_and_folders_are_told(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--reports", str(tmp_path / "none")]) == 2
    port = str(server.server_address[1])
    assert main(["serve", "--reports", str(tmp_path), "--port", port]) == 2
    assert f"cannot use port {port}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--reports", str(tmp_path), "--port", "99999"])
    assert "must be a number from 0 to 65535" in capsys.readouterr().err

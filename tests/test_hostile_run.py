"""A hostile guest through the whole tool: what it says harms no browser, no terminal and no spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from bootmatrix.report.index_page import write_index
from bootmatrix.server import Server
from browsers import open_all, overflow, show
from stage import Stage, set_up

pytest_plugins = ("browser_fixtures",)

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]")
"""What a terminal may do something about."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, str]]:
    """A run of such a guest, accepted all the same, and what it printed."""
    stage = set_up(tmp_path_factory.mktemp("hostile"), ("sound", "hostile"))
    done = stage.run("matrix", stage.matrix("sound", "hostile"))
    assert done.returncode == 1, done.stdout + done.stderr
    accepted = stage.run(
        *("signoff", "latest", "--release", "x", "--no-pdf", "--accept", "fake/fake/hostile/6.1"),
        *("--reason", "it is hostile", "--by", "tests"),
    )
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    write_index(stage.reports)
    yield stage, done.stdout + done.stderr + accepted.stdout


def check_harmless(browser: Chrome) -> None:
    open_all(browser)
    browser.execute_script(
        "for (const one of document.querySelectorAll('*')) one.dispatchEvent(new Event('mouseover'))"
    )
    assert not browser.execute_script("return Boolean(window.owned) || document.title.startsWith('owned')")
    assert not browser.execute_script("return document.querySelectorAll('img,iframe,[onfocus],[onmouseover]').length")
    assert browser.execute_script("return [...document.links].every(a => /^(file|http):$/.test(a.protocol))")
    assert overflow(browser) == 0


@pytest.mark.parametrize(
    "name",
    ["report.html", "cells/fake/fake/hostile/6.1/cell.html", "../index.html", "signoff/x/signoff.html"],
)
def test_no_page_runs_what_a_guest_says(browser: Chrome, run: tuple[Stage, str], name: str) -> None:
    show(browser, (run[0].latest.resolve() / name).resolve())
    check_harmless(browser)
    text = browser.find_element(By.TAG_NAME, "body").text
    assert "check ping exited with status 7" in text or "hostile" in text


def test_the_page_of_a_hostile_cell_stays_usable(browser: Chrome, run: tuple[Stage, str]) -> None:
    show(browser, run[0].latest.resolve() / "cells/fake/fake/hostile/6.1/cell.html")
    open_all(browser)
    shown = browser.find_element(By.CSS_SELECTOR, ".console").text
    assert "<img src=x onerror=" in shown
    assert "red" in shown
    assert "more bytes" in shown, "a line of a megabyte is cut"
    assert not CONTROLS.search(shown.replace("\n", ""))
    show(browser, run[0].latest.resolve() / "report.html")
    browser.find_element(By.CSS_SELECTOR, "input").send_keys("sound")
    assert "hostile" not in browser.find_element(By.TAG_NAME, "table").text


FOREIGN_PAGE = """<!doctype html><title>a page of a run from elsewhere</title><script>
const tell = (word) => {
  document.body.insertAdjacentHTML("beforeend", `<p id=done>${self.origin} ${word}</p>`);
};
const read = () => fetch("/").then((answer) => answer.text());
addEventListener("load", () => read().then(() => tell("read"), () => tell("refused")));
</script>"""


def test_pages_of_the_server_run_nothing_either(browser: Chrome, run: tuple[Stage, str]) -> None:
    stage, _ = run
    planted = stage.latest.resolve() / "planted.html"
    with Server(stage.reports, 0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            browser.execute_cdp_cmd("Network.enable", {})
            conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
            browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
            address = f"http://127.0.0.1:{server.server_address[1]}"
            for page in ("/", f"/{stage.latest.resolve().name}/live", "/latest/report.html"):
                browser.get(address + page)
                browser.implicitly_wait(20)
                browser.find_element(By.CSS_SELECTOR, "td")
                check_harmless(browser)
            # The report's own script goes on under the policy that the server adds.
            browser.find_element(By.CSS_SELECTOR, "input").send_keys("sound")
            assert "hostile" not in browser.find_element(By.TAG_NAME, "table").text
            planted.write_text(FOREIGN_PAGE, encoding="utf-8")
            browser.get(f"{address}/latest/{planted.name}")
            assert browser.find_element(By.CSS_SELECTOR, "#done").text == "null refused"
        finally:
            planted.unlink(missing_ok=True)
            browser.implicitly_wait(0)
            server.shutdown()
            thread.join(60)


def test_no_terminal_and_no_text_gets_control_characters(run: tuple[Stage, str]) -> None:
    stage, printed = run
    commands = [("judge", "latest"), ("history", "fake/fake/hostile/6.1"), ("runs",), ("compare", "latest", "latest")]
    commands += [
        ("report", "latest", "--format", form) for form in ("csv", "junit", "md", "tap", "json", "openmetrics")
    ]
    texts = {"matrix": printed, **{" ".join(words): stage.run(*words).stdout for words in commands}}
    assert "exited with status 7" in texts["judge latest"]
    assert {name: found[0] for name, text in texts.items() if (found := CONTROLS.search(text))} == {}


def test_no_field_of_the_table_is_a_formula(run: tuple[Stage, str]) -> None:
    rows = list(csv.reader(io.StringIO(run[0].run("report", "latest", "--format", "csv").stdout)))
    assert len(rows) == 3
    assert [field for row in rows for field in row if field.startswith(("=", "+", "-", "@"))] == []


def test_a_file_of_a_guest_stays_in_its_folder(run: tuple[Stage, str]) -> None:
    cell = run[0].latest.resolve() / "cells/fake/fake/hostile/6.1"
    (saved,) = run[0].record("hostile")["files"]
    assert (cell / saved["file"]).resolve().parent == cell / "files"
    assert Path(saved["file"]).name.isascii()


def test_messages_quote_a_hostile_spec_without_harm(run: tuple[Stage, str]) -> None:
    stage, _ = run
    (stage.folder / "bad.yml").write_text(
        'onboot: [{name: "\\e]0;owned\\a\\e[2J\\u202e", image: x}]\n"\\e[31mkey": 1\n'
    )
    for command in (
        ("validate", "bad.yml"),
        ("plan", "bad.yml", "--arch", "fake"),
        ("run", "bad.yml", "--arch", "fake"),
    ):
        done = stage.run(*command)
        assert (done.returncode, CONTROLS.findall(done.stdout + done.stderr)) == (2, []), command
        assert "bad.yml" in done.stderr

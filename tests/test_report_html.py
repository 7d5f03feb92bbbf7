"""The report in a real browser: harmless whatever a guest says, and readable on a small screen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from bootmatrix.model import Evidence, PhaseTime, Record, Run, SubResult, Verdict
from bootmatrix.report import write_reports
from bootmatrix.runs import load_run
from samples import make_cell, make_record, mixed_records, write_run

# Quiet and alone: no update, no account, no start page, a folder of its own; as root it has no sandbox.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    assert program and driver, "these tests need a browser: apt-get install chromium chromium-driver"
    options = ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this host, and the paths that it was asked for."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def attacks(address: str) -> str:
    """Markup by which a guest would run a script or reach the network."""
    return (
        "</script></style></title></textarea></pre><script>document.title='owned';window.owned=1</script>"
        f"<img src={address}/img onerror=\"document.title='owned';window.owned=1\">"
        f"<link rel=stylesheet href={address}/css><iframe src={address}/frame></iframe>"
        f"<style>body{{background:url({address}/url)}}</style>"
        f"<meta http-equiv=refresh content='0;url={address}/refresh'>"
        "\" onmouseover=\"window.owned=1\" ' autofocus onfocus='window.owned=1' <a href=javascript:window.owned=1>x</a>"
        "{{ 7*7 }}{% include 'x' %} \x1b[31mred\x1b]8;;javascript:window.owned=1\x07link\x00\x85\u202e\ufffe"
    )


def hostile_records(text: str) -> list[Record]:
    """Records in which everything that a guest or a package can name is hostile."""
    records = []
    for arch, kernel, verdict in (("x86_64", "6.1", Verdict.FAIL), ("armv7", "6.1", Verdict.PASS)):
        cell = make_cell(arch, kernel, expect=text if verdict is Verdict.PASS else "").model_copy(update={"spec": text})
        record = make_record(
            cell,
            verdict,
            text,
            evidence=(Evidence(source=text, text=text, line=1),),
            subresults=(SubResult(name=text, verdict=verdict, detail=text),),
            advice=text,
            expected=False,
        )
        update: dict[str, Any] = {
            "command": ("qemu", "-append", text),
            "cmdline": text,
            "qemu_version": text,
            "notes": (text,),
            "artefacts": tuple(one.model_copy(update={"name": text}) for one in record.artefacts),
            "phases": (PhaseTime(name=text, seconds=1.0),),
        }
        records.append(record.model_copy(update=update))
    records.append(make_record(make_cell("aarch64"), Verdict.SKIP, text))
    records.append(make_record(make_cell("ppc64le"), Verdict.INFRA_ERROR, "A" * 5000, advice="B" * 5000))
    return records


def write_hostile(tmp_path: Path, text: str) -> Path:
    run, folder = write_run(tmp_path, hostile_records(text), title="hostile")
    for file in folder.rglob("console.log"):
        file.write_bytes((text + "\n" + "C" * 5000 + "\n").encode() + b"\xff\xfe\n")
    update = {"title": text, "unfinished": (text,), "interrupted": True, "host": {"kernel": text, "cpu": text}}
    write_reports(Run.model_validate(run.model_copy(update=update)), folder)
    return folder / "report.html"


def show(browser: Chrome, page: Path, width: int = 1280, fragment: str = "") -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get("about:blank")
    browser.get(page.as_uri() + fragment)


def open_all(browser: Chrome) -> None:
    browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")


def was_owned(browser: Chrome) -> bool:
    return bool(browser.execute_script("return Boolean(window.owned) || document.title.startsWith('owned')"))


def overflow(browser: Chrome) -> int:
    """Pixels by which the page is wider than the window."""
    return int(
        browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    )


def test_no_script_of_a_guest_runs_and_nothing_is_asked_of_the_network(
    browser: Chrome, requests: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, seen = requests
    page = write_hostile(tmp_path, attacks(address))
    show(browser, page)
    open_all(browser)
    browser.execute_script(
        "for (const one of document.querySelectorAll('*')) one.dispatchEvent(new Event('mouseover'))"
    )
    assert not was_owned(browser)
    assert seen == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return document.querySelectorAll('script').length") == 1
    assert (
        browser.execute_script("return document.querySelectorAll('img,iframe,link,[onfocus],[onmouseover]').length")
        == 0
    )
    assert browser.execute_script("return [...document.links].every(a => a.protocol === 'file:')")
    assert "{{ 7*7 }}" in browser.find_element(By.TAG_NAME, "h1").text


def test_the_check_sees_a_page_that_does_not_escape(
    browser: Chrome, requests: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, seen = requests
    page = tmp_path / "page.html"
    page.write_text(f"<title>x</title><p>{attacks(address).replace('refresh', 'none')}</p>", encoding="utf-8")
    show(browser, page)
    assert was_owned(browser)
    assert "/img" in seen


def test_the_policy_holds_even_where_escaping_would_fail(
    browser: Chrome, requests: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, seen = requests
    run, folder = write_run(tmp_path, mixed_records())
    write_reports(run, folder)
    page = folder / "report.html"
    broken = page.read_text().replace("</main>", attacks(address).replace("refresh", "none") + "</main>")
    page.write_text(broken)
    show(browser, page)
    assert not was_owned(browser)
    assert seen == []


def test_our_own_style_and_script_are_let_through(browser: Chrome, tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, mixed_records())
    write_reports(run, folder)
    browser.get_log("browser")  # type: ignore[no-untyped-call]
    show(browser, folder / "report.html")
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
    assert browser.find_element(By.ID, "filter").is_displayed()
    assert browser.execute_script("return getComputedStyle(document.querySelector('.bar-nav')).position") == "sticky"


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_never_scrolls_sideways(browser: Chrome, tmp_path: Path, width: int) -> None:
    page = write_hostile(tmp_path, attacks("http://127.0.0.1:9") + "D" * 3000)
    show(browser, page, width)
    open_all(browser)
    assert overflow(browser) == 0
    browser.execute_script("document.querySelector('main').append('x'.repeat(500))")
    browser.execute_script("document.querySelector('main').style.overflowWrap = 'normal'")
    assert overflow(browser) > 0, "the check sees what is too wide"


def test_the_filter_leaves_the_cells_that_match(browser: Chrome, tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, mixed_records())
    write_reports(run, folder)
    show(browser, folder / "report.html")

    def shown() -> set[str]:
        cells = browser.find_elements(By.CSS_SELECTOR, "details.cell")
        return {cell.find_element(By.TAG_NAME, "h3").text for cell in cells if cell.is_displayed()}

    assert len(shown()) == 14
    Select(browser.find_element(By.NAME, "verdict")).select_by_visible_text("hang")
    assert shown() == {"influxdb/armv7/7.2"}
    Select(browser.find_element(By.NAME, "verdict")).select_by_visible_text("not as expected")
    assert len(shown()) == 7
    Select(browser.find_element(By.NAME, "target")).select_by_visible_text("x86_64")
    assert shown() == {"influxdb/x86_64/6.12", "influxdb/x86_64/7.2"}
    browser.execute_script("location.hash = '#influxdb/armv7/6.1'")
    assert len(shown()) == 14, "a link to a hidden cell shows it"


@pytest.mark.parametrize("script", [True, False])
def test_a_link_of_the_grid_opens_its_cell_by_the_keyboard(browser: Chrome, tmp_path: Path, script: bool) -> None:
    run, folder = write_run(tmp_path, mixed_records())
    write_reports(run, folder)
    page = folder / "report.html"
    if not script:
        page.write_text(re.sub("<script>.*</script>", "", page.read_text(), flags=re.DOTALL))
    show(browser, page)
    tile = browser.find_element(By.CSS_SELECTOR, "a.tile[href='#influxdb/aarch64/6.1']")
    tile.send_keys(Keys.ENTER)
    body = browser.find_element(By.ID, "influxdb/aarch64/6.1")
    assert body.is_displayed()
    assert "all checks passed" in body.text


def test_evidence_leads_to_its_line_of_the_console(browser: Chrome, tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, mixed_records())
    write_reports(run, folder)
    show(browser, folder / "report.html", fragment="#influxdb/aarch64/7.2:L7")
    mark = browser.find_element(By.ID, "influxdb/aarch64/7.2:L7")
    assert mark.is_displayed()
    assert "Kernel panic - not syncing" in mark.text


def test_every_verdict_is_told_in_words_and_by_a_symbol(browser: Chrome, tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, mixed_records())
    write_reports(run, folder)
    show(browser, folder / "report.html")
    tiles = browser.find_elements(By.CSS_SELECTOR, ".tile")
    assert {tile.find_element(By.CSS_SELECTOR, ".word").text for tile in tiles} == {
        verdict.value for verdict in Verdict
    }
    for tile in tiles:
        symbol = tile.find_element(By.TAG_NAME, "use").get_attribute("href")
        assert symbol
        assert browser.find_elements(By.CSS_SELECTOR, symbol)


def test_a_report_of_nothing_is_a_report(browser: Chrome, tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, [], interrupted=True)
    write_reports(run, folder)
    assert load_run(folder) == run
    show(browser, folder / "report.html")
    text = browser.find_element(By.TAG_NAME, "body").text
    assert "No cell was run, and interrupted" in text
    assert "No cell has a record." in text

"""The page of all runs, and the one that follows a run live, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from bootmatrix.cli.main import main
from bootmatrix.history.index import ask
from bootmatrix.model import Plan, RunRequest, Verdict
from bootmatrix.report import index_page
from bootmatrix.report.index_page import write_index
from bootmatrix.report.writer import write_reports
from bootmatrix.runs.run_store import RunWriter, load_run
from bootmatrix.server import Server
from browsers import complaints, media, overflow, serious_faults, show
from samples import green_records, make_cell, make_record, mixed_records, write_dated
from test_product import shipped

pytest_plugins = ("browser_fixtures",)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    for day in range(1, 5):
        write_dated(folder, day, mixed_records() if day == 4 else green_records())
    for run in folder.glob("2026*"):
        write_reports(load_run(run), run)
    write_index(folder)
    signoff = ("signoff", "2026-11-03T02-00-00Z-influxdb", "--release", "r1", "--no-pdf", "--reports", str(folder))
    assert main(signoff) == 0
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, 0) as found:
        thread = Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join(60)


def open_address(browser: Chrome, address: str) -> None:
    browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    browser.get(address)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("page", ["index.html", "*/signoff/r1/signoff.html"])
def test_nothing_bars_people_from_reading_a_page(
    browser: Chrome, reports: Path, page: str, width: int, scheme: str
) -> None:
    complaints(browser)
    media(browser, scheme=scheme)
    show(browser, next(reports.glob(page)), width)
    assert complaints(browser) == []
    assert serious_faults(browser) == []
    assert overflow(browser) == 0
    media(browser)


def test_a_product_of_a_long_name_fits_a_phone(browser: Chrome, tmp_path: Path) -> None:
    run = write_dated(tmp_path, 1, shipped("1.8", "registry.example.org/team/products/shop:nightly"))
    assert main(("signoff", run, "--release", "r1", "--no-pdf", "--reports", str(tmp_path))) == 0
    show(browser, tmp_path / run / "signoff/r1/signoff.html", 390)
    hidden = "const table = document.querySelector('.tested'); return table.scrollWidth - table.clientWidth"
    assert browser.execute_script(hidden) <= 0


def test_the_page_of_all_runs_is_bounded(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_page, "SHOWN_CELLS", 3)
    page = ask(reports, lambda rows: index_page.view_index(rows, reports, {}))
    (title,) = page.titles
    assert len(title.cells) == 3 and title.more == len(mixed_records()) - 1 - 3, "one was skipped"
    assert title.cells[0][0].past[-1].standing == "bad", "the failing ones first"


def test_it_leads_to_a_cell_in_the_run_in_which_it_last_passed(browser: Chrome, reports: Path) -> None:
    show(browser, reports / "index.html")
    assert browser.find_element(By.CSS_SELECTOR, ".headline").text.startswith("Newest: influxdb, 4 Nov 2026, 02:00 UTC")
    row = browser.find_element(By.XPATH, "//tr[th[normalize-space()='influxdb/aarch64/7.2']]")
    marks = row.find_elements(By.CSS_SELECTOR, ".marks a")
    assert [mark.get_attribute("class") for mark in marks] == ["v-pass s-good"] * 3 + ["v-panic s-bad"]
    assert marks[-1].size["height"] > marks[0].size["height"], "not by colour alone"
    row.find_element(By.LINK_TEXT, "3 Nov 2026, 02:00").click()
    assert "/2026-11-03T02-00-00Z-influxdb/report.html#influxdb/aarch64/7.2" in browser.current_url
    assert browser.find_element(By.ID, "influxdb/aarch64/7.2").is_displayed()


def test_a_run_is_followed_live_to_its_report(browser: Chrome, server: Server) -> None:
    cells = tuple(make_cell(arch) for arch in ("x86_64", "aarch64", "ppc64le"))
    writer = RunWriter.create(server.reports, "live", order=RunRequest(plan=Plan(cells=cells)))
    complaints(browser)
    open_address(browser, f"{server.url}{writer.path.name}/")

    def says(words: str) -> None:
        headline = (By.ID, "headline")
        WebDriverWait(browser, 30).until(lambda seen: words in seen.find_element(*headline).text, words)

    says("0 of 3 cells done, 0 not as expected; 0 running")
    (writer.folder(cells[0]) / "console.log").write_bytes(b"<i>Starting</i>\x1b[2J\n")
    says("1 running")
    assert "<i>Starting</i>" in browser.find_element(By.ID, "under").text
    writer.add(make_record(cells[0]))
    writer.add(make_record(cells[1], Verdict.FAIL, "<b>broken</b>\x1b[2J"))
    says("2 of 3 cells done, 1 not as expected")
    assert browser.title.startswith("2/3 · live")
    assert browser.find_element(By.ID, "progress").get_attribute("value") == "2"
    first = browser.execute_script("return document.querySelector('#done tr').innerText")  # it is replaced now and then
    assert "aarch64" in first, "what is wrong comes first"
    assert "<b>broken</b>" in first
    assert serious_faults(browser) == []
    writer.add(make_record(cells[2]))
    write_reports(writer.finish(), writer.path)
    says("3 of 3 cells done, 1 not as expected; finished")
    WebDriverWait(browser, 30).until(lambda seen: seen.find_elements(By.ID, "report"))
    assert complaints(browser) == []
    browser.find_element(By.ID, "report").click()
    assert browser.find_element(By.TAG_NAME, "h1").text.startswith("2 of 3 cells as expected")

"""The report in a real browser, from disk and without a network: what is said, shown, filtered, linked and printed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from bootmatrix.history.values import (
    CellChange,
    CellHistory,
    CellKey,
    ChangeKind,
    Comparison,
    Past,
    PastVerdict,
    Standing,
)
from bootmatrix.model import Diagnostic, Record, Run, SubResult, Traits, Verdict
from bootmatrix.report.writer import write_reports
from bootmatrix.runs.run_store import load_run
from bootmatrix.signoff.page import print_pdf
from browsers import complaints, media, open_all, overflow, serious_faults, show
from samples import green_records, make_cell, make_record, mixed_records, write_run

pytest_plugins = ("browser_fixtures",)

REGRESSED = "influxdb/aarch64/7.2"
PANIC_PAGE = "cells/influxdb/aarch64/virt/7.2/cell.html"


def with_traits(record: Record) -> Record:
    """The record as a plan makes it."""
    page_kib = 64 if record.cell.kernel.endswith("64k") else 4
    traits = Traits(
        bits=32 if record.cell.arch == "armv7" else 64,
        endian="little",
        page_kib=page_kib,
        kernel_version=record.cell.kernel.removesuffix("-64k"),
    )
    return record.model_copy(update={"cell": record.cell.model_copy(update={"traits": traits})})


def records() -> list[Record]:
    """One of everything, and a spec that only fails with large pages."""
    large = [
        make_record(make_cell("ppc64le", kernel, spec="pages"), verdict, "bad page size")
        for kernel, verdict in (("6.12-64k", Verdict.FAIL), ("7.2-64k", Verdict.FAIL), ("7.2", Verdict.PASS))
    ]
    return [with_traits(record) for record in (*mixed_records(), *large)]


def past_of(run: Run) -> Past:
    """Ten nights, in the last three of which one cell failed."""
    changes, histories = [], {}
    for record in run.records:
        cell, regressed = record.cell, record.cell.id == REGRESSED
        key = CellKey(cell.spec_name, cell.arch, cell.machine, cell.kernel, "cold")
        nights = tuple(
            PastVerdict(
                f"run-{days}",
                (datetime.fromisoformat(run.started_at) - timedelta(days=days)).isoformat(),
                "panic" if regressed and days < 3 else "pass",
                Standing.BAD if regressed and days < 3 else Standing.GOOD,
                4.0 + days / 10,
            )
            for days in range(9, -1, -1)
        )
        since = nights[7] if regressed else None
        histories[cell.id] = CellHistory(cell.id, key, nights, failing_since=since, last_green=nights[6])
        kind = ChangeKind.NEW_FAILURE if regressed else ChangeKind.UNCHANGED
        changes.append(
            CellChange(
                cell.id, "cold", kind, "pass", record.verdict, regressed, since=since.started_at if since else ""
            )
        )
    gone = CellChange("influxdb/riscv64/6.1", "cold", ChangeKind.GONE_CELL, "pass", "")
    return Past(Comparison(run.name, "the-baseline", run.started_at, (*changes, gone)), histories)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its reports."""
    run, folder = write_run(tmp_path_factory.mktemp("reports"), records())
    write_reports(run, folder, past_of(run))
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> Path:
    """Its report."""
    return folder / "report.html"


def text(browser: Chrome, selector: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def shown(browser: Chrome, selector: str = "details.cell") -> set[str]:
    """Cells that are to be seen."""
    return {
        str(one.get_attribute("data-cell"))
        for one in browser.find_elements(By.CSS_SELECTOR, selector)
        if one.is_displayed() and "dim" not in str(one.get_attribute("class"))
    }


def press(browser: Chrome, *keys: str) -> None:
    """Press keys, whatever has the focus."""
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def focused(browser: Chrome) -> str | None:
    return browser.switch_to.active_element.get_attribute("data-cell")


def without_script(page: Path, folder: Path) -> Path:
    """The same page for a browser that runs no script."""
    plain = page.with_name("plain.html")
    plain.write_text(re.sub("<script>.*</script>", "", page.read_text(), flags=re.DOTALL))
    return plain


def test_it_opens_on_an_answer_and_what_got_worse_comes_first(browser: Chrome, report: Path) -> None:
    complaints(browser)
    show(browser, report)
    assert complaints(browser) == []
    assert text(browser, "h1").startswith("7 of 16 cells as expected; 1 regression on aarch64/7.2 since ")
    assert text(browser, "h1").endswith("1 not run")
    first = browser.find_element(By.CSS_SELECTOR, ".card")
    assert first.get_attribute("data-cells") == REGRESSED
    assert "regression since" in first.text
    assert first.find_elements(By.CSS_SELECTOR, ".spark path[class='v-panic']")
    assert "influxdb/riscv64/6.1 (pass)" in text(browser, "#grid")


def test_siblings_are_told_in_words(browser: Chrome, report: Path) -> None:
    show(browser, report)
    card = browser.find_element(By.CSS_SELECTOR, ".card[data-cells*='pages/']")
    assert card.get_attribute("data-cells") == "pages/ppc64le/6.12-64k pages/ppc64le/7.2-64k"
    assert "Only 64k pages: all 2 such cells fail, the other one passes." in card.text


def test_a_large_run_leads_to_the_page_of_each_cell(browser: Chrome, tmp_path: Path) -> None:
    large = [
        make_record(make_cell("x86_64", f"{major}.{minor}", spec=f"s{spec}"))
        for spec in range(3)
        for major in range(7)
        for minor in range(10)
    ]
    run, folder = write_run(tmp_path, [*large, *records()])
    write_reports(run, folder, past_of(run))
    complaints(browser)
    show(browser, folder / "report.html")
    assert not browser.find_elements(By.CSS_SELECTOR, "details.cell")
    pages = {str(tile.get_attribute("href")) for tile in browser.find_elements(By.CSS_SELECTOR, ".tile")}
    assert sum(page.endswith("/cell.html") for page in pages) == len(large) + 16
    browser.find_element(By.NAME, "q").send_keys("s1/ 3.7")
    assert browser.find_element(By.ID, "count").text == "1 of 227"
    assert browser.find_element(By.ID, "s1/x86_64/3.7").is_displayed()
    press(browser, Keys.ESCAPE)
    show(browser, folder / "report.html", fragment="#s2/x86_64/6.9")
    assert browser.find_element(By.CSS_SELECTOR, ".tile:target").is_displayed()
    browser.find_element(By.CSS_SELECTOR, ".tile:target").send_keys(Keys.ENTER)
    assert text(browser, "h1") == "s2/x86_64/6.9"
    assert "Power down" in text(browser, ".console")
    assert complaints(browser) == []


def test_a_hundred_cells_are_less_than_a_megabyte(tmp_path: Path) -> None:
    many = [SubResult(name=f"CONFIG_OPTION_{number} is built in", verdict=Verdict.PASS) for number in range(100)]
    run, folder = write_run(
        tmp_path,
        [
            make_record(make_cell("x86_64", f"{major}.{minor}"), subresults=many)
            for major in range(10)
            for minor in range(10)
        ],
    )
    for console in folder.rglob("console.log"):
        console.write_text("a line as a kernel prints it, of some length\n" * 400)
    write_reports(run, folder, past_of(run))
    assert (folder / "report.html").stat().st_size < 1_000_000


def test_on_a_narrow_screen_the_grid_scrolls_and_no_tile_covers_another(browser: Chrome, report: Path) -> None:
    show(browser, report, 400)
    boxes = [tile.rect for tile in browser.find_elements(By.CSS_SELECTOR, ".tile")]
    inner = browser.execute_script(
        "return [...document.querySelectorAll('.tile')].filter(one => one.scrollWidth > one.clientWidth + 1).length"
    )
    assert inner == 0, "what a tile says stays within it"
    for one in boxes:
        for other in boxes:
            apart = one["x"] + one["width"] <= other["x"] or one["y"] + one["height"] <= other["y"]
            assert (
                one == other
                or apart
                or other["x"] + other["width"] <= one["x"]
                or (other["y"] + other["height"] <= one["y"])
            )


def test_weaker_evidence_and_what_was_kept_of_a_stuck_guest_are_marked(browser: Chrome, tmp_path: Path) -> None:
    weak = make_record(make_cell("x86_64"))
    weak = weak.model_copy(update={"judgement": weak.judgement.model_copy(update={"is_weak": True})})
    stuck = make_record(make_cell("aarch64"), Verdict.HANG, "no sign of life")
    assert stuck.outcome
    kept = Diagnostic(kind="registers", file="diagnostics/registers.txt", size_bytes=9)
    stuck = stuck.model_copy(update={"outcome": stuck.outcome.model_copy(update={"diagnostics": (kept,)})})
    run, folder = write_run(tmp_path, [weak, stuck, make_record(make_cell("armv7"))])
    write_reports(run, folder)
    show(browser, folder / "report.html")
    tags = {
        str(tile.get_attribute("data-cell")): [tag.text for tag in tile.find_elements(By.CSS_SELECTOR, ".tags span")]
        for tile in browser.find_elements(By.CSS_SELECTOR, ".tile")
    }
    assert tags == {
        "influxdb/x86_64/6.1": ["by console"],
        "influxdb/aarch64/6.1": ["diagnosed"],
        "influxdb/armv7/6.1": [],
    }
    Select(browser.find_element(By.NAME, "verdict")).select_by_visible_text("marked: judged by console")
    assert shown(browser, ".tile") == {"influxdb/x86_64/6.1"}
    show(browser, folder / "report.html", fragment="#influxdb/x86_64/6.1")
    assert "Weaker evidence." in text(browser, "[id='influxdb/x86_64/6.1']")


def test_every_verdict_is_told_in_words_and_by_a_symbol(browser: Chrome, report: Path) -> None:
    show(browser, report)
    tiles = browser.find_elements(By.CSS_SELECTOR, ".tile")
    words = {tile.find_element(By.CSS_SELECTOR, ".word").text for tile in tiles}
    assert words == {record.verdict.value for record in records()}
    for tile in tiles:
        symbol = tile.find_element(By.TAG_NAME, "use").get_attribute("href")
        assert symbol == f"#i-{tile.get_attribute('data-verdict')}"
        assert browser.find_elements(By.CSS_SELECTOR, symbol)


def test_the_filter_leaves_the_cells_that_match_and_is_in_the_address(browser: Chrome, report: Path) -> None:
    show(browser, report)
    everything = shown(browser)
    assert len(everything) == 17
    verdict = Select(browser.find_element(By.NAME, "verdict"))
    verdict.select_by_visible_text("hang")
    assert shown(browser) == shown(browser, ".tile") == {"influxdb/armv7/7.2"}
    verdict.select_by_visible_text("not as expected")
    assert len(shown(browser)) == 9
    verdict.select_by_visible_text("marked: regressed")
    assert shown(browser) == {REGRESSED}
    verdict.select_by_visible_text("all verdicts")
    browser.find_element(By.NAME, "q").send_keys("6.12 x86_64")
    assert shown(browser) == {"influxdb/x86_64/6.12"}
    assert browser.execute_script("return location.hash") == "#q=6.12+x86_64"
    show(browser, report, fragment="#q=6.12+x86_64")
    assert shown(browser) == {"influxdb/x86_64/6.12"}
    assert len(browser.find_elements(By.CSS_SELECTOR, ".grid tr[data-spec]:not([hidden])")) == 1
    browser.execute_script("location.hash = '#influxdb/armv7/6.1'")
    assert len(shown(browser)) == 17, "a link to a hidden cell shows it"
    browser.find_element(By.NAME, "q").send_keys("no such cell")
    assert shown(browser) == set()
    assert browser.find_element(By.ID, "nothing").is_displayed()


def test_cells_are_sorted(browser: Chrome, report: Path) -> None:
    def order() -> list[str]:
        cells = browser.find_elements(By.CSS_SELECTOR, "details.cell")
        return [str(one.get_attribute("data-cell")) for one in cells]

    show(browser, report)
    before = order()
    sort = Select(browser.find_element(By.NAME, "sort"))
    sort.select_by_value("slowest")
    assert order()[:2] == ["influxdb/armv7/raspi2b/7.2", "influxdb/armv7/7.2"]
    sort.select_by_value("worst")
    assert order()[0] == REGRESSED
    sort.select_by_value("")
    assert order() == before


def test_keys_move_in_the_grid_and_open_cells(browser: Chrome, report: Path) -> None:
    show(browser, report)
    browser.find_element(By.CSS_SELECTOR, ".tile[data-cell='influxdb/aarch64/6.1']").send_keys(Keys.ARROW_RIGHT)
    assert focused(browser) == "influxdb/aarch64/6.12"
    press(browser, Keys.ARROW_RIGHT)
    assert focused(browser) == REGRESSED
    press(browser, Keys.ARROW_DOWN)
    assert focused(browser) == "influxdb/armv7/7.2"
    press(browser, Keys.ENTER)
    assert browser.execute_script("return location.hash") == "#influxdb/armv7/7.2"
    press(browser, "g")
    assert focused(browser) == "influxdb/armv7/7.2"
    press(browser, "/", "ppc64le")
    assert {cell.split("/")[1] for cell in shown(browser)} == {"ppc64le"}
    press(browser, Keys.ESCAPE)
    assert len(shown(browser)) == 17
    press(browser, "n")
    first = browser.execute_script("return location.hash")
    press(browser, "n", "p")
    assert browser.execute_script("return location.hash") == first
    press(browser, "?")
    assert browser.find_element(By.ID, "keys").is_displayed()
    browser.find_element(By.ID, "letters").click()
    press(browser, Keys.ESCAPE)
    press(browser, "/")
    assert browser.execute_script("return document.activeElement.name") != "q", "single letters can be switched off"


def test_groups_fold_both_ways_and_rows_can_be_those_of_an_architecture(browser: Chrome, report: Path) -> None:
    show(browser, report)
    browser.find_element(By.CSS_SELECTOR, "tbody[data-group='influxdb'] .twist").click()
    assert {cell.split("/")[0] for cell in shown(browser, ".tile")} == {"check", "pages"}
    assert "3/4" in text(browser, "tbody[data-group='influxdb']") or "4/4" in text(
        browser, "tbody[data-group='influxdb']"
    )
    browser.execute_script("location.hash = '#influxdb/armv7/6.1'")
    head = browser.find_element(By.CSS_SELECTOR, "thead th[data-kernel='6.12-64k'] .twist")
    head.send_keys(Keys.ENTER)
    word = browser.find_element(By.CSS_SELECTOR, ".tile[data-cell='pages/ppc64le/6.12-64k'] .word")
    assert word.size["width"] <= 1, "a folded column has symbols only"
    Select(browser.find_element(By.ID, "group")).select_by_value("target")
    rows = browser.find_elements(By.CSS_SELECTOR, "tbody.made")
    names = [row.find_element(By.CSS_SELECTOR, ".group").text for row in rows]
    assert sorted(names) == ["aarch64", "armv7", "armv7/raspi2b", "ppc64le", "x86_64"]
    Select(browser.find_element(By.ID, "group")).select_by_value("spec")
    assert not browser.find_elements(By.CSS_SELECTOR, "tbody.made")
    assert len(browser.find_elements(By.CSS_SELECTOR, ".tile")) == 17


@pytest.mark.parametrize("script", [True, False])
def test_a_link_of_the_grid_opens_its_cell(browser: Chrome, report: Path, folder: Path, script: bool) -> None:
    show(browser, report if script else without_script(report, folder))
    tile = browser.find_element(By.CSS_SELECTOR, "a.tile[href='#influxdb/aarch64/6.1']")
    tile.send_keys(Keys.ENTER)
    body = browser.find_element(By.ID, "influxdb/aarch64/6.1")
    assert body.is_displayed()
    assert "all checks passed" in body.text


def test_without_script_verdicts_evidence_and_charts_are_there(browser: Chrome, report: Path, folder: Path) -> None:
    show(browser, without_script(report, folder))
    assert "Kernel panic - not syncing" in text(browser, f"[id='{REGRESSED}'] .evidence")
    assert len(browser.find_elements(By.CSS_SELECTOR, ".strips .strip circle")) > 4
    assert browser.find_element(By.CSS_SELECTOR, ".columns").size["height"] > 50
    assert not browser.find_element(By.ID, "filter").is_displayed()


def test_evidence_leads_to_its_line_on_the_page_of_its_cell(browser: Chrome, report: Path, folder: Path) -> None:
    show(browser, report)
    browser.find_element(By.CSS_SELECTOR, f"[id='{REGRESSED}'] .evidence a").click()
    assert browser.current_url == (folder / PANIC_PAGE).as_uri() + "#L7"
    assert "Kernel panic - not syncing" in text(browser, ":target")
    browser.find_element(By.CSS_SELECTOR, ".back a").click()
    assert browser.find_element(By.ID, REGRESSED).is_displayed()


def test_a_console_is_searched_and_its_lines_have_addresses(browser: Chrome, tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, records()[:1])
    (console,) = folder.rglob("console.log")
    console.write_text("".join(f"line {number}{' needle' * (number % 40 == 0)}\n" for number in range(1, 5001)))
    write_reports(run, folder)
    assert (folder / "report.html").stat().st_size < 100_000, "the whole console is only on the page"
    complaints(browser)
    show(browser, console.with_name("cell.html"), fragment="#L4321")
    assert text(browser, ":target").split("\n")[-1] == "line 4321"
    assert browser.execute_script("return document.querySelector(':target').getBoundingClientRect().top") < 900
    search = browser.find_element(By.CSS_SELECTOR, ".seek input")
    search.send_keys("needle")
    assert text(browser, ".seek output") == "1 of 125"
    search.send_keys(Keys.ENTER)
    assert "line 80 needle" in text(browser, ".now")
    browser.find_element(By.CSS_SELECTOR, ".now a").click()
    assert browser.execute_script("return location.hash") == "#L80"
    assert complaints(browser) == []


def test_one_file_has_all_consoles_and_leads_nowhere_else(browser: Chrome, tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, records())
    write_reports(run, folder, single_file=True)
    assert not list(folder.rglob("cell.html"))
    page = (folder / "report.html").rename(tmp_path / "alone.html")
    show(browser, page, fragment=f"#{REGRESSED}:L3")
    assert "virtio_blk" in text(browser, ":target")
    assert not browser.find_elements(By.CSS_SELECTOR, "a[href*='cell.html']")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_nothing_bars_people_from_reading_it(browser: Chrome, report: Path, width: int, scheme: str) -> None:
    media(browser, scheme=scheme)
    show(browser, report, width)
    open_all(browser)
    assert serious_faults(browser) == []
    assert overflow(browser) == 0
    show(browser, report.parent / PANIC_PAGE, width)
    assert serious_faults(browser) == []
    assert overflow(browser) == 0
    media(browser)


def test_what_bars_people_would_be_seen(browser: Chrome, report: Path) -> None:
    show(browser, report)
    browser.execute_script(
        "const b = document.createElement('button'); document.querySelector('main').append(b);"
        "document.querySelector('h1').style.color = '#eee'"
    )
    found = " ".join(serious_faults(browser))
    assert "button-name" in found
    assert "color-contrast" in found


def test_printed_it_has_no_controls_and_has_all_cells(browser: Chrome, report: Path) -> None:
    show(browser, report, 800)
    media(browser, "print")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    hidden = browser.find_elements(By.CSS_SELECTOR, ".bar-nav, .filter, .copy button, .seek")
    assert not any(one.is_displayed() for one in hidden)
    assert browser.find_element(By.CSS_SELECTOR, ".sign").is_displayed()
    assert all(one.get_attribute("open") for one in browser.find_elements(By.CSS_SELECTOR, "details.cell"))
    assert browser.execute_script("return getComputedStyle(document.querySelector('.grid-scroll')).maxHeight") == "none"
    assert overflow(browser) == 0
    media(browser)


def test_four_cells_that_pass_are_printed_on_two_pages(tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, green_records()[:4])
    write_reports(run, folder)
    assert print_pdf(folder / "report.html", tmp_path / "report.pdf") == ""
    pages = re.findall(rb"/Type\s*/Page\b(?!s)", (tmp_path / "report.pdf").read_bytes())
    assert 1 <= len(pages) <= 2


def test_a_report_of_nothing_is_a_report(browser: Chrome, tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, [], interrupted=True)
    write_reports(run, folder)
    assert load_run(folder) == run
    complaints(browser)
    show(browser, folder / "report.html")
    assert text(browser, "h1") == "No cell was tested; interrupted"
    assert "No cell has a result." in text(browser, "body")
    assert complaints(browser) == []

"""The report in a real browser: harmless whatever a guest says."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from bootmatrix.history.values import (
    CellChange,
    CellHistory,
    CellKey,
    ChangeKind,
    Comparison,
    Input,
    InputChange,
    Past,
    PastVerdict,
    Standing,
    SubChange,
)
from bootmatrix.model import AttemptRecord, Evidence, KernelFault, PhaseTime, Record, Run, SubResult, Verdict
from bootmatrix.report.writer import write_reports
from browsers import open_all, overflow, show
from samples import make_cell, make_record, mixed_records, write_run

pytest_plugins = ("browser_fixtures",)


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
            "attempt_records": (
                AttemptRecord(judgement=record.judgement, console="console.log", started_at=record.started_at),
            ),
            "judgement": record.judgement.model_copy(
                update={
                    "kernel_faults": (
                        KernelFault(name=text, is_fatal=False, text=text, line=1, trace=(text,), advice=text),
                    )
                }
            ),
        }
        records.append(record.model_copy(update=update))
    records.append(make_record(make_cell("aarch64"), Verdict.SKIP, text))
    records.append(make_record(make_cell("ppc64le"), Verdict.INFRA_ERROR, "A" * 5000, advice="B" * 5000))
    return records


def hostile_past(run: Run, text: str) -> Past:
    """A past whose words are hostile too, as an index may hold what an earlier run let in."""
    changes, histories = [], {}
    for record in run.records:
        key = CellKey(record.cell.spec_name, record.cell.arch, record.cell.machine, record.cell.kernel, "cold")
        past = tuple(PastVerdict(text, text, text, Standing.BAD, 1.0) for _ in range(3))
        histories[record.cell.id] = CellHistory(record.cell.id, key, past, failing_since=past[0], is_flapping=True)
        inputs = (InputChange(text, text, None, Input(text, text, text)),)
        subs = (SubChange(text, text, text),)
        changes.append(
            CellChange(
                record.cell.id, "cold", ChangeKind.FLAPPING, text, text, note=text, subresults=subs, inputs=inputs
            )
        )
    return Past(Comparison(run.name, text, text, tuple(changes)), histories)


def write_hostile(tmp_path: Path, text: str, single_file: bool = False) -> Path:
    run, folder = write_run(tmp_path, hostile_records(text), title="hostile")
    for file in folder.rglob("console.log"):
        file.write_bytes((text + "\n" + "C" * 5000 + "\n").encode() + b"\xff\xfe\n")
    update = {"title": text, "unfinished": (text,), "interrupted": True, "host": {"kernel": text, "cpu": text}}
    hostile = Run.model_validate(run.model_copy(update=update))
    write_reports(hostile, folder, hostile_past(hostile, text), single_file)
    return folder / "report.html"


def was_owned(browser: Chrome) -> bool:
    return bool(browser.execute_script("return Boolean(window.owned) || document.title.startsWith('owned')"))


@pytest.mark.parametrize("name", ["report.html", "cells/influxdb/x86_64/pc/6.1/cell.html", "single"])
def test_no_script_of_a_guest_runs_and_nothing_is_asked_of_the_network(
    browser: Chrome, requests: tuple[str, list[str]], tmp_path: Path, name: str
) -> None:
    address, seen = requests
    page = write_hostile(tmp_path, attacks(address), single_file=name == "single")
    if name != "single":
        page = page.parent / name
    show(browser, page, offline=False)
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
    assert "{{ 7*7 }}" in browser.find_element(By.TAG_NAME, "body").text
    assert "red" in browser.find_element(By.CSS_SELECTOR, ".console").text


def test_the_check_sees_a_page_that_does_not_escape(
    browser: Chrome, requests: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, seen = requests
    page = tmp_path / "page.html"
    page.write_text(f"<title>x</title><p>{attacks(address).replace('refresh', 'none')}</p>", encoding="utf-8")
    show(browser, page, offline=False)
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
    show(browser, page, offline=False)
    assert not was_owned(browser)
    assert seen == []


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_never_scrolls_sideways(browser: Chrome, tmp_path: Path, width: int) -> None:
    page = write_hostile(tmp_path, attacks("http://127.0.0.1:9") + "D" * 3000)
    show(browser, page, width)
    open_all(browser)
    assert overflow(browser) == 0
    browser.execute_script("document.querySelector('main').append('x'.repeat(500))")
    browser.execute_script("document.querySelector('main').style.overflowWrap = 'normal'")
    assert overflow(browser) > 0, "the check sees what is too wide"

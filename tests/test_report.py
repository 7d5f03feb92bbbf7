"""The report's view, JUnit's XML and the words on a terminal."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bootmatrix.cli.main import main, parser
from bootmatrix.model import Diagnostic, Evidence, KernelFault, KernelPart, Record, Run, SubResult, Verdict
from bootmatrix.model.guest_size import GuestSize
from bootmatrix.model.record import ResultFile
from bootmatrix.report.cell_parts import command_line, facts
from bootmatrix.report.cell_view import CellContext, CellView, advice_of
from bootmatrix.report.console_view import MAX_LINE_BYTES, Extent, view_console
from bootmatrix.report.headline import date_words
from bootmatrix.report.junit import render_junit
from bootmatrix.report.order import headline, kernels_of
from bootmatrix.report.sanitize import TABLE, one_line, sanitize
from bootmatrix.report.text import summary
from bootmatrix.report.units import duration, size
from bootmatrix.report.view import ReportView, view_run
from bootmatrix.report.writer import write_reports
from samples import green_records, make_cell, make_outcome, make_record, mixed_records, write_run

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x00\x08\x7f\x85\u202e\ud800\uffff ]]> <b>&"


def make_run(records: list[Record], interrupted: bool = False) -> Run:
    return Run(
        name="run",
        title="influxdb",
        tool_version="0.1.0",
        started_at="2026-11-24T01:40:05+00:00",
        ended_at="2026-11-24T01:41:05+00:00",
        wall_s=60.0,
        interrupted=interrupted,
        records=tuple(records),
    )


def view(records: list[Record]) -> ReportView:
    return view_run(make_run(records), lambda _: b"line\n")


def cell_view(record: Record, console: bytes = b"", extent: Extent = Extent.EXCERPT, pages: bool = True) -> CellView:
    return CellView(record, CellContext(lambda _: console, extent=extent, has_pages=pages))


def junit(records: list[Record]) -> ElementTree.Element:
    return ElementTree.fromstring(render_junit(view(records)))


def printed(run: Run) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120, color_system=None).print(summary(run))
    return stream.getvalue()


def test_files_that_are_not_whole_are_told() -> None:
    cut = ResultFile(container="try", path="/big", file="files/0", size_bytes=3 << 20, is_cut=True)
    whole = cut.model_copy(update={"path": "/small", "is_cut": False})
    tree = whole.model_copy(update={"path": "/tree", "notes": ("/tree/pipe: a pipe is left out\x1b[2J",)})
    records = [make_record(make_cell(arch)).model_copy(update={"files": (cut, whole)}) for arch in ("x86_64", "armv7")]
    records.append(make_record(make_cell("ppc64le")).model_copy(update={"files": (tree,)}))
    text = printed(make_run(records))
    assert "note: /big in influxdb/x86_64/6.1 and 1 more: only a part of its 3.1 MB was saved (--get-limit)" in text
    assert "note: /tree in influxdb/ppc64le/6.1: /tree/pipe: a pipe is left out" in text
    assert ("/small" in text, "\x1b" in text) == (False, False)


def test_a_wait_for_the_host_is_told_of_each_cell_and_once_for_a_run() -> None:
    times = {"x86_64": (536, 590), "aarch64": (424, 474), "armv7": (29, 31), "ppc64le": (250, 590), "s390x": (0, 20)}
    records = [
        make_record(make_cell(arch)).model_copy(
            update={"outcome": make_outcome(wall_s).model_copy(update={"starved_s": starved_s})}
        )
        for arch, (starved_s, wall_s) in times.items()
    ]
    told = {record.cell.arch: cell_view(record).lost_time for record in records}
    line = "the guest waited for a core of its host: 8 min 56 s of 9 min 50 s"
    assert (told["x86_64"], [arch for arch, lines in told.items() if lines]) == ((line,), ["x86_64", "aarch64"])
    words = " ".join(printed(make_run(records)).split())
    assert "note: 2 guests waited for a core of the host: 16 min 00 s of 17 min 44 s, as other work ran there" in words
    assert "waited" not in printed(make_run(records[2:]))


def test_a_card_has_the_line_that_the_reason_quotes() -> None:
    failed = make_record(make_cell("s390x"), Verdict.FAIL, "check hello exited with status 2: make: *** Error 1")
    lines = ("hello| cc -o hello hello.c", "hello| make: *** Error 1")
    evidence = tuple(Evidence(source="console", text=text, line=line) for line, text in enumerate(lines, 144))
    judgement = failed.judgement.model_copy(update={"evidence": evidence})
    card = cell_view(failed.model_copy(update={"judgement": judgement})).console_evidence
    assert card is not None
    assert (card.line, card.text) == (145, lines[1])


def test_one_cause_is_told_once() -> None:
    records = [make_record(make_cell(arch), Verdict.INFRA_ERROR, "no network") for arch in ("x86_64", "armv7")]
    records.append(make_record(make_cell("ppc64le"), Verdict.INFRA_ERROR, "disk full"))
    text = printed(make_run(records))
    assert [text.count(reason) for reason in ("no network", "disk full")] == [1, 1]
    assert text.index("influxdb/armv7/6.1") < text.index("influxdb/x86_64/6.1") < text.index("no network")


def test_all_green() -> None:
    report = view(green_records())
    assert (report.good, report.headline) == (True, "All 8 cells as expected")
    assert [row.target for row in report.groups[0].rows] == ["aarch64", "armv7", "ppc64le", "x86_64"]
    assert report.kernels == ("6.1", "7.2")
    assert not report.attention


def test_what_is_not_as_expected_comes_first_and_unexpected_passes_before_that() -> None:
    report = view(mixed_records())
    assert not report.good
    assert report.clauses == (
        "6 of 13 cells as expected",
        "4 fail on 7.2",
        "1 passed unexpectedly on x86_64/6.12",
        "2 without a verdict on ppc64le",
        "1 not run",
    )
    verdicts = [cell.verdict for cell in report.attention]
    assert verdicts == ["pass", "panic", "hang", "timeout", "fail", "build-error", "infra-error"]
    assert [cell.id for cell in report.expected_failures] == ["influxdb/aarch64/6.12"]
    assert [cell.reason for cell in report.skips] == ["excluded: this release needs Linux 6.1"]


def test_cells_of_one_reason_share_a_card_with_what_all_are_marked_with() -> None:
    skips = [make_record(make_cell(arch), Verdict.SKIP, "too slow") for arch in ("x86_64", "armv7")]
    report = view([*skips, make_record(make_cell("ppc64le"), Verdict.SKIP, "no such kernel")])
    assert sorted(len(one.cells) for one in report.grouped(report.skips)) == [1, 2]
    copy = make_record(make_cell("x86_64"), Verdict.FAIL, "it broke").model_copy(update={"boot": "fork"})
    cold = make_record(make_cell("armv7"), Verdict.FAIL, "it broke")
    (one,) = view([copy, cold]).failure_groups
    assert (len(one.cells), one.marks) == (2, ())


def test_one_wrong_cell_is_enough_for_a_bad_report() -> None:
    records = green_records()
    records[3] = make_record(records[3].cell, Verdict.HANG, "silent")
    assert not view(records).good
    assert not view([]).good
    assert not view_run(make_run(green_records(), interrupted=True), lambda _: None).good


def test_kernels_are_in_the_order_of_their_versions() -> None:
    names = ("newest", "6.12", "5.10", "6.12-64k", "6.1", "7.2")
    cells = [make_cell("x86_64", name) for name in names]
    assert kernels_of(cells) == ("5.10", "6.1", "6.12", "6.12-64k", "7.2", "newest")


def test_sub_results_that_failed_come_first_and_many_passes_are_folded() -> None:
    passes = [SubResult(name=f"t{number}", verdict=Verdict.PASS) for number in range(40)]
    folded = cell_view(make_record(make_cell("x86_64"), subresults=passes))
    assert (folded.sub_open, folded.sub_summary) == (False, "40 pass")
    broken = [*passes, SubResult(name="last", verdict=Verdict.FAIL)]
    opened = cell_view(make_record(make_cell("x86_64"), Verdict.FAIL, subresults=broken))
    assert (opened.sub_open, opened.subresults[0].name) == (True, "last")


def numbered(count: int) -> bytes:
    return b"".join(f"line {number}\n".encode() for number in range(1, count + 1))


def test_an_excerpt_has_what_evidence_speaks_of_and_the_end_and_says_what_it_leaves_out() -> None:
    evidence = [Evidence(source="console", text="x", line=number) for number in (3, 50_000, 200_000)]
    record = make_record(make_cell("x86_64"), Verdict.FAIL, "no", evidence=evidence)
    console = view_console(record, numbered(100_000), "console.log", Extent.EXCERPT)
    shown = [(part.omitted, part.lines[0].number, part.lines[-1].number) for part in console.parts]
    assert shown == [(0, 1, 9), (49_987, 49_997, 50_006), (49_970, 99_977, 100_000)]
    assert (console.line_count, console.marked, console.first_error) == (100_000, frozenset({3, 50_000}), 3)
    assert console.is_cut
    assert console.parts[2].lines[-1].text == "line 100000"


def test_a_folded_console_keeps_its_beginning_and_its_end() -> None:
    record = make_record(make_cell("x86_64"), Verdict.FAIL, "no")
    console = view_console(record, numbered(100_000), "", Extent.FOLDED)
    assert [len(part.lines) for part in console.parts] == [500, 1500]
    assert console.parts[1].omitted == 98_000


@pytest.mark.parametrize("extent", Extent)
@pytest.mark.parametrize("count", [0, 1, 8, 30, 60])
def test_every_line_is_shown_or_counted_as_left_out(extent: Extent, count: int) -> None:
    evidence = [Evidence(source="console", text="x", line=number) for number in (20, 35)]
    record = make_record(make_cell("x86_64"), Verdict.FAIL, "no", evidence=evidence)
    console = view_console(record, numbered(count), "", extent)
    assert sum(part.omitted + len(part.lines) for part in console.parts) == count
    numbers = [line.number for part in console.parts for line in part.lines]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[    0.1] Kernel panic - not syncing", "alarm"),
        ("ImportError: no module", "alarm"),
        ("[    0.0] Command line: panic=-1 errors=remount-ro", ""),
        ("all is well", ""),
    ],
)
def test_lines_that_draw_the_eye(line: str, kind: str) -> None:
    record = make_record(make_cell("x86_64"), Verdict.FAIL, "no")
    console = view_console(record, f"first\n{line}\n".encode(), "", Extent.PAGE)
    assert console.parts[0].lines[1].kind == kind
    assert console.first_error == (2 if kind else None)


def test_evidence_leads_to_its_line_on_the_page_of_the_cell_or_where_there_is_none_in_the_report() -> None:
    evidence = [Evidence(source="console", text="x", line=3), Evidence(source="qmp", text="y")]
    record = make_record(make_cell("x86_64"), Verdict.FAIL, "no", evidence=evidence)
    assert [cell_view(record).line_href(line) for line in (3, None)] == [
        "cells/influxdb/x86_64/pc/6.1/cell.html#L3",
        "",
    ]
    assert cell_view(record, pages=False).line_href(3) == "#influxdb/x86_64/6.1:L3"


def test_a_huge_line_is_cut() -> None:
    record = make_record(make_cell("x86_64"))
    (part,) = view_console(record, b"a" * 1_000_000, "", Extent.PAGE).parts
    assert part.lines[0].text.endswith(f"… {1_000_000 - MAX_LINE_BYTES} more bytes")
    assert len(part.lines[0].text) < MAX_LINE_BYTES + 100


def test_a_console_that_is_missing_does_not_stop_the_report(tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, green_records())
    (folder / "cells/influxdb/armv7/virt/6.1/console.log").unlink()
    write_reports(run, folder)
    assert "missing, or too large to display" in (folder / "report.html").read_text()


def test_the_command_can_be_given_to_a_shell() -> None:
    import shlex

    arguments = ("qemu", "-append", "a 'b' $(reboot)", "-nodefaults", "-drive", "file=x y")
    assert shlex.split(command_line(arguments).replace("\\\n", "")) == list(arguments)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.1, "0.1 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 00 s"),
        (65, "1 min 05 s"),
        (7380, "2 h 03 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(999, "999 B"), (5_400_000, "5.4 MB"), (999_600, "1.0 MB"), (10**13, "10000 GB"), (10**400, "1000000000 GB")],
)
def test_sizes(count: int, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\x1b]0;owned\x07b", "ab"),
        ("\x1b]8;;javascript:x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdevice\x1b\\", ""),
        ("\x1b(Bx\x1bc", "x"),
        ("a\rb\r\nc", "a␍b\nc"),
        ("\x1b", "␛"),
        ("\x1b]no end\nnext", "␛]no end\nnext"),
        ("\u202egnp.exe", "<U+202E>gnp.exe"),
        ("\x9b31m", "<U+009B>31m"),
        ("\udc80\uffff", "\ufffd\ufffd"),
        ("grün ✓ 漢字\t", "grün ✓ 漢字\t"),
    ],
)
def test_harmless(text: str, shown: str) -> None:
    assert sanitize(text) == shown


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[]m;\x07\\\r\n\x9b\x00"))))
def test_nothing_that_controls_is_left(text: str) -> None:
    shown = sanitize(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]", shown)
    assert shown.count("\n") == text.count("\n")
    assert "\n" not in one_line(text)


def test_printable_text_stays_as_it_is_and_all_else_is_looked_at() -> None:
    changed = [code for code in range(sys.maxunicode + 1) if chr(code).translate(TABLE) != chr(code)]
    assert len(changed) > 2000
    assert [hex(code) for code in changed if sanitize(chr(code)) == chr(code)] == []


def test_escape_sequences_cost_no_more_than_their_length() -> None:
    sanitize("\x1b]" * 200_000 + "\x1b[" * 200_000 + "\x1bP" + "a" * 1_000_000)


def test_junit_says_whose_fault_it_was() -> None:
    root = junit(mixed_records())
    cases = {f"{case.get('classname')} {case.get('name')}": case for case in root.iter("testcase")}
    kinds = {
        "influxdb.x86_64 influxdb/x86_64/6.1": (),
        "influxdb.x86_64 influxdb/x86_64/7.2": ("failure",),
        "influxdb.aarch64 influxdb/aarch64/7.2": ("failure",),
        "influxdb.armv7 influxdb/armv7/7.2": ("failure",),
        "influxdb.armv7/raspi2b influxdb/armv7/raspi2b/7.2": ("failure",),
        "influxdb.ppc64le influxdb/ppc64le/6.12": ("error",),
        "influxdb.ppc64le influxdb/ppc64le/7.2": ("error",),
        "influxdb.armv7 influxdb/armv7/5.10": ("skipped",),
        "influxdb.aarch64 influxdb/aarch64/6.12": ("skipped",),
        "influxdb.x86_64 influxdb/x86_64/6.12": ("failure",),
        "influxdb.x86_64 7.2: check: read them back": ("skipped",),
    }
    for name, tags in kinds.items():
        assert tuple(child.tag for child in cases[name] if child.tag != "system-out") == tags, name
    failure = cases["influxdb.aarch64 influxdb/aarch64/7.2"].find("failure")
    assert failure is not None
    assert failure.get("type") == "panic"
    surprise = cases["influxdb.x86_64 influxdb/x86_64/6.12"].find("failure")
    assert surprise is not None
    assert surprise.get("message") == "passed, expected a failure: issue 99: flaky clock"


def test_junit_counts_add_up() -> None:
    root = junit(mixed_records())
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"), ("tests", "testcase")):
        found = len(list(root.iter(tag)))
        assert root.get(attribute) == (None if attribute == "skipped" else str(found))  # which Jenkins' schema refuses
        assert sum(int(suite.get(attribute, "-1")) for suite in root.iter("testsuite")) == found


def test_junit_is_xml_whatever_the_guest_says() -> None:
    record = make_record(
        make_cell("x86_64"),
        Verdict.FAIL,
        HOSTILE,
        evidence=(Evidence(source=HOSTILE, text=HOSTILE, line=1),),
        subresults=(SubResult(name=HOSTILE, verdict=Verdict.FAIL, detail=HOSTILE),),
        advice=HOSTILE,
    )
    report = view_run(make_run([record]), lambda _: HOSTILE.encode("utf-8", "surrogatepass") * 1000)
    root = ElementTree.fromstring(render_junit(report))
    assert "]]> <b>&" in "".join(root.itertext())


def test_junit_keeps_only_the_end_of_a_console() -> None:
    report = view_run(make_run(green_records()[:1]), lambda _: b"x\n" * 100_000)
    out = ElementTree.fromstring(render_junit(report)).find(".//system-out")
    assert out is not None
    assert len((out.text or "").splitlines()) == 100


def test_the_terminal_gets_the_table_and_each_reason() -> None:
    text = printed(make_run(mixed_records()))
    assert "7 of 13 cells not as expected" in text
    assert "kernel panic: VFS: Unable to mount root fs" in text
    assert "✓ pass (unexpected)" in text
    assert "✗ fail (expected)" in text
    assert "excluded: this release needs Linux 6.1" in text
    assert re.search(r"armv7/raspi2b +· +· +· +◷ timeout +9 min 00 s", text)


def test_a_run_of_nothing_has_no_table() -> None:
    text = printed(make_run([], interrupted=True))
    assert "No cell was tested, interrupted" in text
    assert "spec" not in text


def test_a_phase_has_the_same_colour_in_every_cell() -> None:
    record = make_record(make_cell("x86_64"))
    short = record.model_copy(update={"phases": record.phases[3:5]})
    colours = {phase.name: phase.colour for phase in cell_view(record).phases}
    assert len(set(colours.values())) == len(colours)
    assert {phase.name: phase.colour for phase in cell_view(short).phases}.items() <= colours.items()


def test_the_terminal_gets_no_markup_or_escapes_of_the_guest() -> None:
    text = printed(
        make_run([make_record(make_cell("x86_64"), Verdict.FAIL, "[bold]x[/] [link=http://y]z \x1b[2J\x07")])
    )
    assert "[bold]x[/] [link=http://y]z" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_the_report_command_renders_an_interrupted_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = write_run(tmp_path, mixed_records())
    (folder / "run.json").unlink()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}/report.html\n"
    assert "The run was interrupted: killed." in (folder / "report.html").read_text()
    assert len(json.loads((folder / "run.json").read_text())["records"]) == len(mixed_records())
    assert ElementTree.parse(folder / "junit.xml").getroot().tag == "testsuites"
    assert not list(folder.rglob("*.part"))


def test_the_report_command_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "not a run" in capsys.readouterr().err


def test_a_forked_cell_says_so() -> None:
    record = make_record(make_cell("x86_64"))
    forked = cell_view(record.model_copy(update={"boot": "fork", "verified": True}))
    assert [mark.words for mark in forked.marks] == ["forked, verified cold"]
    assert ("Boot", "copy of a booted guest, confirmed by a cold boot") in forked.facts
    cold = cell_view(record.model_copy(update={"cold_reason": "the machine has no virtio bus"}))
    assert [mark.words for mark in cold.marks] == ["booted cold"]
    assert not cell_view(record).marks


def test_a_trace_and_what_a_stuck_guest_was_doing_are_shown_harmlessly(tmp_path: Path) -> None:
    record = make_record(make_cell("x86_64"), Verdict.HANG, "it hangs")
    trouble = KernelFault(
        name="kernel oops", is_fatal=True, text="Oops", line=3, trace=("Oops <script>x</script>", HOSTILE)
    )
    kept = (
        Diagnostic(kind="registers", file="diagnosis/registers.txt", size_bytes=2048),
        Diagnostic(kind="tasks", note="the guest <b>does not answer</b>"),
    )
    assert record.outcome
    record = record.model_copy(
        update={
            "judgement": record.judgement.model_copy(update={"kernel_faults": (trouble,), "is_weak": True}),
            "outcome": record.outcome.model_copy(update={"diagnostics": kept}),
        }
    )
    run, folder = write_run(tmp_path, [record])
    write_reports(run, folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Oops &lt;script&gt;x&lt;/script&gt;" in page
    assert 'href="cells/influxdb/x86_64/pc/6.1/diagnosis/registers.txt"' in page
    assert "not available: the guest &lt;b&gt;does not answer&lt;/b&gt;" in page
    assert "Judged by the console alone" in page
    assert "\x1b" not in page


def test_dates_are_as_people_write_them() -> None:
    assert date_words("2026-11-24T01:40:09+00:00") == "24 November 2026, 01:40 UTC"
    assert date_words("soon\n<b>") == "soon <b>"
    record = make_record(make_cell("x86_64"))
    assert dict(facts(record))["Started"] == date_words(record.started_at) != record.started_at


def test_the_command_of_a_custom_kernel_finds_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTMATRIX_KERNELS", "/my files/kernels.yml")
    record = make_record(make_cell("aarch64"), Verdict.FAIL, advice="'bootmatrix run --shell' opens a shell.")
    assert advice_of(record).startswith("'bootmatrix run specs/influxdb")
    assert record.kernel
    own = record.kernel.model_copy(update={"parts": (KernelPart(kind="tree", path="linux"),)})
    custom = record.model_copy(update={"kernel": own})
    assert advice_of(custom).startswith("'env 'BOOTMATRIX_KERNELS=/my files/kernels.yml' bootmatrix run specs/influxdb")
    monkeypatch.delenv("BOOTMATRIX_KERNELS")
    assert advice_of(custom) == advice_of(record)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([Verdict.INFRA_ERROR, Verdict.BUILD_ERROR], "2 of 2 cells could not be tested"),
        ([Verdict.PASS, Verdict.INFRA_ERROR, Verdict.SKIP], "1 of 2 cells could not be tested"),
        ([Verdict.INFRA_ERROR, Verdict.FAIL], "2 of 2 cells not as expected"),
        ([Verdict.USER_UNSUPPORTED], "The only cell could not be tested"),
        ([Verdict.FAIL], "The only cell is not as expected"),
        ([Verdict.PASS], "1 cell as expected"),
    ],
)
def test_the_total_tells_what_was_not_tested_from_what_failed(verdicts: list[Verdict], expected: str) -> None:
    records = [make_record(make_cell("aarch64", str(number)), verdict) for number, verdict in enumerate(verdicts)]
    assert headline(records) == expected


def test_the_command_has_what_the_matrix_changed() -> None:
    size = GuestSize(memory_mib=2048, cpus=2, disk_mib=4096)
    changes = {"append": "quiet x=1", "limit_s": 90.0, "network": "outbound", "roots": "ram"}
    cell = make_cell("aarch64").model_copy(update={"size": size, **changes})
    advised = make_record(cell, Verdict.FAIL, advice="'bootmatrix run --shell' opens a shell.")
    command = advice_of(advised).partition(" --shell")[0].strip("'")
    expected = "--memory=2048M --cpus=2 --disk=4096M '--append=quiet x=1' --timeout=90s --network=outbound --roots=ram"
    assert command == f"bootmatrix run specs/influxdb.yml --arch aarch64 --kernel 6.1 {expected}"
    parsed = parser("run").parse_args(shlex.split(command)[1:])
    assert (parsed.memory, parsed.disk, parsed.timeout, parsed.append) == ("2048M", "4096M", "90s", ["quiet x=1"])
    grows = cell.model_copy(update={"size": GuestSize(grows=True)})
    assert "--memory=auto " in advice_of(advised.model_copy(update={"cell": grows}))

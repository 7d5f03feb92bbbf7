"""What a run leaves for people and for machines: report.html, junit.xml and run.json in its folder."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.model import Run


def write_reports(run: Run, folder: Path) -> None:
    """Write all forms of the report into the run's folder, each whole or not at all.

    Raises:
        OSError: one cannot be written.
    """
    # Here, so that the words which this package gives a terminal are to be had without jinja2.
    from bootmatrix.report.html import render_html
    from bootmatrix.report.junit import render_junit
    from bootmatrix.report.view import view_run
    from bootmatrix.runs import RUN_FILE, write_model, write_whole

    view = view_run(run, folder)
    write_whole(folder / "report.html", render_html(view))
    write_whole(folder / "junit.xml", render_junit(view))
    write_model(folder / RUN_FILE, run)

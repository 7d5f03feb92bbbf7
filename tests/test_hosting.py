"""docs/nightly.md's settings of nginx, in a real nginx: a static host, and a proxy before `bootmatrix serve`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bootmatrix.report.writer import write_reports
from bootmatrix.runs.run_store import load_run
from free_ports import free_port
from samples import green_records, write_dated
from stage import BOOTMATRIX, ROOT

PAGE = (ROOT / "docs/nightly.md").read_text(encoding="utf-8")
CONF = """
user root; daemon off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
    access_log off; types {{ text/html html; image/svg+xml svg; }}
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}; {locations} }}
}}
"""
SCRIPT = "<script>alert(1)</script>"


def locations() -> str:
    """The locations of the page, which are indented there."""
    found = re.findall(r"^    location .*?^(?:    \}$|$)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(found) == 2
    return "\n".join(found)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of nginx over a folder `reports` of one run, and over its server."""
    run = tmp_path / "reports" / write_dated(tmp_path / "reports", 1, green_records())
    write_reports(load_run(run), run)
    (run / "cells/a/files").mkdir(parents=True)
    for name in ("page.html", "picture.svg", "named.html.txt"):
        (run / "cells/a/files" / name).write_text(SCRIPT)
    port, behind = free_port(), free_port()
    text = locations().replace("8471", str(behind))
    (tmp_path / "nginx.conf").write_text(CONF.format(folder=tmp_path, port=port, locations=text))
    url = f"http://127.0.0.1:{port}"
    serve = [*BOOTMATRIX, "serve", "--port", str(behind), "--base-url", f"{url}/bootmatrix/"]
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "Debian's package nginx-light has it"
    nginx = [program, "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    with subprocess.Popen(serve, cwd=tmp_path) as server, subprocess.Popen(nginx) as proxy:
        try:
            wait_for(f"http://127.0.0.1:{behind}/", server)
            wait_for(url, proxy)
            yield url
        finally:
            server.terminate()
            proxy.terminate()


def test_a_static_host_shows_reports_and_runs_no_guest_s_script(address: str) -> None:
    run = f"{address}/reports/2026-11-01T02-00-00Z-influxdb"
    report = httpx.get(f"{run}/report.html")
    assert (report.status_code, report.headers["Content-Type"]) == (200, "text/html")
    assert report.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("page.html", "picture.svg", "named.html.txt"):
        file = httpx.get(f"{run}/cells/a/files/{name}")
        assert (file.text, file.headers["Content-Type"]) == (SCRIPT, "text/plain")
        assert file.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in file.headers["Content-Security-Policy"]


def test_the_server_works_below_a_path_of_a_proxy(address: str) -> None:
    index = httpx.get(f"{address}/bootmatrix/")
    assert index.status_code == 200, index.text
    (href,) = set(re.findall(r'<h3?[^>]*>|href="([^"]*influxdb/report.html)"', index.text)) - {""}
    report = httpx.get(str(index.url.join(href)))
    assert report.status_code == 200
    assert "boot compatibility report" in report.text

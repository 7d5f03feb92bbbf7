"""How fast a report opens and answers in a real browser."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

OPENED = """
const done = arguments[0];
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
"""
FILTERED = """
const [words, done] = arguments;
const field = document.querySelector("[name=q]");
const started = performance.now();
field.value = words;
field.dispatchEvent(new Event("input", { bubbles: true }));
const channel = new MessageChannel();
channel.port1.onmessage = () => done(performance.now() - started);
requestAnimationFrame(() => channel.port2.postMessage(0));
"""


@contextmanager
def _browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or "google-chrome"
    with tempfile.TemporaryDirectory() as profile:
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        chrome = Chrome(options=options, service=Service(shutil.which("chromedriver") or "chromedriver"))
        try:
            yield chrome
        finally:
            chrome.quit()


def open_and_filter(page: Path, words: list[str]) -> tuple[list[float], list[float]]:
    """Seconds until a page is painted, three times; and until a filter by each of these words is."""
    opened_s = []
    with _browser() as browser:
        for _ in range(3):
            browser.get("about:blank")
            browser.get(page.as_uri())
            opened_s.append(browser.execute_async_script(OPENED) / 1000)
        filtered_s = [browser.execute_async_script(FILTERED, word) / 1000 for word in words]
    return opened_s, filtered_s

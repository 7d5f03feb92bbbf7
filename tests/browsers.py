"""What tests do with a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from axe_core_python.base import AXE_FILE_PATH
from selenium.webdriver import Chrome


def show(browser: Chrome, page: Path, width: int = 1280, fragment: str = "", offline: bool = True) -> None:
    """Open a page from disk, afresh, in a window of this width, as if there were no network."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get("about:blank")
    browser.get(page.as_uri() + fragment)


def media(browser: Chrome, kind: str = "", scheme: str = "light") -> None:
    """Show the page as on paper, or with dark colours."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": features})


def open_all(browser: Chrome) -> None:
    """Open everything that is folded."""
    browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")


def overflow(browser: Chrome) -> int:
    """Pixels by which the page is wider than the window."""
    return int(
        browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    )


def complaints(browser: Chrome) -> list[str]:
    """What the browser's console has said since this was asked last."""
    return [str(one["message"]) for one in browser.get_log("browser")]  # type: ignore[no-untyped-call]


def serious_faults(browser: Chrome) -> list[str]:
    """What axe-core finds that bars people from reading a page."""
    browser.execute_script(AXE_FILE_PATH.read_text(encoding="utf-8"))
    found: dict[str, Any] = browser.execute_async_script(
        "const done = arguments[arguments.length - 1]; axe.run(document, {resultTypes: ['violations']}).then(done)"
    )
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')[:300]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"][:3]
    ]

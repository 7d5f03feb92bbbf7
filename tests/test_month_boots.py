"""A release manager's month with real boots: from a regression to a signed and sent sign-off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from referrers_registry import referrers_registry
from shop import ARCH, NEW, OLD, Shop
from signoff_fixtures import write_keys

pytestmark = [pytest.mark.boots, pytest.mark.long]

RED, GREEN = f"shop/{ARCH}/{NEW}", f"shop/{ARCH}/{OLD}"
FAILED = "check orders exited with status 1: pytest: 1 of 2 failed: test_refund"
WORSE = ("compare", "latest", "--fail-on", "regression")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with referrers_registry() as registry:
        yield Shop(tmp_path, registry)


def good_night(shop: Shop, day: int, *options: str) -> None:
    night = shop.night(day, *options)
    assert night.status == 0, night.text
    assert (shop.metric("good"), shop.metric("regressions")) == (1, 0)
    assert f"Newest: shop, {day} Mar 2026, 02:00 UTC: 2 as expected" in shop.index


def red_night(shop: Shop, day: int, since: int, runs_ago: int) -> None:
    """A night of the same regression: red by status, words, metrics, page."""
    night, morning = shop.night(day), shop.run(*WORSE, day=day)
    assert (night.status, morning.status) == (1, 1), night.text
    assert f"{RED}  pass → fail  since {since} Mar 2026, 02:00" in morning.text
    assert FAILED in morning.text
    ago = f"regressed {runs_ago} run{'' if runs_ago == 1 else 's'} ago"
    assert (ago in morning.text) is (runs_ago > 0)
    assert (shop.metric("good"), shop.metric("regressions")) == (0, 1)
    assert f"Newest: shop, {day} Mar 2026, 02:00 UTC: 1 of 2 not as expected" in shop.index


def accepted_night(shop: Shop, day: int, words: str) -> None:
    night, morning = shop.night(day), shop.run(*WORSE, day=day)
    assert (night.status, morning.status) == (0, 0), night.text
    assert f"accepted failure {RED}" in morning.text and words in morning.text
    assert (shop.metric("unexpected_cells"), shop.metric("accepted_cells"), shop.metric("regressions")) == (1, 1, 0)
    assert words in shop.index


def sign_off(shop: Shop, day: int, digest: str, baseline: str) -> Path:
    """Sign the newest run off, attach it to the shipped image, and verify what somebody else gets."""
    private, public = (str(file) for file in write_keys(shop.folder))
    name = ("--release", "shop-1.8")
    signed = shop.run("signoff", "latest", *name, "--baseline", baseline, "--sign-key", private, day=day, hour=10)
    assert signed.status == 0, signed.text
    assert "PASSED: All 2 cells passed. No regression since 2026-03-" in signed.text
    image = f"{shop.registry.host}/shop@{digest}"
    pushed = shop.run("signoff", "push", "latest", *name, "--image", image, "--key", public, day=day, hour=10)
    assert pushed.status == 0, pushed.text
    url = f"http://{shop.registry.host}/v2/shop"
    (entry,) = httpx.get(f"{url}/referrers/{digest}").json()["manifests"]
    files = {
        layer["annotations"]["org.opencontainers.image.title"]: httpx.get(f"{url}/blobs/{layer['digest']}").content
        for layer in httpx.get(f"{url}/manifests/{entry['digest']}").json()["layers"]
    }
    assert files["signoff.pdf"].startswith(b"%PDF-")
    sent = shop.folder / "sent.html"
    sent.write_bytes(files["report.html"])
    checked = shop.run("signoff", "verify", "sent.html", "--key", public, day=day, hour=11)
    assert checked.status == 0 and "shop-1.8: PASSED, unchanged; signed by " in checked.text
    return shop.newest / "signoff/shop-1.8"


def check_page(page: str, digest: str, before: str) -> None:
    """The page says what was tested, against what, and what changed."""
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "shop-1.8" in text and "1.8" in text.partition("Scope")[0]
    assert digest.removeprefix("sha256:") in text.partition("Scope")[0]
    assert f"shop:nightly {before} → 1.8" in text
    assert "all cold" in text


def test_the_days_of_a_release(shop: Shop) -> None:
    shop.ship("1.6")
    good_night(shop, 1)
    assert shop.run("runs", "tag", "latest", "v1.6").status == 0
    shop.ship("1.7", broken=f"{NEW}*")
    red_night(shop, 4, since=4, runs_ago=0)
    assert "shop:nightly: 1.6 " in shop.index, "what broke it"
    red_night(shop, 5, since=4, runs_ago=1)
    words = ("--reason", "no refunds until 1.8", "--by", "Ann", "--until", "2026-03-12")
    accepted = shop.run("accept", RED, *words, day=5)
    assert accepted.status == 0, accepted.text
    accepted_night(shop, 6, "accepted by Ann until 12 March 2026: no refunds until 1.8")
    refused = shop.run("signoff", "latest", "--release", "shop-1.7", day=6)
    assert (refused.status, FAILED in refused.text) == (2, True), refused.text
    digest = shop.ship("1.8")
    good_night(shop, 14)
    place = sign_off(shop, 14, digest, baseline="tag:v1.6")
    check_page((place / "signoff.html").read_text(encoding="utf-8"), digest, "1.6")


def finished_night(shop: Shop, day: int, began: int) -> None:
    """A night that only finishes the run of another."""
    night = shop.night(day)
    assert night.status == 0, night.text
    assert f"2026-03-{began:02}T02-" in night.text
    assert f"Newest: shop, {began} Mar 2026, 02:00 UTC: 2 as expected" in shop.index


def unfinished_morning(shop: Shop, day: int, state: str) -> None:
    """A morning without a result: no command says that the night was green, or that of the day before."""
    morning = shop.run(*WORSE, day=day)
    assert morning.status == 130, morning.text
    newest = shop.run("runs", "-n", "1", day=day).text.splitlines()[1]
    assert newest.startswith(f"2026-03-{day:02}T02-") and state in newest
    assert "not tested" in newest


def damaged_morning(shop: Shop, day: int) -> None:
    """The newest run's file is cut off: an error that names it, in all commands."""
    file = shop.newest / "run.json"
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[:-300], encoding="utf-8")
    for words in (WORSE, ("report", "latest"), ("signoff", "latest", "--release", "x")):
        said = shop.run(*words, day=day)
        assert (said.status, f"2026-03-{day:02}T02-" in said.text) == (2, True), said.text
    assert " damaged: run.json: " in shop.run("runs", "-n", "1", day=day).text
    file.write_text(whole, encoding="utf-8")


def test_a_month_of_nights(shop: Shop) -> None:
    """Thirty nights: the release's days, and nights that are interrupted, killed and damaged."""
    shop.ship("1.6")
    for day in (1, 2, 3):
        good_night(shop, day)
    assert shop.run("runs", "tag", "latest", "v1.6", day=3).status == 0
    shop.ship("1.7", broken=f"{NEW}*")
    for day in (4, 5):
        red_night(shop, day, since=4, runs_ago=day - 4)
    words = ("--reason", "no refunds until 1.8", "--by", "Ann", "--until", "2026-03-12")
    assert shop.run("accept", RED, *words, day=5).status == 0
    for day in range(6, 13):
        accepted_night(shop, day, "accepted by Ann until 12 March 2026: no refunds until 1.8")
    over = shop.night(13)
    assert (over.status, "was accepted by Ann until 12 March 2026" in over.text) == (1, True), over.text
    digest = shop.ship("1.8")
    good_night(shop, 14)
    place = sign_off(shop, 14, digest, baseline="tag:v1.6")
    check_page((place / "signoff.html").read_text(encoding="utf-8"), digest, "1.6")
    signed = shop.newest.name
    good_night(shop, 15)
    stopped = shop.night(16, "--deadline", "2s")
    assert (stopped.status, "interrupted, deadline of 2.0 s" in stopped.text) == (130, True), stopped.text
    unfinished_morning(shop, 16, "interrupted: deadline of 2.0 s")
    finished_night(shop, 17, began=16)
    shop.killed_night(18)
    unfinished_morning(shop, 18, "1 as expected, 1 not tested, interrupted: killed")
    finished_night(shop, 19, began=18)
    good_night(shop, 20)
    damaged_morning(shop, 20)
    for day in range(21, 31):
        good_night(shop, day)
    key = ("--key", str(shop.folder / "ed25519.pub"))
    assert shop.run("prune", "--keep", "5", day=30).status == 0
    kept = sorted(folder.name[8:10] for folder in shop.reports.glob("2026-03-*"))
    assert {"03", "14", *map(str, range(26, 31))} <= set(kept) and len(kept) < 12, kept
    assert shop.run("signoff", "verify", signed, *key, day=30).status == 0
    record = next((shop.reports / signed).rglob("record.json"))
    record.write_bytes(record.read_bytes().replace(b"pass", b"fail", 1))
    tampered = shop.run("signoff", "verify", signed, *key, day=30)
    assert (tampered.status, "record.json: changed" in tampered.text) == (1, True), tampered.text

"""The tested product in records, reports and sign-offs: packages, files and images with version and digest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootmatrix.assembly.image.builder import make_image as make_image_of
from bootmatrix.cli.main import main
from bootmatrix.model import Artefact, Component, ImageContents, Record, Verdict
from bootmatrix.model.contents import product_of
from bootmatrix.report.writer import write_reports
from image_maker import files, make_image, write_layout
from kitchen import PROFILES, Kitchen
from packages import Deb, entry
from samples import digest, green_records, make_record, write_dated, write_run
from signoff_fixtures import Tool, statement, written
from small_archive import SmallArchive

pytest_plugins = ("archive_fixtures", "kitchen", "signoff_fixtures")

SPEC = """
init: ["@pkg:./images/init"]
services:
  - name: server
    image: "@pkg:./images/server"
  - name: look
    image: "@pkg:./images/tools"
    annotations: {bootmatrix.check: 5s}
files:
  - {path: opt/signing, source: signing, mode: "0755"}
  - {path: etc/motd, contents: hello}
"""


def stocked(records: list[Record], version: str = "5:7.0.15-1") -> list[Record]:
    """Records of guests with a server in them."""
    parts = (
        Component(
            kind="package", name="redis-server", version=version, architecture="amd64", sha256=digest(version),
            is_named=True,
        ),
        Component(kind="package", name="libc6", version="2.36-9", architecture="amd64", sha256=digest("libc6")),
    )  # fmt: skip
    contents = (
        ImageContents(image="mine/redis", sha256=digest("redis"), roles=("services",), components=parts),
        ImageContents(image="mine/init", sha256=digest("init"), roles=("init",), components=parts[1:]),
    )
    return [
        record.model_copy(update={"bootable": record.bootable.model_copy(update={"contents": contents})})
        if record.bootable
        else record
        for record in records
    ]


def test_a_guest_knows_its_contents(kitchen: Kitchen, small: SmallArchive) -> None:
    small.add("bookworm", "server", "2.0-1", depends="library")
    small.add("bookworm", "library", "1.5-1")
    small.add("bookworm", "shell", "3-1")
    small.publish()
    mine = kitchen.deb("mine_9_amd64.deb", Deb("mine", "9", "amd64").of(entry("./usr/bin/mine", b"program")))
    kitchen.recipe("init", packages=["shell"], files=[{"path": "init", "contents": "#!/bin/sh"}])
    kitchen.recipe("tools", packages=["shell"], cmd=["/look"])
    where = kitchen.recipe(
        "server", packages=["server"], debs=[mine], cmd=["/run"],
        files=[{"path": "bin/prog", "source": "prog"}, {"path": "etc/conf", "source": "conf"}],
    )  # fmt: skip
    (where / "prog").write_bytes(b"\x7fELF program")
    (where / "conf").write_text("level=1")
    (kitchen.folder / "signing").write_text("#!/bin/sh\n")
    contents = kitchen.build(SPEC, kitchen.kernel()).contents
    assert [(image.image, image.roles) for image in contents] == [
        ("@pkg:./images/init", ("init",)),
        ("@pkg:./images/server", ("services",)),
        ("@pkg:./images/tools", ("checks",)),
        ("", ("files",)),
    ]
    server = contents[1]
    assert [(part.name, part.version, part.is_local) for part in server.named] == [
        ("server", "2.0-1", False),
        ("mine", "9", True),
        ("/bin/prog", "", True),
    ]
    assert [part.name for part in server.others] == ["library", "/etc/conf"]
    assert server.named[1].architecture == server.named[2].architecture == "amd64"
    assert [part.name for part in product_of(contents)] == ["server", "mine", "/bin/prog", "/opt/signing"]


def test_init_is_never_the_product() -> None:
    part = Component(kind="package", name="shell", sha256="0" * 64, is_named=True)
    used = (ImageContents(image="i", roles=("init", "services"), components=(part,)),)
    assert product_of(used) == ()


def test_the_product_is_first_on_the_page_and_a_subject(signing: Tool) -> None:
    folder = written(signing, stocked(green_records()))
    signing.make(folder)
    text = (folder / "signoff" / "influxdb-1.6.7" / "signoff.html").read_text()
    assert text.index("redis-server") < text.index("<h2>Scope")
    assert digest("5:7.0.15-1") in text
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement(folder)["subject"]}
    assert subjects["package redis-server 5:7.0.15-1 amd64"] == digest("5:7.0.15-1")
    others = {one["name"] for one in statement(folder)["predicate"]["configuration"]}
    assert "package libc6 2.36-9 amd64" in others
    assert not {name for name in others if "redis-server" in name}


def test_the_product_is_in_the_report_and_the_record(tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, stocked(green_records()))
    write_reports(run, folder)
    assert "Tested: <b>redis-server 5:7.0.15-1 (amd64, sha256 " in (folder / "report.html").read_text()
    record = json.loads(next(folder.rglob("record.json")).read_text())
    assert record["bootable"]["contents"][0]["components"][0]["name"] == "redis-server"
    assert f"libc6 2.36-9 (amd64, sha256 {digest('libc6')})" in next(folder.rglob("cell.html")).read_text()


def test_versions_since_the_baseline_in_words(signing: Tool) -> None:
    before = write_dated(signing.reports, 1, stocked(green_records()))
    now = signing.reports / write_dated(signing.reports, 2, stocked(green_records(), "5:7.0.16-1"))
    signing.make(now, "--baseline", before)
    text = (now / "signoff" / "influxdb-1.6.7" / "signoff.html").read_text()
    assert "redis-server 5:7.0.15-1 → 5:7.0.16-1; libc6 unchanged" in text


def shipped(version: str, name: str = "shop:1") -> list[Record]:
    """Records of guests with an image of a registry in them, whose label has its version."""
    image = Artefact(kind="image", name=name, path="/shop", sha256=digest(version), size_bytes=1)
    part = Component(kind="image", name=name, version=version, sha256=digest(version), is_named=True)
    contents = (ImageContents(image=name, sha256=digest(version), roles=("services",), components=(part,)),)
    return [
        record.model_copy(
            update={
                "artefacts": (*record.artefacts, image),
                "bootable": record.bootable.model_copy(update={"contents": contents}) if record.bootable else None,
            }
        )
        for record in green_records()
    ]


def test_versions_of_an_image_in_words(signing: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    """As a package's: a digest alone tells nobody which release came."""
    before = write_dated(signing.reports, 1, shipped("1.7"))
    now = signing.reports / write_dated(signing.reports, 2, shipped("1.8"))
    signing.make(now, "--baseline", before)
    text = (now / "signoff" / "influxdb-1.6.7" / "signoff.html").read_text()
    assert "<b>Since the baseline:</b> shop:1 1.7 → 1.8" in text
    assert "Changed inputs" not in text
    assert main(["compare", now.name, before, "--reports", str(signing.reports)]) == 0
    change = f"image shop:1: 1.7 {digest('1.7')[:12]} → 1.8 {digest('1.8')[:12]}"
    assert change in capsys.readouterr().out


def test_a_part_is_not_the_whole(signing: Tool) -> None:
    before = write_dated(signing.reports, 1, green_records())
    now = signing.reports / write_dated(signing.reports, 2, green_records()[:2])
    said = signing.make(now, "--baseline", before, status=2)
    assert "not-tested: 6 of the 8 cells of the baseline were not tested: influxdb/" in said
    signing.make(now, *("--baseline", before, "--accept", "*", "--reason", "x", "--by", "Ann"), status=2)
    said = signing.make(now, *("--baseline", before, "--accept", "not-tested", "--reason", "a patch", "--by", "Ann"))
    assert "WARNED" in said
    text = (now / "signoff" / "influxdb-1.6.7" / "signoff.html").read_text()
    assert "Passed 2 of the 8 cells of the baseline; 6 not tested." in text
    assert "All 2 cells passed" not in text
    assert statement(now)["predicate"]["result"] == "WARNED"


@pytest.mark.parametrize("how", ["skipped", "forked"])
def test_a_skipped_cell_is_not_tested_and_a_forked_one_is(signing: Tool, how: str) -> None:
    before = write_dated(signing.reports, 1, green_records())
    first, *rest = green_records()
    other = first.model_copy(update={"boot": "fork"})
    changed = make_record(first.cell, Verdict.SKIP, "no QEMU") if how == "skipped" else other
    now = signing.reports / write_dated(signing.reports, 2, [changed, *rest])
    said = signing.make(now, "--baseline", before, status=2 if how == "skipped" else 0)
    assert ("1 of the 8 cells of the baseline was not tested" in said) is (how == "skipped")


def test_cells_of_two_releases_are_signed_off_only_if_somebody_accepts_it(signing: Tool) -> None:
    """Runs of two releases can be merged: a pass of the older one must not pass for the newer."""
    records = green_records()
    older = stocked([one for one in records if one.cell.kernel == "6.1"], "5:7.0.14-1")
    folder = written(signing, [*older, *stocked([one for one in records if one.cell.kernel != "6.1"])])
    said = signing.make(folder, status=2)
    assert "mixed-products: cells of one spec tested different products: redis-server amd64: 5:7.0.14-1 and" in said
    signing.make(folder, "--accept", "*", "--reason", "x", "--by", "Ann", status=2)
    signing.make(folder, "--accept", "mixed-products", "--reason", "the same source", "--by", "Ann")


def test_a_version_by_a_label_has_a_length(kitchen: Kitchen) -> None:
    """It is in every record of a cell with the image."""
    labels = {"Labels": {"org.opencontainers.image.version": "1" * 100_000}}
    write_layout(kitchen.folder, make_image(files(hello="hello"), config=labels))
    image = make_image_of("oci:layout", kitchen.folder / "spec.yml", PROFILES["x86_64"], kitchen.builder)
    assert [len(part.version) for part in image.contents] == [256]

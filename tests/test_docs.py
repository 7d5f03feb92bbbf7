"""What the documentation tells people to write and type is right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bootmatrix.cli.main import COMMANDS, parser
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def blocks(path: Path) -> list[str]:
    """The YAML in a page."""
    return re.findall(r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def bootmatrix(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("bootmatrix")
    return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_the_documented_profile_is_one(tmp_path: Path) -> None:
    (tmp_path / "arch").mkdir()
    text = blocks(ROOT / "docs/add-an-architecture.md")[0]
    (tmp_path / "arch/i386.yml").write_text(text, encoding="utf-8")
    assert "i386" in bootmatrix(tmp_path, "arch").stdout
    done = bootmatrix(tmp_path, "plan", "hello", "--arch", "i386", "--kernel", "6.1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hello/i386/6.1" in done.stdout
    (tmp_path / "arch/i386.yml").write_text(text.replace("console:", "cosnole:"), encoding="utf-8")
    assert "Did you mean 'console'" in bootmatrix(tmp_path, "arch").stderr


def test_the_documented_matrix_is_one(tmp_path: Path) -> None:
    (matrix,) = (text for text in blocks(ROOT / "README.md") if text.startswith("specs:"))
    (tmp_path / "my.matrix.yml").write_text(matrix, encoding="utf-8")
    (tmp_path / "influxdb.yml").write_bytes((ROOT / "specs/influxdb.yml").read_bytes())
    done = bootmatrix(tmp_path, "plan", "my.matrix.yml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "influxdb/armv7/raspi2b/7.2  skipped: too slow for every night" in done.stdout
    assert "influxdb/ppc64le/7.2-64k  (expected not to pass: jemalloc on 64K pages)" in done.stdout


def test_the_documented_spec_is_one(tmp_path: Path) -> None:
    (spec,) = (text for text in blocks(ROOT / "README.md") if text.startswith("init:"))
    (tmp_path / "images").symlink_to(ROOT / "specs/images")
    (tmp_path / "ping.yml").write_text(spec, encoding="utf-8")
    done = bootmatrix(tmp_path, "validate", "ping.yml")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_documented_guests_that_are_not_ours_are_read(tmp_path: Path) -> None:
    texts = blocks(ROOT / "docs/verdicts.md")
    expect, guest = (next(text for text in texts if text.startswith(key)) for key in ("console:", "kernel:"))
    (tmp_path / "mine.guest.yml").write_text(guest, encoding="utf-8")
    for name in ("linuxkit-test.yml", "login.yml"):
        (tmp_path / name).write_text("init: []\n", encoding="utf-8")
    specs = "specs: [mine.guest.yml, linuxkit-test.yml, login.yml]\narch: [ppc64le]\nkernel: [7.2-64k]\n"
    (tmp_path / "my.matrix.yml").write_text(specs + expect, encoding="utf-8")
    done = bootmatrix(tmp_path, "plan", "my.matrix.yml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mine.guest/ppc64le/own" in done.stdout
    assert "login/ppc64le/7.2-64k  (expected not to pass: jemalloc on 64K pages)" in done.stdout


def test_the_kernels_in_the_documented_commands_are_there() -> None:
    """Also those of the archive that an architecture does not have: 64k pages of one, 16k of another."""
    profiles = load_profiles([CHECKOUT / "arch"])
    named = [
        (arch, kernel)
        for page in PAGES
        for arch, kernel in re.findall(r"--arch (\w+) --kernel ([\w.-]+)(?![\w,.-])", page.read_text(encoding="utf-8"))
    ]
    assert ("ppc64le", "7.2-64k") in named
    known = [one for one in named if one[0] in profiles and not one[1].isupper()]
    assert [one for one in known if re.fullmatch(r"\d.*", one[1]) and one[1] not in profiles[one[0]].kernels] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`bootmatrix {command}" in README


def test_the_readme_names_no_command_that_is_not_there() -> None:
    named = set(re.findall(r"(?:`|bin/)bootmatrix ([a-z-]+)", README))
    assert named <= set(COMMANDS)


def test_the_exit_statuses_are_those_of_the_help() -> None:
    table = re.findall(r"^\| (\d+) \| (.*) \|$", README, flags=re.MULTILINE)
    listed = re.findall(r"^ +(\d+) +(.*)$", parser().epilog or "", flags=re.MULTILINE)
    assert [number for number, _ in table] == [number for number, _ in listed] == ["0", "1", "2", "3", "130", "137"]
    for (number, meaning), (_, said) in zip(table, listed, strict=True):
        assert meaning.startswith(said), number


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_recipe_for_an_own_release_fits_the_shipped_image() -> None:
    """The line that sed replaces is there, once."""
    recipe = (ROOT / "specs/images/influxdb/build.yml").read_text(encoding="utf-8")
    assert len(re.findall(r"^packages:.*$", recipe, flags=re.MULTILINE)) == 1
    changed = re.sub(r"^packages:.*", 'debs: ["./influxdb_*_{debian_arch}.deb"]', recipe, flags=re.MULTILINE)
    assert yaml.safe_load(changed)["debs"] == ["./influxdb_*_{debian_arch}.deb"]
    assert '|debs: ["./influxdb_*_{debian_arch}.deb"]|' in README


def test_the_documented_catalogue_is_one(tmp_path: Path) -> None:
    (text,) = (text for text in blocks(ROOT / "docs/kernels.md") if "format: rpm-md" in text)
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels/mine.yml").write_text(text, encoding="utf-8")
    assert (
        "a kernel catalogue: 1 kernel of My distribution" in bootmatrix(tmp_path, "validate", "kernels/mine.yml").stdout
    )
    assert (
        "hello/x86_64/mine-9" in bootmatrix(tmp_path, "plan", "hello", "--arch", "x86_64", "--kernel", "mine-9").stdout
    )

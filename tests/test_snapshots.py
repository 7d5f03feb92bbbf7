"""Old kernels by a snapshot service: a small one of our own, over states of a signed archive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from archive_client import Opener
from bootmatrix.bisect.kernels import Question, prepare_search
from bootmatrix.errors import BootmatrixError, InputError, UntrustedError
from bootmatrix.load.catalogue import load_catalogue
from bootmatrix.load.data_paths import CHECKOUT, specs_folder
from bootmatrix.source.repositories.snapshots import _is_between
from kernel_forms import PROFILES
from small_archive import Signer, SmallArchive
from small_server import Server, serve

pytest_plugins = ("archive_fixtures", "command_line")

STATES = {
    "20230101T030000Z": ["6.1.1-1"],
    "20230201T030000Z": ["6.1.7-1"],
    "20230301T030000Z": ["6.2.1-1"],
    "20230302T030000Z": ["6.2.1-1", "6.2.4-1"],
    "20240101T030000Z": ["6.10.2-1"],
}
FIRST_SEEN = {
    "6.1.1-1": "20230101T030000Z",
    "6.1.7-1": "20230201T030000Z",
    "6.2.1-1": "20230301T030000Z",
    "6.2.4-1": "20230301T030000Z",  # a day before an index names it
    "6.10.2-1": "20240101T030000Z",
}


def image(version: str) -> str:
    return f"linux-image-{version}-cloud-amd64"


def answer(folder: Path, path: str, value: object) -> None:
    file = folder / "mr" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


@pytest.fixture
def service(tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A service, and a catalogue that names it."""
    monkeypatch.chdir(tmp_path)
    served = tmp_path / "served"
    with serve(served) as server:
        for time, versions in STATES.items():
            archive = SmallArchive(served / "archive/debian" / time, signer)
            for version in versions:
                archive.add("sid", image(version), version, depends=f"linux-binary-{version}-cloud-amd64 (= {version})")
                archive.add("sid", f"linux-binary-{version}-cloud-amd64", version)
            archive.expire("sid")
            archive.publish()
        answers(served)
        shipped = yaml.safe_load((CHECKOUT / "kernels/debian-snapshot.yml").read_text())
        text = yaml.safe_dump({**shipped, "keys": {"files": [str(signer.keyring)]}})
        (tmp_path / "kernels").mkdir()
        own = text.replace("https://snapshot.debian.org", server.address)
        (tmp_path / "kernels/debian-snapshot.yml").write_text(own)
        yield server


def answers(served: Path) -> None:
    """Write what the service says; the server takes a path's index from the file of that name."""
    signed = [version.replace("-", "+") for version in FIRST_SEEN]
    answer(served, "package/linux-signed-amd64/index.html", {"result": [{"version": version} for version in signed]})
    for version, time in FIRST_SEEN.items():
        names = [image(version), f"{image(version)}-dbg", f"linux-image-{version}-amd64", "linux-headers"]
        built = [{"name": name, "version": version} for name in names]
        answer(served, f"package/linux-signed-amd64/{version.replace('-', '+')}/binpackages", {"result": built})
        files = [{"architecture": "arm64", "hash": "b"}, {"architecture": "amd64", "hash": "a"}]
        seen = [
            {"archive_name": "debian-ports", "first_seen": "20200101T000000Z"},
            {"archive_name": "debian", "first_seen": time},
        ]
        answer(
            served, f"binary/{image(version)}/{version}/binfiles?fileinfo=1", {"result": files, "fileinfo": {"a": seen}}
        )


def ask(opened: Opener, good: str, bad: str) -> list[str]:
    question = Question(specs_folder() / "hello.yml", "x86_64", good, bad, "sid-cloud", "debian-snapshot")
    return [step.version for step in prepare_search(question, PROFILES, opened()).state.steps]


def test_the_shipped_catalogue() -> None:
    catalogue = load_catalogue(CHECKOUT / "kernels/debian-snapshot.yml")
    assert set(catalogue.kernels) == {"sid-plain", "sid-cloud", "sid-armmp", "sid-powerpc64le"}


def test_kernels_between_two_versions(service: Server, opened: Opener) -> None:
    assert ask(opened, "6.1.7", "6.10") == ["6.1.7-1", "6.2.1-1", "6.2.4-1", "6.10.2-1"]
    assert ask(opened, "6.10", "6.2.4") == ["6.10.2-1", "6.2.4-1"]
    assert service.count("6.1.1-1/binfiles?fileinfo=1") == 0
    assert not any("dists" in path for path, _ in service.requests), "no index is read before a boot"
    ask(opened, "6.1.7", "6.10")
    assert service.count("6.2.1-1/binfiles?fileinfo=1") == 1, "answers are kept"


@pytest.mark.parametrize(("version", "states"), [("6.2.1-1", 1), ("6.2.4-1", 2)])
def test_a_kernel_comes_from_a_signed_state(service: Server, opened: Opener, version: str, states: int) -> None:
    question = Question(specs_folder() / "hello.yml", "x86_64", "6.1.1", "6.10", "sid-cloud", "debian-snapshot")
    archive = opened()
    source = prepare_search(question, PROFILES, archive).profiles["x86_64"].catalogue[version]
    parts = archive.repositories.parts(source, "amd64")
    assert [re.search(r"pool/main/(.*)_", part.url or "").group(1) for part in parts] == [  # type: ignore[union-attr]
        f"{image(version)}_{version}",
        f"linux-binary-{version}-cloud-amd64_{version}",
    ]
    assert len({path for path, _ in service.requests if path.endswith("InRelease")}) == states


def test_a_service_that_lies(service: Server, opened: Opener) -> None:
    """Its answers lead to states; what these have is signed, or not used."""
    answer(
        service.root,
        f"binary/{image('6.2.1-1')}/6.2.1-1/binfiles?fileinfo=1",
        {
            "result": [{"architecture": "amd64", "hash": "a"}],
            "fileinfo": {"a": [{"archive_name": "debian", "first_seen": "20230101T030000Z"}]},
        },
    )
    question = Question(specs_folder() / "hello.yml", "x86_64", "6.1.1", "6.10", "sid-cloud", "debian-snapshot")
    archive = opened()
    source = prepare_search(question, PROFILES, archive).profiles["x86_64"].catalogue["6.2.1-1"]
    with pytest.raises(BootmatrixError) as refused:
        archive.repositories.parts(source, "amd64")
    assert not isinstance(refused.value, UntrustedError)
    inrelease = service.root / "archive/debian/20230201T030000Z/dists/sid/InRelease"
    inrelease.write_text(inrelease.read_text().replace("Origin: Debian", "Origin: Other"))
    source = prepare_search(question, PROFILES, archive).profiles["x86_64"].catalogue["6.1.7-1"]
    with pytest.raises(UntrustedError):
        archive.repositories.parts(source, "amd64")


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"result": [{"version": "../../x"}]},
        {"result": "x"},
        {"result": [{"version": ":"}]},
    ],
)
def test_answers_that_are_none(service: Server, opened: Opener, value: object) -> None:
    answer(service.root, "package/linux-signed-amd64/index.html", value)
    with pytest.raises(UntrustedError, match="not an answer of a snapshot service"):
        ask(opened, "6.1.7", "6.10")


def test_a_time_that_is_none(service: Server, opened: Opener) -> None:
    answer(
        service.root,
        f"binary/{image('6.2.1-1')}/6.2.1-1/binfiles?fileinfo=1",
        {
            "result": [{"architecture": "amd64", "hash": "a"}],
            "fileinfo": {"a": [{"archive_name": "debian", "first_seen": "99999999T999999Z"}]},
        },
    )
    with pytest.raises(UntrustedError, match="not an answer of a snapshot service"):
        ask(opened, "6.1.7", "6.10")


def test_a_version_that_is_none(service: Server, opened: Opener) -> None:
    with pytest.raises(InputError, match="'6 1' is not a version"):
        ask(opened, "6 1", "6.10")


def test_versions_between() -> None:
    inside = ["6.1.7-1", "6.1.7+1", "6.2~rc1-1", "6.9-1", "6.10.2-1", "6.10-1"]
    outside = ["6.1.6-1", "6.1.70-1~x", "6.11-1", "6.100-1"]
    assert [version for version in inside if not _is_between(version, "6.10", "6.1.7")] == []
    assert [version for version in outside if _is_between(version, "6.1.7", "6.10")] == ["6.1.70-1~x"]

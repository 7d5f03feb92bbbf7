"""Where the archive is, and how far it is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import HostError, InputError
from bootmatrix.source.settings import DEFAULT_ADDRESS, KEYRINGS, Settings

MODERN = """\
# a comment
Types: deb deb-src
URIs: https://security.example/debian-security https://other.example/ubuntu
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: https://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: https://source.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: https://modern.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYyW
 -----END PGP PUBLIC KEY BLOCK-----
"""
ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb cdrom:[Debian 12]/debian bookworm main
deb http://backports.example/debian bookworm-backports contrib
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://classic.example/pub/debian bookworm main # why
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's apt sources, none as yet."""
    monkeypatch.delenv("BOOTMATRIX_ARCHIVE", raising=False)
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def address(apt: Path, explicit: str | None = None) -> str:
    return Settings(explicit, apt=apt).address


def test_the_address_of_modern_sources(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(MODERN)
    assert address(apt) == "https://modern.example/debian"


def test_the_address_of_one_line_sources(apt: Path) -> None:
    (apt / "sources.list").write_text(ONE_LINE)
    (apt / "sources.list.d/debian.sources").write_text(MODERN)
    assert address(apt) == "http://classic.example/pub/debian"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"deb", b"Types deb\n\n::\n", b"deb [ http://x/debian y main\n"])
def test_sources_that_say_nothing_of_debian(apt: Path, content: bytes) -> None:
    for name in ("sources.list", "sources.list.d/a.sources", "sources.list.d/b.list", "sources.list.d/c.save"):
        (apt / name).write_bytes(content)
    assert address(apt) == DEFAULT_ADDRESS


def test_a_host_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOOTMATRIX_ARCHIVE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = Settings(apt=tmp_path / "none")
    assert (settings.address, settings.proxy, settings.checks_valid_until) == (DEFAULT_ADDRESS, None, True)


def test_an_address_that_was_given_comes_first(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (apt / "sources.list").write_text(ONE_LINE)
    monkeypatch.setenv("BOOTMATRIX_ARCHIVE", "http://environment.example/debian/")
    assert address(apt) == "http://environment.example/debian"
    assert address(apt, "http://argument.example/x/") == "http://argument.example/x"


@pytest.mark.parametrize("wrong", ["file:///srv/debian", "debian", "http://", "ftp://x/debian"])
def test_an_address_that_is_none(apt: Path, wrong: str) -> None:
    with pytest.raises(InputError, match="is not an HTTP address"):
        address(apt, wrong)


def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conf: str) -> Settings:
    (tmp_path / "apt.conf").write_text(f'Dir::Etc::Main "/nonexistent"; Dir::Etc::Parts "/nonexistent";\n{conf}')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Settings("http://mirror.example/debian")


@pytest.mark.parametrize(
    ("conf", "proxy"),
    [
        ("", None),
        ('Acquire::http::Proxy "http://proxy.example:3142";', "http://proxy.example:3142"),
        ('acquire { HTTP { proxy "http://proxy.example:3142"; }; };', "http://proxy.example:3142"),
        ('Acquire::http::Proxy "http://p:1"; Acquire::http::Proxy::mirror.example "DIRECT";', None),
        ('Acquire::http::Proxy::other.example "http://p:1";', None),
    ],
)
def test_apts_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conf: str, proxy: str | None) -> None:
    assert configured(tmp_path, monkeypatch, conf).proxy == proxy


def test_the_environments_proxy_counts_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = configured(tmp_path, monkeypatch, 'Acquire::http::Proxy "http://apt.example:3142";')
    monkeypatch.setenv("no_proxy", "localhost")
    assert settings.proxy == "http://apt.example:3142"
    monkeypatch.setenv("http_proxy", "http://environment.example:8080")
    assert settings.proxy is None, "httpx reads the environment itself"


@pytest.mark.parametrize(("value", "checked"), [("true", True), ("false", False), ("0", False), ("No", False)])
def test_valid_until_is_checked_as_apt_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, checked: bool
) -> None:
    settings = configured(tmp_path, monkeypatch, f'Acquire::Check-Valid-Until "{value}";')
    assert settings.checks_valid_until is checked


def test_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOOTMATRIX_KEYRING", raising=False)
    assert Settings().keyring in KEYRINGS
    (tmp_path / "keys.gpg").write_bytes(b"")
    monkeypatch.setenv("BOOTMATRIX_KEYRING", str(tmp_path / "keys.gpg"))
    assert Settings().keyring == tmp_path / "keys.gpg"
    monkeypatch.setenv("BOOTMATRIX_KEYRING", str(tmp_path / "none.gpg"))
    with pytest.raises(HostError, match=r"none\.gpg"):
        _ = Settings().keyring

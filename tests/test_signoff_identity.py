"""Sign-offs by an identity in place of a key, with a sigstore instance of our own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.signoff.identity import TOKEN
from bootmatrix.signoff.verify import BUNDLE_FILE
from signoff_fixtures import RELEASE, Tool, green, signing, write_keys
from sigstore_instance import ISSUER, Instance, sigstore_instance, token_for

__all__ = ["green", "signing"]
ANN = "ann@example.org"


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with sigstore_instance() as running:
        yield running


@pytest.fixture
def trust(instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(TOKEN, token_for(ANN))
    file = tmp_path / "trust.json"
    file.write_text(json.dumps(instance.trust()), encoding="utf-8")
    return file


def test_a_run_is_signed_by_an_identity_and_verified_without_a_service(
    signing: Tool, green: Path, trust: Path, tmp_path: Path
) -> None:
    told = signing.make(green, "--sign-identity", "--sigstore-trust", trust)
    assert "not signed" not in told and BUNDLE_FILE in told
    who = ("--identity", ANN, "--issuer", ISSUER)
    report = green / "signoff" / RELEASE / "report.html"
    assert f"signed by {ANN}. " in report.read_text(encoding="utf-8")
    root = tmp_path / "root.json"  # of an instance that is gone
    trusted = json.loads(trust.read_text(encoding="utf-8"))["trustedRoot"]
    trusted["tlogs"][0]["baseUrl"] = "http://127.0.0.1:9"
    root.write_text(json.dumps(trusted), encoding="utf-8")
    for file in (trust, root):
        for what in (green, report):
            told = signing("verify", what, *who, "--sigstore-trust", file)
            assert "PASSED" in told and f"signed by {ANN} ({ISSUER})" in told
    for wrong in (
        ("--identity", "bob@example.org", "--issuer", ISSUER),
        ("--identity", ANN, "--issuer", "https://x.org"),
    ):
        assert "not signed by" in signing("verify", green, *wrong, "--sigstore-trust", trust, status=1)
        assert "not signed by" in signing("verify", report, *wrong, "--sigstore-trust", trust, status=1)
    assert "not signed by" in signing("verify", green, *who, status=1), "the public instance knows nothing of it"


def test_changes_after_the_signature_are_found(signing: Tool, green: Path, trust: Path) -> None:
    signing.make(green, "--sign-identity", "--sigstore-trust", trust)
    who = ("--identity", ANN, "--issuer", ISSUER, "--sigstore-trust", trust)
    junit = green / "junit.xml"
    junit.write_text(junit.read_text(encoding="utf-8").replace("pass", "past", 1) + " ", encoding="utf-8")
    assert "junit.xml: changed" in signing("verify", green, *who, status=1)
    bundle = green / "signoff" / RELEASE / BUNDLE_FILE
    value = json.loads(bundle.read_text(encoding="utf-8"))
    payload = value["dsseEnvelope"]["payload"]
    value["dsseEnvelope"]["payload"] = payload[:-8] + ("A" if payload[-8] != "A" else "B") + payload[-7:]
    bundle.write_text(json.dumps(value), encoding="utf-8")
    assert "not signed by" in signing("verify", green, *who, status=1)
    bundle.write_text("{}", encoding="utf-8")
    assert "not signed by" in signing("verify", green, *who, status=1)


def test_a_bundle_beside_the_statement_is_verified_too(signing: Tool, green: Path, trust: Path) -> None:
    """As `cosign sign-blob` writes it."""
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken
    from sigstore.sign import SigningContext

    signing.make(green)
    place = green / "signoff" / RELEASE
    context = SigningContext.from_trust_config(ClientTrustConfig.from_json(trust.read_text(encoding="utf-8")))
    with context.signer(IdentityToken(token_for(ANN))) as signer:
        bundle = signer.sign_artifact((place / "attestation.json").read_bytes())
    (place / BUNDLE_FILE).write_text(bundle.to_json(), encoding="utf-8")
    who = ("--identity", ANN, "--issuer", ISSUER, "--sigstore-trust", trust)
    assert "PASSED" in signing("verify", green, *who)
    statement = place / "attestation.json"
    statement.write_text(statement.read_text(encoding="utf-8").replace("PASSED", "WARNED"), encoding="utf-8")
    assert "not signed by" in signing("verify", green, *who, status=1)


def test_what_is_wrong_is_said_before_anything_is_written(
    signing: Tool, green: Path, trust: Path, instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = ("--sign-identity", "--sigstore-trust", trust)
    instance.refuses = 503
    assert "sigstore did not sign" in signing.make(green, *sign, status=3)
    instance.refuses = 0
    monkeypatch.setenv(TOKEN, token_for(ANN, exp=1))
    assert "expired" in signing.make(green, *sign, status=2)
    monkeypatch.setenv(TOKEN, "")
    assert "no identity token" in signing.make(green, *sign, status=2)
    monkeypatch.setenv(TOKEN, token_for(ANN))
    trust.write_text("{}", encoding="utf-8")
    assert "trust.json" in signing.make(green, *sign, status=2)
    private, _ = write_keys(tmp_path)
    assert "cannot be combined" in signing.make(green, *sign, "--sign-key", private, status=2)
    assert not (green / "signoff" / RELEASE).exists()
    signing.make(green)
    assert "belong together" in signing("verify", green, "--identity", ANN, status=2)

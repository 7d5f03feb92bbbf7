"""A sigstore instance of our own on the loopback: certificate authority, its log, and the log of signatures.

The certificates, timestamps, proofs and checkpoints are real ones, of new keys.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from typing import Any

import jwt
import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from small_server import QuietHandler

ISSUER = "https://accounts.example.org"
SCT_LIST, ISSUER_OID = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
SECRET = "a secret of the identity provider, of 32 bytes or more"


def token_for(name: str, **claims: object) -> str:
    """Make a token of an identity, as a provider of identities does."""
    now = int(time.time())
    values = {"iss": ISSUER, "sub": name, "aud": "sigstore", "iat": now, "nbf": now - 5, "exp": now + 600}
    return jwt.encode({**values, **claims}, SECRET, "HS256")


class Instance:
    """The services' keys, and what they answer."""

    def __init__(self) -> None:
        self._ca, self._certificate_log, self._log = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
        now = datetime.now(UTC)
        self._root = (
            x509.CertificateBuilder(name, name, self._ca.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._ca.public_key()), critical=False)
            .sign(self._ca, SHA256())
        )
        self.address = ""
        self.refuses = 0

    def answer(self, path: str, token: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request of a client."""
        if path == "/api/v2/signingCert":
            claims = jwt.decode(token, SECRET, ["HS256"], audience="sigstore")
            certificates = [self._certify(claims["sub"], request), self._root]
            pem = [entry.public_bytes(Encoding.PEM).decode() for entry in certificates]
            return {"signedCertificateEmbeddedSct": {"chain": {"certificates": pem}}}
        return self._logged(request)

    def _certify(self, name: str, request: dict[str, Any]) -> x509.Certificate:
        csr = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder(self._root.subject, x509.Name([]), csr.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=1))
            .not_valid_after(now + timedelta(minutes=10))
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(name)]), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca.public_key()), critical=False)
            .add_extension(x509.UnrecognizedExtension(ISSUER_OID, ISSUER.encode()), critical=False)
        )
        body = builder.sign(self._ca, SHA256()).tbs_certificate_bytes
        moment = int(time.time() * 1000)
        entry = _digest(_public(self._ca)) + struct.pack("!I", len(body))[1:] + body
        signed = self._certificate_log.sign(struct.pack("!BBQH", 0, 0, moment, 1) + entry + b"\0\0", ec.ECDSA(SHA256()))
        sct = (
            struct.pack("!B", 0)
            + _digest(_public(self._certificate_log))
            + struct.pack("!QHBBH", moment, 0, 4, 3, len(signed))
        )
        sct += signed
        listed = struct.pack("!HH", len(sct) + 2, len(sct)) + sct
        extension = x509.UnrecognizedExtension(SCT_LIST, b"\x04" + _der_length(len(listed)) + listed)
        return builder.add_extension(extension, critical=False).sign(self._ca, SHA256())

    def _logged(self, request: dict[str, Any]) -> dict[str, Any]:
        """Log an entry: the only one of a tree of its own."""
        body = rfc8785.dumps(request if request["kind"] == "hashedrekord" else _dsse_entry(request))
        log_id = _digest(_public(self._log))
        root = _digest(b"\0" + body)
        note = f"log of the tests\n1\n{base64.b64encode(root).decode()}\n"
        mark = base64.b64encode(log_id[:4] + self._log.sign(note.encode(), ec.ECDSA(SHA256()))).decode()
        entry: dict[str, Any] = {
            "body": base64.b64encode(body).decode(),
            "integratedTime": int(time.time()),
            "logID": log_id.hex(),
            "logIndex": 0,
        }
        promise = base64.b64encode(self._log.sign(rfc8785.dumps(entry), ec.ECDSA(SHA256()))).decode()
        proof = {
            "logIndex": 0,
            "treeSize": 1,
            "hashes": [],
            "rootHash": root.hex(),
            "checkpoint": f"{note}\n— log {mark}\n",
        }
        return {"0": {**entry, "verification": {"inclusionProof": proof, "signedEntryTimestamp": promise}}}

    def trust(self) -> dict[str, Any]:
        """Return the trust configuration that clients of the instance need."""
        kinds = {"mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"}
        valid = {"start": "2020-01-01T00:00:00Z"}
        service = {"url": self.address, "majorApiVersion": 1, "validFor": valid, "operator": "tests"}
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._log_of(self._log, valid)],
            "ctlogs": [self._log_of(self._certificate_log, valid)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "tests", "commonName": "tests"},
                    "uri": self.address,
                    "certChain": {"certificates": [{"rawBytes": _text(self._root.public_bytes(Encoding.DER))}]},
                    "validFor": valid,
                }
            ],
            "timestampAuthorities": [],
        }
        services = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service],
            "oidcUrls": [service],
            "rekorTlogUrls": [service],
            "tsaUrls": [],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        }
        return {**kinds, "trustedRoot": root, "signingConfig": services}

    def _log_of(self, key: ec.EllipticCurvePrivateKey, valid: dict[str, str]) -> dict[str, Any]:
        public = _public(key)
        details = {"rawBytes": _text(public), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid}
        return {
            "baseUrl": self.address,
            "hashAlgorithm": "SHA2_256",
            "publicKey": details,
            "logId": {"keyId": _text(_digest(public))},
        }


def _dsse_entry(request: dict[str, Any]) -> dict[str, Any]:
    content = request["spec"]["proposedContent"]
    envelope = json.loads(content["envelope"])
    signature = {"signature": envelope["signatures"][0]["sig"], "verifier": content["verifiers"][0]}
    digests = {"envelopeHash": content["envelope"].encode(), "payloadHash": base64.b64decode(envelope["payload"])}
    hashes = {name: {"algorithm": "sha256", "value": _digest(data).hex()} for name, data in digests.items()}
    return {"apiVersion": "0.0.1", "kind": "dsse", "spec": {**hashes, "signatures": [signature]}}


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature, False, False, False, False, key_cert_sign, False, False, False)


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _der_length(length: int) -> bytes:
    return bytes([length]) if length < 128 else b"\x81" + bytes([length])


@contextmanager
def sigstore_instance() -> Iterator[Instance]:
    """Run an instance."""
    instance = Instance()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = str(self.headers.get("Authorization", "")).removeprefix("Bearer ")
            try:
                status, answer = instance.refuses or 201, instance.answer(self.path, token, data)
            except jwt.InvalidTokenError as error:
                status, answer = 401, {"message": str(error)}
            self.send_whole(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        instance.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield instance
        finally:
            server.shutdown()

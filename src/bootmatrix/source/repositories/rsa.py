"""RSA signatures of apk indexes, apart: cryptography imports slowly."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key


def is_signed(data: bytes, kind: str, key: bytes, signature: bytes) -> bool:
    """Return whether an RSA key signed data (PKCS #1 v1.5), by its digest."""
    digests = {"RSA": hashes.SHA1(), "RSA256": hashes.SHA256(), "RSA512": hashes.SHA512()}  # noqa: S303
    try:
        public = load_pem_public_key(key)
        if not isinstance(public, rsa.RSAPublicKey):
            return False
        public.verify(signature, data, padding.PKCS1v15(), digests[kind])
    except (InvalidSignature, ValueError):
        return False
    return True

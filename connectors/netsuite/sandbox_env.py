"""How a hub reaches the NetSuite simulator: made-up credentials, the private key derived, never stored."""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

ACCOUNT = "TSTDRV1234567"
CLIENT_ID = "billing-hub-sandbox-client"
CERTIFICATE_ID = "billing-hub-sandbox-certificate"
TBA = {
    "consumer_key": "sandbox-consumer-key",
    "consumer_secret": "sandbox-consumer-secret",
    "token_id": "sandbox-token-id",
    "token_secret": "sandbox-token-secret",
}


def _key() -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(sha256(b"billing-hub sandbox netsuite").digest()) % 2**255 + 1
    return ec.derive_private_key(number, ec.SECP256R1())


def private_pem() -> str:
    return _key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem() -> str:
    """What would be uploaded as a certificate."""
    return _key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def environment(base_url: str) -> dict[str, str]:
    """`HUB_NETSUITE_*` for a simulator served at `base_url`, e.g. `http://127.0.0.1:9700/netsuite`; OAuth 2.0."""
    return {
        "HUB_NETSUITE_ACCOUNT": ACCOUNT,
        "HUB_NETSUITE_AUTH": "oauth2",
        "HUB_NETSUITE_CLIENT_ID": CLIENT_ID,
        "HUB_NETSUITE_CERTIFICATE_ID": CERTIFICATE_ID,
        "HUB_NETSUITE_PRIVATE_KEY": private_pem(),
        "HUB_NETSUITE_BASE_URL": base_url,
    }

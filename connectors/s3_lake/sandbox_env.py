"""How a hub reaches the lake of the sandbox."""

from __future__ import annotations

BUCKET = "billing-hub-lake"


def environment(base_url: str) -> dict[str, str]:
    """The `HUB_*` variables for S3 served at `base_url`, e.g. `http://127.0.0.1:9700/s3`. The keys open nothing."""
    return {
        "HUB_S3_ENDPOINT_URL": base_url,
        "HUB_LAKE_BUCKET": BUCKET,
        "HUB_LAKE_ACCESS_KEY_ID": "sandbox",
        "HUB_LAKE_SECRET_ACCESS_KEY": "sandbox",
    }

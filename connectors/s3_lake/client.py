"""boto3, tamed: one client, every limit written out, no global session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from connectors.s3_lake.settings import S3LakeSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 2
"""One batch is written at a time (`slots`=1); the second thread is for a `ping` meanwhile."""


def connect(settings: S3LakeSettings) -> S3Client:
    """An S3 client; no network. boto3 clients may be shared by threads, sessions may not: this one has its own."""
    key, secret = settings.lake_access_key_id, settings.lake_secret_access_key
    session = boto3.session.Session(
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        region_name=settings.lake_region,
    )
    config = Config(
        connect_timeout=5,
        read_timeout=20,
        # Two tries here and the hub's own backoff above them: the slowest send stays under the lease.
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=THREADS + 2,
        s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
    )
    return session.client("s3", endpoint_url=settings.s3_endpoint_url, config=config)

"""Reading the lake back, for tie-outs: which events are in it, and how often each."""

from __future__ import annotations

import io
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from connectors.s3_lake.sandbox_env import BUCKET, environment

if TYPE_CHECKING:
    import boto3


def event_ids(content: bytes) -> list[str]:
    """The `event_id` column of one Parquet object, in row order. Raises pyarrow's error if it is none."""
    import pyarrow.parquet as pq

    column = pq.read_table(io.BytesIO(content), columns=["event_id"])["event_id"]
    return [str(value) for value in column.to_pylist()]


def lake_events(endpoint_url: str, *, bucket: str = BUCKET, prefix: str = "") -> Counter[str]:
    """Event id -> number of rows that have it, over all Parquet objects below `prefix`. Every count should be 1.

    `endpoint_url`: S3 of a running sandbox, e.g. `http://127.0.0.1:9700/s3`. Reads through boto3, as a stranger would;
    blocking. Raises botocore's errors.
    """
    from botocore.config import Config

    keys = environment(endpoint_url)
    client = _session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=keys["HUB_LAKE_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["HUB_LAKE_SECRET_ACCESS_KEY"],
        config=Config(connect_timeout=5, read_timeout=30, s3={"addressing_style": "path"}),
    )
    found: Counter[str] = Counter()
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for listed in page.get("Contents", ()):
                if listed["Key"].endswith(".parquet"):
                    content = client.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read()
                    found.update(event_ids(content))
    finally:
        client.close()
    return found


@cache
def _session() -> boto3.session.Session:
    """One for all readings, of which there is one at a time: a new one reads what AWS says of its services again."""
    import boto3

    return boto3.session.Session()

"""S3 of the sandbox through boto3, under its path prefix: conditional writes, odd keys, faults, state, reset."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from connectors.s3_lake.sandbox_env import BUCKET, environment
from connectors.sandbox.app import create
from connectors.sandbox.s3 import S3Simulator
from tests.serving import served

KEY = "live/events/v1/dt=2026-11-20/lane=00/a+b c%41ü.parquet"


@pytest.fixture(scope="module")
def served_s3() -> Iterator[tuple[str, Any]]:
    sandbox = create(clock=time.time, simulators={"s3": S3Simulator(clock=time.time)})
    with served(sandbox) as url:
        env = environment(f"{url}/s3")
        config = Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "total_max_attempts": 1})
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=env["HUB_S3_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id=env["HUB_LAKE_ACCESS_KEY_ID"],
            aws_secret_access_key=env["HUB_LAKE_SECRET_ACCESS_KEY"],
            config=config,
        )
        yield url, client
        client.close()


@pytest.fixture
def url(served_s3: tuple[str, Any]) -> str:
    httpx.post(f"{served_s3[0]}/__sandbox/reset", timeout=30).raise_for_status()
    return served_s3[0]


@pytest.fixture
def s3(served_s3: tuple[str, Any], url: str) -> Any:
    return served_s3[1]


def fault(url: str, **action: Any) -> None:
    asked = {"vendor": "s3", "match": {"method": "PUT"}, "action": action}
    httpx.post(f"{url}/__sandbox/faults", json=asked).raise_for_status()


def test_the_bucket_is_there_and_keys_survive_the_prefix(s3: Any) -> None:
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"one", Metadata={"hub-sha256": "abc"})
    assert [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET, Prefix="live/events/")["Contents"]] == [KEY]
    got = s3.get_object(Bucket=BUCKET, Key=KEY)
    assert (got["Body"].read(), got["Metadata"]) == (b"one", {"hub-sha256": "abc"})


def test_a_conditional_write_creates_only_once(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"one", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"two", IfNoneMatch="*")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"one"


@pytest.mark.parametrize(("kind", "status", "code"), [("limit", 503, "SlowDown"), ("expired", 400, "ExpiredToken")])
def test_refusals_are_s3s_own(s3: Any, url: str, kind: str, status: int, code: str) -> None:
    fault(url, kind=kind)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"one")
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


def test_a_lost_reply_is_applied(s3: Any, url: str) -> None:
    fault(url, kind="lost_reply")
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"one")
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"one"


def test_state_lists_objects_and_counts_nothing_in_an_empty_lake(s3: Any, url: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="notes.txt", Body=b"12345", Metadata={"a": "b"})
    assert httpx.get(f"{url}/__sandbox/state/s3", timeout=30).json() == {
        "buckets": [BUCKET],
        "objects": [{"bucket": BUCKET, "key": "notes.txt", "size": 5, "metadata": {"a": "b"}}],
        "lake": {"objects": 0, "rows": 0, "events": 0},
    }


def test_reset_leaves_one_empty_bucket(s3: Any, url: str) -> None:
    s3.create_bucket(Bucket="another")
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"one")
    httpx.post(f"{url}/__sandbox/reset", timeout=30).raise_for_status()
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)

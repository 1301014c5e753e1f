"""The lake against moto over real HTTP, through boto3: write once, repeat, meet a stranger, race, read back."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import boto3
import httpx
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from botocore.config import Config
from pydantic import SecretStr, ValidationError

from connectors.s3_lake.destination import create
from connectors.s3_lake.sandbox_env import BUCKET, environment
from connectors.s3_lake.settings import S3LakeSettings
from connectors.sandbox.app import create as create_sandbox
from connectors.sandbox.lake import lake_events
from connectors.sandbox.s3 import S3Simulator
from hub.destination import LogDestination
from hub.errors import Defer, OutcomeError, Receipt, Reject, Retry
from hub.model import Batch, Event, EventKind, Job
from tests.serving import served

DAY = "2026-11-20"
KEY = "live/events/v1/dt=2026-11-20/lane=00/0000000000000011-0000000000000013.parquet"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[tuple[str, S3Simulator]]:
    s3 = S3Simulator(clock=time.time)
    with served(create_sandbox(clock=time.time, simulators={"s3": s3})) as url:
        yield url, s3


@pytest.fixture
def url(sandbox: tuple[str, S3Simulator]) -> str:
    httpx.post(f"{sandbox[0]}/__sandbox/reset", timeout=30).raise_for_status()
    return sandbox[0]


def settings(url: str, **changes: Any) -> S3LakeSettings:
    given = {name.removeprefix("HUB_").lower(): value for name, value in environment(f"{url}/s3").items()}
    return S3LakeSettings(**{**given, "lake_prefix": "live", **changes})


@cache
def client(url: str) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=f"{url}/s3",
        region_name="us-east-1",
        aws_access_key_id="other",
        aws_secret_access_key="other",
        config=Config(s3={"addressing_style": "path"}),
    )


def event(seq: int, **changes: Any) -> Event:
    body = f'{{"id":"evt_{seq}","type":"invoice.paid","note":"Müller ☂ {seq}"}}'.encode()
    base = Event(
        id=f"evt_{seq}",
        kind=EventKind.SNAPSHOT,
        type="invoice.paid",
        body=body,
        created=datetime(2026, 11, 19, 23, 59, 59, tzinfo=UTC),
        received_at=datetime(2026, 11, 20, 0, 0, 1, 250_000, tzinfo=UTC),
        account="acct_1",
        api_version="2026-10-28.endive",
        livemode=False,
        object_type="invoice",
        object_id="in_1",
        rank=2,
        seq=seq,
    )
    return dataclasses.replace(base, **changes)


def batch(*events: Event, **changes: Any) -> Batch:
    events = events or (event(13), event(11), event(12))
    jobs = tuple(Job(e.seq * 10, e) for e in events)
    first, last = min(e.seq for e in events), max(e.seq for e in events)
    return dataclasses.replace(Batch(5, "00", DAY, first, last, jobs), **changes)


async def send(url: str, what: Batch, **changes: Any) -> Any:
    return await lake_of(url, changes.get("lake_bucket", BUCKET)).send_batch(what)


@cache
def lake_of(url: str, bucket: str) -> LogDestination:
    """Making a boto3 client costs a quarter of a second; a hub makes one, and so do these tests."""
    return create(settings(url, lake_bucket=bucket))


async def test_writes_one_object_and_answers_with_its_link(url: str) -> None:
    outcome = await send(url, batch())
    assert isinstance(outcome, Receipt)
    assert outcome.note is None
    (link,) = outcome.links
    assert (link.object_id, link.record, link.key) == ("batch:5", "object", KEY)
    head = client(url).head_object(Bucket=BUCKET, Key=KEY)
    assert head["Metadata"] == {"hub-sha256": link.digest, "hub-rows": "3"}
    assert link.vendor_id == head["ETag"]
    assert outcome.answer.status == 200


async def test_reads_back_with_pyarrow_in_order_and_with_types(url: str) -> None:
    odd = event(
        12, object_id=None, object_type=None, account=None, livemode=None, api_version=None, type="ping", rank=0
    )
    thin = event(13, body=b'{"id":"evt_13","object":"v2.core.event","context":"acct_9"}', type="v1.invoice.paid")
    await send(url, batch(thin, event(11), odd))
    content = client(url).get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    file = pq.ParquetFile(io.BytesIO(content))
    table = file.read()
    assert table.schema.names == [
        "event_id",
        "event_type",
        "family",
        "account_id",
        "context",
        "livemode",
        "api_version",
        "object_id",
        "object_type",
        "object_version",
        "seq",
        "lane_id",
        "created_at",
        "event_date",
        "received_at",
        "received_date",
        "payload_sha256",
        "payload",
    ]
    assert [table.schema.field(i).metadata[b"PARQUET:field_id"] for i in range(18)] == [b"%d" % i for i in range(1, 19)]
    assert table.schema.field("created_at").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("event_date").type == pa.date32()
    assert table.schema.field("object_version").type == pa.int64()
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    rows = table.to_pylist()
    assert [row["seq"] for row in rows] == [11, 12, 13]
    assert rows[0] == {
        "event_id": "evt_11",
        "event_type": "invoice.paid",
        "family": "invoice",
        "account_id": "acct_1",
        "context": None,
        "livemode": False,
        "api_version": "2026-10-28.endive",
        "object_id": "in_1",
        "object_type": "invoice",
        "object_version": 2 * 10**10 + 1795132799,  # 2026-11-19T23:59:59Z, `date -d ... +%s`
        "seq": 11,
        "lane_id": "00",
        "created_at": datetime(2026, 11, 19, 23, 59, 59, tzinfo=UTC),
        "event_date": date(2026, 11, 19),
        "received_at": datetime(2026, 11, 20, 0, 0, 1, 250_000, tzinfo=UTC),
        "received_date": date(2026, 11, 20),
        "payload_sha256": hashlib.sha256(event(11).body).hexdigest(),
        "payload": '{"id":"evt_11","type":"invoice.paid","note":"Müller ☂ 11"}',
    }
    assert (rows[1]["family"], rows[1]["object_version"], rows[1]["account_id"], rows[1]["livemode"]) == ("ping",) + (
        None,
    ) * 3
    assert (rows[2]["family"], rows[2]["context"]) == ("v1.invoice", "acct_9")


async def test_a_directory_of_batches_reads_as_one_data_set(url: str, tmp_path: Any) -> None:
    """The path keys `dt` and `lane` must not meet columns of the same name: pyarrow refuses such a data set."""
    await send(url, batch())
    await send(url, batch(event(14), event(15), id=6))
    store = client(url)
    for listed in store.list_objects_v2(Bucket=BUCKET)["Contents"]:
        path = tmp_path / listed["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get_object(Bucket=BUCKET, Key=listed["Key"])["Body"].read())
    table = ds.dataset(tmp_path / "live" / "events" / "v1", partitioning="hive").to_table()
    assert sorted(table["seq"].to_pylist()) == [11, 12, 13, 14, 15]
    assert set(table["dt"].to_pylist()) == {"2026-11-20"}
    assert lake_events(f"{url}/s3") == {f"evt_{seq}": 1 for seq in range(11, 16)}


async def test_a_repeat_finds_its_own_object_and_writes_nothing(url: str) -> None:
    first = await send(url, batch())
    before = client(url).head_object(Bucket=BUCKET, Key=KEY)
    second = await send(url, batch(event(12), event(13), event(11)))
    assert isinstance(second, Receipt)
    assert second.links == first.links
    assert second.note == "an earlier try had already written it"
    assert client(url).head_object(Bucket=BUCKET, Key=KEY)["LastModified"] == before["LastModified"]


async def test_another_content_under_the_same_name_halts_the_lane(url: str) -> None:
    await send(url, batch())
    changed = batch(event(11), event(12), event(13, body=b'{"id":"evt_13"}'))
    outcome = await send(url, changed)
    assert isinstance(outcome, Reject)
    assert outcome.code == "lane_halted"
    assert KEY in outcome.cause
    content = client(url).get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    assert "Müller ☂ 13" in pq.read_table(io.BytesIO(content))["payload"].to_pylist()[2]


async def test_a_strangers_object_without_digest_halts_the_lane_and_is_kept(url: str) -> None:
    client(url).put_object(Bucket=BUCKET, Key=KEY, Body=b"mine")
    outcome = await send(url, batch())
    assert isinstance(outcome, Reject)
    assert outcome.code == "lane_halted"
    assert client(url).get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"mine"


async def test_of_racing_writers_one_creates_and_all_are_content(url: str) -> None:
    lakes = [create(settings(url)) for _ in range(4)]
    try:
        outcomes = await asyncio.gather(*(lake.send_batch(batch()) for lake in lakes))
    finally:
        for lake in lakes:
            await lake.close()
    assert [type(outcome) for outcome in outcomes] == [Receipt] * 4
    notes = [outcome.note for outcome in outcomes if isinstance(outcome, Receipt)]
    assert notes.count(None) == 1
    assert lake_events(f"{url}/s3") == {"evt_11": 1, "evt_12": 1, "evt_13": 1}


async def test_a_missing_bucket_pauses_the_destination(url: str) -> None:
    outcome = await send(url, batch(), lake_bucket="not-there")
    assert isinstance(outcome, Defer)
    assert outcome.pause
    assert "NoSuchBucket" in outcome.reason
    assert "HUB_LAKE_BUCKET" in outcome.reason


async def test_ping_names_the_bucket_or_says_what_is_wrong(url: str) -> None:
    assert await lake_of(url, BUCKET).ping() == f"bucket {BUCKET}, prefix live"
    with pytest.raises(OutcomeError) as caught:
        await lake_of(url, "not-there").ping()
    assert isinstance(caught.value.outcome, Defer)
    assert "the bucket does not exist" in caught.value.outcome.reason


def fault(url: str, action: dict[str, Any], **more: Any) -> None:
    asked = {"vendor": "s3", "match": {"method": "PUT"}, "action": action, **more}
    httpx.post(f"{url}/__sandbox/faults", json=asked).raise_for_status()


def no_more_faults(url: str) -> None:
    httpx.delete(f"{url}/__sandbox/faults").raise_for_status()


def xml(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>person@example.com</Message></Error>"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", Defer),
        (403, "InvalidAccessKeyId", Defer),
        (400, "ExpiredToken", Defer),
        (400, "KMS.DisabledException", Defer),
        (301, "PermanentRedirect", Defer),
        (409, "ConditionalRequestConflict", Retry),
        (503, "SlowDown", Defer),
        (500, "InternalError", Retry),
        (400, "EntityTooLarge", Reject),
    ],
)
async def test_refusals(url: str, status: int, code: str, kind: type) -> None:
    fault(url, {"kind": "status", "status": status, "body": xml(code)}, times=9)
    outcome = await send(url, batch())
    assert type(outcome) is kind
    assert code in repr(outcome)
    assert "person@example.com" not in repr(outcome)
    if isinstance(outcome, Defer):
        assert outcome.pause
    no_more_faults(url)
    assert isinstance(await send(url, batch()), Receipt)  # whatever it was: afterwards it goes


async def test_a_lost_reply_is_settled_within_the_same_try(url: str) -> None:
    """botocore repeats the PUT by itself, is told 412 for our own object, and the digest shows that it is ours."""
    fault(url, {"kind": "lost_reply"})
    outcome = await send(url, batch())
    assert isinstance(outcome, Receipt)
    assert outcome.note == "an earlier try had already written it"
    assert lake_events(f"{url}/s3") == {"evt_11": 1, "evt_12": 1, "evt_13": 1}


async def test_a_connection_lost_every_time_is_a_retry_and_the_next_send_finds_it(url: str) -> None:
    fault(url, {"kind": "lost_reply"}, times=2)
    outcome = await send(url, batch())
    assert isinstance(outcome, Retry)
    again = await send(url, batch())
    assert isinstance(again, Receipt)
    assert lake_events(f"{url}/s3") == {"evt_11": 1, "evt_12": 1, "evt_13": 1}


async def test_nobody_listening_is_a_retry() -> None:
    outcome = await send("http://127.0.0.1:1", batch())
    assert isinstance(outcome, Retry)


@pytest.mark.parametrize(
    "broken",
    [
        batch(first_seq=10),
        batch(event(11), event(11)),
        batch(received_date="2026-11-21"),
        batch(event(11, body=b"\xff")),
    ],
)
async def test_a_batch_that_is_not_what_its_name_says_is_never_written(url: str, broken: Batch) -> None:
    outcome = await send(url, broken)
    assert isinstance(outcome, Reject)
    assert outcome.code == "batch_broken"
    assert client(url).list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


async def test_the_digest_is_over_documented_rows(url: str) -> None:
    """Computed here by hand from the description in the README."""
    outcome = await send(url, batch(event(11)))
    line = (
        '["evt_11","invoice.paid","invoice","acct_1",null,false,"2026-10-28.endive","in_1","invoice",21795132799,11,"00",'
        '1795132799000000,"2026-11-19",1795132801250000,"2026-11-20","'
        + hashlib.sha256(event(11).body).hexdigest()
        + '"]\n'
    )
    assert outcome.links[0].digest == hashlib.sha256(b"hub-lake-v1\n" + line.encode()).hexdigest()


def test_policy(url: str) -> None:
    policy = create(settings(url, lake_linger=5)).policy
    assert (policy.kind, policy.batch, policy.batch_bytes, policy.linger, policy.slots) == (
        "log",
        5000,
        8 * 2**20,
        5.0,
        1,
    )


def test_settings_name_everything_that_is_wrong() -> None:
    with pytest.raises(ValidationError) as caught:
        S3LakeSettings(lake_bucket="", lake_access_key_id=SecretStr("x"))
    text = str(caught.value)
    assert "HUB_LAKE_BUCKET is missing" in text
    assert "HUB_LAKE_SECRET_ACCESS_KEY" in text
    with pytest.raises(ValidationError):
        S3LakeSettings(lake_bucket="Upper_Case")
    with pytest.raises(ValidationError):
        S3LakeSettings(lake_bucket="fine-name", lake_prefix="a b")


def test_pyarrow_is_not_loaded_before_the_first_batch() -> None:
    code = (
        "import sys; from connectors.s3_lake.destination import create;"
        "from connectors.s3_lake.settings import S3LakeSettings;"
        "create(S3LakeSettings(lake_bucket='abc')); print('pyarrow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=os.environ
    )
    assert done.stdout.strip() == "False"

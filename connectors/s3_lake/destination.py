"""The `log` destination `s3_lake`: one sealed batch, one immutable object.

Exactly once rests on three things: an event is in one sealed batch (the hub's database), the object's name is a
function of the batch, and `PUT If-None-Match: *` lets only the first of any number of writers create it. After a
timeout, a killed process or a lost reply the same PUT is simply sent again: it creates the object, or gets 412 and
finds our own digest there. So an ambiguous failure is `Retry`, never `Unknown`.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from connectors.s3_lake import encode
from connectors.s3_lake.client import THREADS, connect
from connectors.s3_lake.errors import answer_of, judge
from connectors.s3_lake.settings import S3LakeSettings
from hub.destination import Limit, LogDestination, Policy
from hub.errors import Answer, Outcome, OutcomeError, Receipt, Reject, Retry
from hub.model import Batch, Link

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DIGEST = "hub-sha256"
"""User metadata (`x-amz-meta-hub-sha256`). The ETag will not do: with KMS it is no hash of the content."""
MAPPING = f"s3_lake/events@{encode.SCHEMA_VERSION.removeprefix('v')}"


def create(settings: S3LakeSettings, limit: Limit | None = None) -> LogDestination:
    """The lake's destination. No network; pyarrow is loaded by the first batch. `limit`: over all processes."""
    return S3Lake(settings, limit)


class S3Lake:
    """Encodes and writes in its own threads: neither boto3 nor zstd may hold up the event loop."""

    name = "s3_lake"

    def __init__(self, settings: S3LakeSettings, limit: Limit | None = None) -> None:
        self._limit = limit
        self.policy = Policy(
            kind="log", batch=5000, batch_bytes=8 * 2**20, linger=settings.lake_linger, slots=1, lease=180.0
        )
        self._bucket, self._prefix = settings.lake_bucket, settings.lake_prefix
        self._client: S3Client = connect(settings)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3_lake")

    async def send_batch(self, batch: Batch) -> Outcome:
        """Write the batch's object, or find that it is there. One link: `batch:<id>` -> the key."""
        if self._limit is not None:
            await self._limit.turn()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._write, batch)

    async def ping(self) -> str:
        """One HEAD of the bucket (s3:ListBucket)."""
        look = partial(self._client.head_bucket, Bucket=self._bucket)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, look)
        except (ClientError, BotoCoreError) as error:
            raise OutcomeError(judge(error)) from error
        return f"bucket {self._bucket}, prefix {self._prefix or '(none)'}"

    async def close(self) -> None:
        """Waits for a write under way (bounded by the client's timeouts), then closes the connections."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._client.close()

    def _write(self, batch: Batch) -> Outcome:
        try:
            rows = encode.rows(batch)
        except ValueError as error:
            return Reject("batch_broken", f"{error}.", "This is a bug in the hub: report it with the batch's number.")
        key, digest = encode.object_key(batch, self._prefix), encode.digest(rows)
        try:
            put = self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=encode.parquet(rows),
                ContentType="application/vnd.apache.parquet",
                IfNoneMatch="*",
                Metadata={DIGEST: digest, "hub-rows": str(len(rows))},
            )
        except ClientError as error:
            if answer_of(error).status == 412:
                return self._compare(batch, key, digest)
            return judge(error)
        except BotoCoreError as error:
            return judge(error)
        meta = put["ResponseMetadata"]
        answer = Answer(meta["HTTPStatusCode"], meta.get("RequestId"), {"key": key, "rows": len(rows)})
        return Receipt((_link(batch, key, put.get("VersionId") or put["ETag"], digest),), answer=answer)

    def _compare(self, batch: Batch, key: str, digest: str) -> Outcome:
        """The name is taken. Ours (an earlier try landed, here or in another process) or somebody else's?"""
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if answer_of(error).status == 404:
                return Retry("gone", "the object was there and then was not", answer=answer_of(error))
            return judge(error)
        except BotoCoreError as error:
            return judge(error)
        meta = head["ResponseMetadata"]
        there = head["Metadata"].get(DIGEST)
        answer = Answer(meta["HTTPStatusCode"], meta.get("RequestId"), {"key": key, "digest_there": there})
        if there == digest:
            link = _link(batch, key, head.get("VersionId") or head["ETag"], digest)
            return Receipt((link,), answer=answer, note="an earlier try had already written it")
        return Reject(
            "lane_halted",
            f"The object {key} exists with other content (digest {there or 'none'}, ours {digest}).",
            "Find out who wrote it: another hub on the same bucket and prefix, or a database restored from an old"
            " backup. Keep it aside under another name or choose another HUB_LAKE_PREFIX, then retry.",
            answer,
        )


def _link(batch: Batch, key: str, vendor_id: str, digest: str) -> Link:
    return Link(f"batch:{batch.id}", "object", key, vendor_id, digest, MAPPING)

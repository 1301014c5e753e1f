"""A sealed batch as rows, as a digest and as Parquet bytes. Pure; no network.

pyarrow (100 MB of libraries) is imported on first use: a process that does not write the lake does not pay for it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from hub.model import Batch, Event

if TYPE_CHECKING:
    import pyarrow

SCHEMA_VERSION = "v1"
"""In the key and in the digest. A new optional column keeps it; anything else is a new version beside the old one."""

COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("event_id", "string", False),
    ("event_type", "string", False),
    ("family", "string", False),
    ("account_id", "string", True),
    ("context", "string", True),
    ("livemode", "bool", True),
    ("api_version", "string", True),
    ("object_id", "string", True),
    ("object_type", "string", True),
    ("object_version", "int64", True),
    ("seq", "int64", False),
    # Not `lane`: that is a key of the path (`lane=00`), and a column of the same name makes pyarrow refuse the data set
    # ("Unable to merge: Field lane has incompatible types") and Glue complain of a duplicate column.
    ("lane_id", "string", False),
    ("created_at", "timestamp", False),
    ("event_date", "date", False),
    ("received_at", "timestamp", False),
    ("received_date", "date", False),
    ("payload_sha256", "string", False),
    ("payload", "string", False),
)
"""Name, type, nullable. The position (from 1) is the Parquet field id: only ever append."""

_RANK_STEP = 10**10  # more than any epoch second before the year 2286


def object_key(batch: Batch, prefix: str) -> str:
    """The object's name: a function of the batch alone, so every try and every process writes the same one."""
    lane = quote(batch.lane, safe="")
    name = f"{batch.first_seq:016d}-{batch.last_seq:016d}.parquet"
    root = f"{prefix}/" if prefix else ""
    return f"{root}events/{SCHEMA_VERSION}/dt={batch.received_date}/lane={lane}/{name}"


def rows(batch: Batch) -> list[dict[str, Any]]:
    """One dict per event, in the order of `seq`, with the keys of `COLUMNS`. Times are aware UTC `datetime`s.

    Raises `ValueError` when the batch is not what its name says: that is a bug in the hub, never to be written.
    """
    events = sorted((job.event for job in batch.jobs), key=lambda event: event.seq)
    if not events or events[0].seq != batch.first_seq or events[-1].seq != batch.last_seq:
        raise ValueError(
            f"batch {batch.id} is named {batch.first_seq}-{batch.last_seq} but does not begin and end there"
        )
    if len({event.seq for event in events}) != len(events):
        raise ValueError(f"batch {batch.id} holds an event twice")
    found = [_row(event, batch.lane) for event in events]
    for row in found:
        if row["received_date"].isoformat() != batch.received_date:
            raise ValueError(
                f"batch {batch.id} of {batch.received_date} holds {row['event_id']} of {row['received_date']}"
            )
    return found


def _row(event: Event, lane: str) -> dict[str, Any]:
    created, received = event.created.astimezone(UTC), event.received_at.astimezone(UTC)
    return {
        "event_id": event.id,
        "event_type": event.type,
        "family": event.type.rpartition(".")[0] or event.type,
        "account_id": event.account,
        "context": _context(event.body),
        "livemode": event.livemode,
        "api_version": event.api_version,
        "object_id": event.object_id,
        "object_type": event.object_type,
        "object_version": None if event.object_id is None else event.rank * _RANK_STEP + int(created.timestamp()),
        "seq": event.seq,
        "lane_id": lane,
        "created_at": created,
        "event_date": created.date(),
        "received_at": received,
        "received_date": received.date(),
        "payload_sha256": hashlib.sha256(event.body).hexdigest(),
        "payload": event.body.decode("utf-8"),
    }


def _context(body: bytes) -> str | None:
    """The event's `context` (organisations, v2); parsed only where the word occurs at all."""
    if b'"context"' not in body:
        return None
    parsed = orjson.loads(body)
    value = parsed.get("context") if isinstance(parsed, dict) else None
    return value if isinstance(value, str) else None


def digest(batch_rows: list[dict[str, Any]]) -> str:
    """SHA-256 over the rows, not over the Parquet bytes: it survives an upgrade of pyarrow between two tries.

    The hash is fed one line per row, each ended by `\\n`: a JSON array of the columns in order without `payload` (its
    own hash stands for it), times as integer microseconds, dates as `YYYY-MM-DD`; before them a line with the version.
    """
    total = hashlib.sha256(f"hub-lake-{SCHEMA_VERSION}\n".encode())
    for row in batch_rows:
        total.update(orjson.dumps([_canonical(row[name]) for name, _, _ in COLUMNS if name != "payload"]) + b"\n")
    return total.hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp()) * 1_000_000 + value.microsecond
    if isinstance(value, date):
        return value.isoformat()
    return value


def parquet(batch_rows: list[dict[str, Any]]) -> bytes:
    """Parquet, zstd level 3, one row group, field ids embedded."""
    import pyarrow.parquet as pq

    arrow = _arrow()
    table = arrow.table(
        {name: [row[name] for row in batch_rows] for name, _, _ in COLUMNS},
        schema=_schema(),
    )
    sink = arrow.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=3, row_group_size=len(batch_rows))
    return bytes(sink.getvalue())


@cache
def _arrow() -> Any:
    import pyarrow as pa

    # Arrow's default allocator keeps what it once had; a worker that writes 8 MiB a minute should give it back.
    pa.set_memory_pool(pa.system_memory_pool())
    return pa


@cache
def _schema() -> pyarrow.Schema:
    pa = _arrow()
    kinds = {
        "string": pa.string(),
        "bool": pa.bool_(),
        "int64": pa.int64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "date": pa.date32(),
    }
    return pa.schema(
        [
            pa.field(name, kinds[kind], nullable=nullable, metadata={"PARQUET:field_id": str(number)})
            for number, (name, kind, nullable) in enumerate(COLUMNS, start=1)
        ]
    )

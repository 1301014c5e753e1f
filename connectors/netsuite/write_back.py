"""NetSuite's internal ids, to be noted in the metadata of Stripe's objects (`HUB_NETSUITE_WRITE_BACK`).

Whoever looks at an invoice in Stripe then sees where it is in the books: `netsuite_invoice_id`,
`netsuite_creditMemo_id` and so on. The noting is a delivery of its own, of the destination `stripe`: if Stripe is away,
or our key may not write there, the books do not wait for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import orjson

from hub.model import WRITE_BACK, EventKind, Job, Link, NewEvent


def noted(job: Job, links: Sequence[Link], now: datetime) -> tuple[NewEvent, ...]:
    """One event per object of Stripe's that something was written for. The same ids again make the same event, which
    the hub keeps once. Objects of connected accounts are left alone: our key writes in its own account.
    """
    if job.event.account is not None:
        return ()
    found: dict[str, dict[str, str]] = {}
    for link in links:
        found.setdefault(link.object_id, {})[f"netsuite_{link.record.partition(':')[0]}_id"] = link.vendor_id
    return tuple(_event(job, object_id, metadata, now) for object_id, metadata in found.items())


def _event(job: Job, object_id: str, metadata: dict[str, str], now: datetime) -> NewEvent:
    content = orjson.dumps({"object": object_id, "metadata": metadata}, option=orjson.OPT_SORT_KEYS)
    id_ = f"written:netsuite:{object_id}:{hashlib.sha256(content).hexdigest()[:16]}"
    body = {"id": id_, "object": "event", "type": WRITE_BACK, "data": {"object": orjson.Fragment(content)}}
    return NewEvent(
        id=id_,
        kind=EventKind.READ,  # nothing that Stripe said
        type=WRITE_BACK,
        body=orjson.dumps(body),
        created=now,
        received_at=now,
        customer_id=job.event.customer_id,
    )

"""Stripe's lists of objects as they are now, page by page, every object whole.

What each list leaves out unless it is asked (API reference; the installed library's generated parameters):
subscriptions without `status` are those that are not canceled, and only `status=canceled` is promised to include those
of deleted customers; products and prices without `active` are both the active and the archived. Deleted customers are
in no list.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from connectors.stripe.client import Api
from hub.destination import Page
from hub.errors import OutcomeError, Reject, Retry

PAGE = 100
"""The most Stripe gives at once."""

LISTS: Mapping[str, tuple[str, tuple[Mapping[str, str], ...]]] = {
    "customer": ("/v1/customers", ({},)),
    "product": ("/v1/products", ({},)),
    "price": ("/v1/prices", ({},)),
    "subscription": ("/v1/subscriptions", ({"status": "all"}, {"status": "canceled"})),
    "invoice": ("/v1/invoices", ({},)),
    "credit_note": ("/v1/credit_notes", ({},)),
    "invoice_payment": ("/v1/invoice_payments", ({},)),
    "refund": ("/v1/refunds", ({},)),
    "dispute": ("/v1/disputes", ({},)),
    "payout": ("/v1/payouts", ({},)),
}
"""Object type -> address, and the lists that together hold all of them."""


def belonging(object_type: str, by: str, object_id: str) -> dict[str, Any]:
    """The filter of a type's list that leaves what belongs to one object (API reference). That of the payments of
    invoices wants the kind of payment beside the id.
    """
    if object_type == "invoice_payment" and by == "payment_intent":
        return {"payment": {"type": by, by: object_id}}
    return {by: object_id}


Complete = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


async def page(
    api: Api,
    complete: Complete,
    object_type: str,
    cursor: str | None,
    created_from: int | None,
    created_to: int | None = None,
) -> Page:
    """One page, newest first, of what was created since `created_from` and before `created_to` (Unix seconds) if given.
    `cursor`: as the page before gave it, None for the first; it says which of the lists of the type, and after which
    object. `complete` follows a list inside an object to its end. Raises `OutcomeError`.
    """
    if object_type not in LISTS:
        raise OutcomeError(
            Reject("unlisted_type", f"The hub has no list of {object_type}.", "Add it to connectors/stripe/lists.py.")
        )
    path, filters = LISTS[object_type]
    number, _, after = (cursor or "0:").partition(":")
    params: dict[str, Any] = {"limit": PAGE, **filters[int(number)]}
    if after:
        params["starting_after"] = after
    created = {name: at for name, at in (("gte", created_from), ("lt", created_to)) if at is not None}
    if created:
        params["created"] = created
    body = await api.get(path, **params)
    if body is None:
        raise OutcomeError(Retry("odd_list", f"Stripe's list {path} is not there"))
    # Numbers as in an event's body: what is listed is stored like one.
    answer = json.loads(body.text)
    objects, reads = [], 1
    inside = "items" if object_type == "subscription" else "lines"
    for found in answer["data"]:
        more = isinstance(found.get(inside), dict) and found[inside].get("has_more")
        whole = await complete(object_type, found)
        reads += -(-len(whole[inside]["data"]) // PAGE) if more else 0
        objects.append(whole)
    if answer["has_more"]:
        if not objects or objects[-1]["id"] == after:
            raise OutcomeError(Retry("endless_list", f"Stripe's list {path} does not come to an end"))
        return Page(tuple(objects), f"{number}:{objects[-1]['id']}", reads)
    following = int(number) + 1
    return Page(tuple(objects), f"{following}:" if following < len(filters) else None, reads)

"""`Source`: Stripe's objects as they are now, at the pinned version, as plain JSON with every list inside complete."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from connectors.stripe import listing, lists
from connectors.stripe.client import Api, Body
from connectors.stripe.settings import StripeSettings
from hub.destination import Limit, Page
from hub.errors import OutcomeError, Reject, Retry

FOLDERS: dict[str, str] = {
    "account": "accounts",
    "balance_transaction": "balance_transactions",
    "billing.credit_grant": "billing/credit_grants",
    "billing.meter": "billing/meters",
    "charge": "charges",
    "checkout.session": "checkout/sessions",
    "coupon": "coupons",
    "credit_note": "credit_notes",
    "customer": "customers",
    "dispute": "disputes",
    "event": "events",
    "invoice": "invoices",
    "invoice_payment": "invoice_payments",
    "invoiceitem": "invoiceitems",
    "payment_intent": "payment_intents",
    "payment_method": "payment_methods",
    "payout": "payouts",
    "plan": "plans",
    "price": "prices",
    "product": "products",
    "promotion_code": "promotion_codes",
    "quote": "quotes",
    "refund": "refunds",
    "setup_intent": "setup_intents",
    "subscription": "subscriptions",
    "subscription_item": "subscription_items",
    "subscription_schedule": "subscription_schedules",
    "tax_id": "tax_ids",
    "tax_rate": "tax_rates",
    "transfer": "transfers",
}
"""Stripe's `object` -> where it is read under `/v1` (API reference)."""

PAGE = listing.PAGE
_PAGES = 500
_RELATED = re.compile(r"/v[12](/[A-Za-z0-9_.-]+)+")


def create(settings: StripeSettings, limit: Limit | None = None) -> StripeSource:
    """The source. No network. `limit`: of the whole account, over all processes."""
    return StripeSource(settings, Api(settings, limit))


class StripeSource:
    """Reads; changes nothing. All methods raise `OutcomeError` (see `errors.judge`)."""

    def __init__(self, settings: StripeSettings, api: Api | None = None) -> None:
        self.api = self._api = api or Api(settings)

    async def read(self, object_type: str, object_id: str) -> dict[str, Any] | None:
        """The object as it is now; `{"id", "object", "deleted": true}` if deleted, None if there never was one."""
        folder = FOLDERS.get(object_type)
        if folder is None:
            raise OutcomeError(
                Reject(
                    "unreadable_type",
                    f"The hub does not know where Stripe keeps a {object_type}.",
                    "Take it out of the mapping's `needs`, or add it to connectors/stripe/source.py.",
                )
            )
        body = await self._api.get(f"/v1/{folder}/{quote(object_id, safe='')}")
        return None if body is None else await self._complete(object_type, body.json())

    async def listed(self, object_type: str, by: str, object_id: str) -> list[dict[str, Any]]:
        """All objects of a type that belong to one, newest first: `hub.model.LISTED` by Stripe's own filters."""
        found = await self._all(f"/v1/{FOLDERS[object_type]}", **lists.belonging(object_type, by, object_id))
        return [await self._complete(object_type, each) for each in found]

    async def list_lines(self, invoice_id: str) -> list[dict[str, Any]]:
        """All lines of an invoice, in Stripe's order, 100 a call."""
        return await self._all(f"/v1/invoices/{quote(invoice_id, safe='')}/lines")

    async def read_event(self, event_id: str) -> dict[str, Any] | None:
        """A v1 event of the last 30 days, in the version it was rendered in."""
        return await self.read("event", event_id)

    async def fetch_thin(self, event_id: str, context: str | None = None) -> dict[str, Any] | None:
        """A v2 event with its data; None when Stripe no longer has it."""
        body = await self._api.get(f"/v2/core/events/{quote(event_id, safe='')}", context)
        return None if body is None else body.json()

    async def fetch_related(self, url: str, context: str | None = None) -> Body | None:
        """The object a thin notification names by its `related_object.url`; None when it is gone.

        The address comes from a signed message but is joined to ours and sent our key: it must be a plain path.
        """
        if not _RELATED.fullmatch(url) or ".." in url:
            raise OutcomeError(
                Reject("odd_related_url", "The notification names no plain API path.", "Report it with the event's id.")
            )
        return await self._api.get(url, context)

    async def newest_event(self) -> dict[str, Any] | None:
        """The last event of the account, None if there is none: one cheap read that proves address and key."""
        body = await self._api.get("/v1/events", limit=1)
        events = body.json()["data"] if body is not None else []
        return events[0] if events else None

    def events(self, created_from: int, created_to: int) -> AsyncIterator[list[bytes]]:
        """What happened from one second until before another, newest first, in pages; each event as Stripe wrote it."""
        return listing.events(self._api, created_from, created_to)

    async def objects(
        self, object_type: str, cursor: str | None, created_from: int | None, created_to: int | None = None
    ) -> Page:
        """A page of what there is of a type now, whatever its status, newest first; of what was created since
        `created_from` and before `created_to` (Unix seconds) if given.
        """
        return await lists.page(self._api, self._complete, object_type, cursor, created_from, created_to)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _complete(self, object_type: str, found: dict[str, Any]) -> dict[str, Any]:
        """Events and objects carry the first page of a list; the rest is asked for."""
        field, path, params = _list_inside(object_type, found)
        inside = found.get(field)
        if isinstance(inside, dict) and inside.get("has_more"):
            found[field] = {**inside, "data": await self._all(path, **params), "has_more": False}
        return found

    async def _all(self, path: str, **params: Any) -> list[dict[str, Any]]:
        collected: list[dict[str, Any]] = []
        for _ in range(_PAGES):
            after = {"starting_after": collected[-1]["id"]} if collected else {}
            body = await self._api.get(path, limit=PAGE, **params, **after)
            page: dict[str, Any] = body.json() if body is not None else {"data": [], "has_more": False}
            collected += page["data"]
            if not page["has_more"]:
                return collected
            if not page["data"]:
                break
        raise OutcomeError(Retry("endless_list", f"Stripe's list {path} does not come to an end"))


def _list_inside(object_type: str, found: dict[str, Any]) -> tuple[str, str, dict[str, str]]:
    found_id = quote(str(found.get("id")), safe="")
    if object_type == "subscription":
        return "items", "/v1/subscription_items", {"subscription": str(found.get("id"))}
    return "lines", f"/v1/{FOLDERS[object_type]}/{found_id}/lines", {}

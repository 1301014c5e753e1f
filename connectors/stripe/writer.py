"""What the hub writes in Stripe: taxes on the lines of a draft, holding a draft and letting it go, metadata.

Facts used (API reference, docs.stripe.com/invoicing/taxes/manual-tax-amounts and .../scheduled-finalization): taxes go
onto the *lines* of *drafts* by `update_lines`; `tax_amounts` empty takes them off; `auto_advance` false stops a draft
from finalising itself; `automatically_finalizes_at` sets the time. How many lines one `update_lines` takes is not
documented: at most `LINES` are sent at once.

A restricted key needs write access to Invoices for all of it but `set_metadata`, which needs it for the object's type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import stripe

from connectors.stripe.client import Api
from connectors.stripe.errors import answer_of, code_of, is_limit, is_missing, judge, retry_after
from connectors.stripe.settings import StripeSettings
from connectors.stripe.source import FOLDERS
from hub.destination import Limit
from hub.errors import Defer, Outcome, OutcomeError, Reject, Retry, Unknown

LINES = 250


def create(settings: StripeSettings, limit: Limit | None = None) -> StripeWriter:
    """The writer. No network. `limit`: the account's, shared with the reads."""
    return StripeWriter(Api(settings, limit))


class StripeWriter:
    """`hub.destination.SourceWriter` on Stripe's own library."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def set_tax(
        self, invoice_id: str, lines: Mapping[str, Sequence[Mapping[str, Any]]], metadata: Mapping[str, str], key: str
    ) -> dict[str, Any]:
        """The metadata goes with the first part, so that taxes of an interrupted call are known to be ours."""
        given = [{"id": line, "tax_amounts": [dict(tax) for tax in taxes] or ""} for line, taxes in lines.items()]
        found: dict[str, Any] = {}
        for start in range(0, len(given), LINES):
            more: dict[str, Any] = {"invoice_metadata": dict(metadata)} if start == 0 else {}
            part = f"{key}:{start}" if start else key
            found = await self._post(
                f"{_place('invoice', invoice_id)}/update_lines", part, lines=given[start : start + LINES], **more
            )
        return found

    async def hold(self, invoice_id: str, mark: Mapping[str, str], key: str) -> dict[str, Any]:
        """One read and at most one write."""
        invoice = await self._read("invoice", invoice_id)
        marked = set(mark) & set(invoice.get("metadata") or {})
        if invoice.get("status") != "draft" or not invoice.get("auto_advance") or marked:
            return invoice
        at = invoice.get("automatically_finalizes_at")
        until = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(at, int) else ""
        metadata = {name: value.replace("{}", until) for name, value in mark.items()}
        return await self._post(_place("invoice", invoice_id), key, auto_advance=False, metadata=metadata)

    async def release(
        self, invoice_id: str, finalizes_at: int | None, metadata: Mapping[str, str], key: str
    ) -> dict[str, Any]:
        more = {"automatically_finalizes_at": finalizes_at} if finalizes_at is not None else {}
        place = _place("invoice", invoice_id)
        return await self._post(place, key, auto_advance=True, metadata=dict(metadata), **more)

    async def finalize(self, invoice_id: str, key: str) -> dict[str, Any]:
        return await self._post(f"{_place('invoice', invoice_id)}/finalize", key, auto_advance=True)

    async def set_metadata(
        self, object_type: str, object_id: str, metadata: Mapping[str, str], key: str
    ) -> dict[str, Any]:
        return await self._post(_place(object_type, object_id), key, metadata=dict(metadata))

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _read(self, object_type: str, object_id: str) -> dict[str, Any]:
        body = await self._api.get(_place(object_type, object_id))
        if body is None:
            raise OutcomeError(_gone())
        return body.json()

    async def _post(self, path: str, key: str, **params: Any) -> dict[str, Any]:
        try:
            body = await self._api.post(path, key, **params)
        except stripe.StripeError as error:
            raise OutcomeError(judge_write(error)) from error
        return body.json()


def _place(object_type: str, object_id: str) -> str:
    return f"/v1/{FOLDERS[object_type]}/{quote(object_id, safe='')}"


def judge_write(error: stripe.StripeError) -> Outcome:  # noqa: PLR0911 - one return per class
    """The outcome of a write that raised. The message text is never kept."""
    code, answer = code_of(error), answer_of(error)
    if is_missing(error):
        return _gone()
    if isinstance(error, stripe.APIConnectionError):
        return Unknown("the connection to Stripe was lost", answer) if _sent(error) else judge(error)
    if (error.http_status or 0) >= 500 or code == "idempotency_key_in_use":
        return Unknown(f"Stripe had trouble ({code or error.http_status}); the write may have landed", answer)
    if is_limit(error):
        delay = retry_after(error) or 2.0
        return Defer("Stripe's limit was reached", delay, answer=answer)
    if isinstance(error, stripe.PermissionError):
        cause = "our Stripe API key may not write invoices: give the restricted key write access to Invoices"
        return Defer(cause, 300.0, pause=True, answer=answer)
    if isinstance(error, stripe.IdempotencyError):
        return Retry("idempotency_error", "Stripe knows the idempotency key with other content", answer=answer)
    if isinstance(error, stripe.InvalidRequestError | stripe.CardError):
        named = code or "invalid_request"
        param = getattr(error, "param", None)
        about = f" at {param}" if param else ""
        return Reject(
            named,
            f"Stripe refuses the change ({named}{about}).",
            "Billing: look at the object in Stripe's dashboard; the request's id is in the attempt, and Stripe's log "
            "there (Developers, Logs) has its words. Correct it and retry, or do it by hand and skip this delivery.",
            answer,
        )
    return judge(error)


def _gone() -> Reject:
    return Reject(
        "resource_missing",
        "Stripe has no such object any more.",
        "If it was deleted there is nothing to do: skip this delivery. Else check HUB_STRIPE_API_KEY's account.",
    )


def _sent(error: BaseException) -> bool:
    """False only if surely no connection was made: then nothing can have landed."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return False
        seen = seen.__cause__ or seen.__context__
    return True

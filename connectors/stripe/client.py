"""stripe-python, tamed: explicit retries and timeouts, no telemetry, a rate limit, and bodies as Stripe wrote them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import stripe

from connectors.stripe.errors import is_limit, is_missing, judge, retry_after
from connectors.stripe.settings import StripeSettings
from hub.destination import Limit
from hub.errors import OutcomeError

PINNED_VERSION: str = stripe.api_version
"""The version every read asks for: the one this release of the library is generated from."""

OLDEST = "2025-03-31"
"""`.basil` of that day moved an invoice's subscription, taxes and payments (Stripe's API changelog)."""


def supported(api_version: str | None) -> bool:
    """Whether objects rendered at this version have the shapes we map: from 2025-03-31.basil on. None: no."""
    return api_version is not None and api_version[:10] >= OLDEST


@dataclass(frozen=True, slots=True)
class Body:
    """One answer, untouched."""

    text: str

    def json(self) -> dict[str, Any]:
        """Parsed; a number with a fraction (a percentage: money never has one) is a `Decimal`."""
        decoded: dict[str, Any] = json.loads(self.text, parse_float=Decimal)
        return decoded


class _Http(stripe.HTTPXClient):
    """The library hands a form to httpx as `data`, which httpx deprecates for what is encoded already."""

    def _get_request_args_kwargs(self, method: str, url: str, headers: Any, post_data: Any) -> Any:
        args, kwargs = super()._get_request_args_kwargs(method, url, headers, post_data)
        data = kwargs.pop("data")
        return args, {**kwargs, "content": data} if data else kwargs


class Api:
    """Calls to one Stripe account, for one event loop. `limit`: over all processes; None for a single cheap call."""

    def __init__(self, settings: StripeSettings, limit: Limit | None = None) -> None:
        # Both are switches of the whole library: it reports timings home, and logs error texts that may hold names.
        stripe.enable_telemetry = False
        logging.getLogger("stripe").setLevel(logging.WARNING)
        timeout = httpx.Timeout(settings.timeout, connect=5.0, pool=settings.timeout)
        self._http: Any = _Http(timeout=timeout)
        base = settings.api_base
        # All four: some calls go to other hosts, and none may leave this machine when a base address is set.
        addresses: Any = dict.fromkeys(("api", "connect", "files", "meter_events"), base) if base else None
        self._client = stripe.StripeClient(
            settings.api_key.get_secret_value(),
            stripe_version=PINNED_VERSION,
            base_addresses=addresses,
            max_network_retries=settings.retries,
            http_client=self._http,
        )
        self._limit = limit

    async def get(self, path: str, context: str | None = None, **params: Any) -> Body | None:
        """GET `path`; None if there is no such object. `context`: the account to read in, as an event names it.

        Raises `OutcomeError`.
        """
        if self._limit is not None:
            await self._limit.turn()
        options: dict[str, Any] = {"stripe_context": context} if context else {}
        try:
            answer = await self._client.raw_request_async("get", path, **params, **options)
        except stripe.StripeError as error:
            if is_missing(error):
                return None
            if self._limit is not None and is_limit(error):
                # Said here and not by the outcome: most reads are for another destination, or for none.
                await self._limit.cut(retry_after(error) or 0.0)
            raise OutcomeError(judge(error)) from error
        return Body(answer.body)

    async def post(self, path: str, key: str, **params: Any) -> Body:
        """POST `path` under an idempotency key. Raises `stripe.StripeError`, or `OutcomeError` for our own limit."""
        if self._limit is not None:
            await self._limit.turn()
        try:
            answer = await self._client.raw_request_async("post", path, idempotency_key=key, **params)
        except stripe.StripeError as error:
            if self._limit is not None and is_limit(error):
                await self._limit.cut(retry_after(error) or 0.0)
            raise
        return Body(answer.body)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()

"""Avalara's library, tamed. What it does that one would not expect (its source, 26.10.0), and what is done about it:

* it never raises for 4xx and 5xx, and never reads the answer: `Reply` carries both, judged in `errors.py`;
* it raises `KeyError('x-correlation-id')` *after* the exchange when that header is missing, as on every page of a
  proxy: the call may have landed;
* its timeout is twenty minutes unless given: it always is, and a whole call has a deadline of its own besides;
* an environment it does not know means production: it is given an address;
* it logs every call on the root logger: it is given one that says nothing;
* it opens a connection per call and keeps its headers in a dict: one client per thread, in threads of our own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from connectors.avalara.settings import AvalaraSettings
from hub.errors import OutcomeError, Reject

if TYPE_CHECKING:
    from avalara import AvataxClient

MAX_LINES = 15_000
"""Of one document. AvaTax documentation, "Common errors": MaxCountExceededError."""
_SILENT = logging.Logger("avalara", logging.CRITICAL + 1)
"""Made outside of the registry: `logging.config` wakes up every registered logger that was disabled."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that arrived. `body` is the decoded JSON (numbers exact: int or `Decimal`), None if it was not JSON."""

    status: int
    body: Any
    correlation_id: str | None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer. `sent` is False only if the request surely never left: no connection was made."""

    reason: str
    sent: bool


Exchange: TypeAlias = Reply | Lost


class AvalaraClient:
    """Calls by the library's own method names, in at most `slots` threads."""

    def __init__(self, settings: AvalaraSettings, slots: int) -> None:
        self._settings = settings
        self._timeouts = (settings.connect_timeout, settings.read_timeout)
        # The read timeout counts from byte to byte; an answer that trickles in would never reach it.
        self.deadline = settings.connect_timeout + 1.5 * settings.read_timeout
        self._local = threading.local()
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="avalara")

    async def call(self, method: str, *args: Any) -> Exchange:
        """One call, e.g. `call("void_transaction", company, code, {"code": "DocVoided"}, {})`. Never raises for trouble
        on the way; a `TypeError` or the like is a bug and does raise."""
        work = asyncio.get_running_loop().run_in_executor(self._threads, partial(self._exchange, method, args))
        try:
            return await asyncio.wait_for(work, self.deadline)
        except TimeoutError:
            return Lost(f"no whole answer within {self.deadline:.0f} s", sent=True)

    def close(self) -> None:
        """Does not wait for calls under way; they end by their timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _sdk(self) -> AvataxClient:
        if not hasattr(self._local, "sdk"):
            from avalara import AvataxClient

            sdk = AvataxClient(
                app_name="billing-hub",
                app_version="1",
                machine_name="hub",
                environment=self._settings.address,
                timeout_limit=self._timeouts,
                logger=_SILENT,
            )
            sdk.add_credentials(self._settings.account_id, self._settings.license_key.get_secret_value())
            self._local.sdk = sdk
        return self._local.sdk

    def _exchange(self, method: str, args: tuple[Any, ...]) -> Exchange:
        try:
            response: requests.Response = getattr(self._sdk(), method)(*args)
        except KeyError as error:
            if error.args != ("x-correlation-id",):
                raise
            return Lost(
                "something answered that is not AvaTax (no x-correlation-id): a proxy or load balancer", sent=True
            )
        except requests.ConnectTimeout:
            return Lost("AvaTax could not be reached in time", sent=False)
        except requests.Timeout:
            return Lost("AvaTax did not answer in time", sent=True)
        except requests.RequestException as error:
            sent = not _never_connected(error)
            return Lost("the connection was lost" if sent else "AvaTax could not be reached", sent=sent)
        return Reply(
            response.status_code,
            _decoded(response.content),
            response.headers.get("x-correlation-id"),
            _seconds(response.headers.get("retry-after")),
        )


async def require_company(code: str, ask: Callable[[str, dict[str, str]], Awaitable[Reply]]) -> None:
    """One call, which proves address, credentials and company code. `ask`: a method and its parameters, to the answer
    of a call that was carried out. Raises `OutcomeError` if AvaTax has no such company."""
    reply = await ask("query_companies", {"$filter": f"companyCode eq '{code}'"})
    if not reply.body.get("value"):
        cause = f"AvaTax has no company {code!r} for these credentials."
        fix = "Operator: correct HUB_AVALARA_COMPANY_CODE; the code is in AvaTax under Settings, Companies."
        raise OutcomeError(Reject("company_unknown", cause, fix))


def _never_connected(error: requests.RequestException) -> bool:
    cause = error.args[0] if error.args else None
    if isinstance(cause, MaxRetryError):
        return isinstance(cause.reason, NewConnectionError) or "CERTIFICATE_VERIFY_FAILED" in str(cause.reason)
    return False


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content, parse_float=Decimal)
    except ValueError:
        return None


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds; the form with a date is not used by AvaTax as far as known."""
    return float(header) if header is not None and header.isdecimal() else None


def wire(value: Any) -> Any:
    """A record's fields as the library can send them: it cannot encode `Decimal`. Fields that are None are left out.

    A `Decimal` becomes a JSON number where the float prints exactly the same digits (any amount up to twelve digits
    with four decimals), else a string, which AvaTax accepts for numbers as well (recorded traffic).
    """
    if isinstance(value, Mapping):
        return {k: wire(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [wire(v) for v in value]
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        number = float(value)
        return number if Decimal(repr(number)) == value else format(value, "f")
    return value

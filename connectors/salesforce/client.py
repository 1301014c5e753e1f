"""simple-salesforce, tamed: one token for all threads, a timeout on everything, errors with their headers.

What the library does by itself and must not (library source, 1.12.10): no timeout by default, also when signing in;
after a 401 it repeats with its extra headers lost, and every thread signs in for itself; its errors carry no headers.
So it is used for two things only: `SalesforceLogin` to sign in, and `restful()` of an object that cannot sign in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError
from simple_salesforce.login import SalesforceLogin
from urllib3.exceptions import MaxRetryError, NewConnectionError

from connectors.salesforce.errors import DAILY_PAUSE, Fault, faults, judge_call, judge_login
from connectors.salesforce.settings import SalesforceSettings
from hub.errors import Defer, Outcome, OutcomeError, Retry, Unknown

CALL_OPTIONS = "client=billinghub"
"""Comes back as `changeOrigin` in change events, which tells our own writes from people's (Change Data Capture)."""


class CallError(Exception):
    """A call that gave no usable answer. `outcome` is what it means for a delivery that depended on it."""

    def __init__(self, outcome: Outcome, status: int | None = None, found: tuple[Fault, ...] = ()) -> None:
        super().__init__(repr(outcome))
        self.outcome, self.status, self.faults = outcome, status, found


@dataclass(frozen=True, slots=True)
class Token:
    """A session of the integration user. `number` tells one sign-in from the next."""

    value: str
    instance: str
    number: int


class Adapter(HTTPAdapter):
    """Puts a timeout on every call, keeps the last answer's headers, and may lead every call to another address.

    The library builds `https://` addresses only; `target` is how a loopback address is reached all the same.
    """

    def __init__(
        self, target: str | None, timeout: tuple[float, float], seen: Callable[[Mapping[str, str]], None]
    ) -> None:
        super().__init__(pool_connections=2, pool_maxsize=2, max_retries=0)
        self._target, self._timeout, self._seen = target, timeout, seen

    def send(  # type: ignore[override]  # the library passes everything but the request by name
        self, request: requests.PreparedRequest, *, timeout: Any = None, **rest: Any
    ) -> requests.Response:
        if self._target is not None:
            assert request.url is not None
            parts = urlsplit(request.url)
            request.url = self._target + parts.path + (f"?{parts.query}" if parts.query else "")
        response = super().send(request, timeout=timeout or self._timeout, **rest)
        self._seen(response.headers)
        return response


class Tokens:
    """The one session token. Whoever finds it expired asks for the next; only the first of them signs in."""

    def __init__(self, sign_in: Callable[[], tuple[str, str]]) -> None:
        self._sign_in = sign_in
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._count = 0
        self._failures = 0
        self._failure: Outcome | None = None

    def get(self) -> Token:
        return self._token or self.renew(None)

    def renew(self, stale: Token | None) -> Token:
        """A token other than `stale`. Raises `CallError`: also for those who waited while the sign-in failed."""
        failures = self._failures
        with self._lock:
            if self._token is not None and self._token is not stale:
                return self._token
            if self._failure is not None and self._failures != failures:
                raise CallError(self._failure)
            self._token = None
            try:
                value, instance = self._sign_in()
            except CallError as error:
                self._failures += 1
                self._failure = error.outcome
                raise
            self._count += 1
            self._token = Token(value, instance, self._count)
            return self._token


class _Line(threading.local):
    """One thread's connection: a requests session must not be shared between threads."""

    session: requests.Session | None = None
    sf: Salesforce | None = None
    number: int = 0


class Client:
    """Blocking and thread-safe. A call takes `connect_timeout` + `timeout` seconds at most, and as much to sign in."""

    def __init__(
        self,
        settings: SalesforceSettings,
        turn: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`turn` blocks until a call may go, or raises `OutcomeError`."""
        self._settings, self._turn, self._clock = settings, turn, clock
        self._tokens = Tokens(self._sign_in)
        self._line = _Line()
        self._sessions: list[requests.Session] = []
        self._sessions_lock = threading.Lock()
        self.usage: tuple[int, int] | None = None
        """API calls used and allowed in the last 24 hours, as of the last answer (`Sforce-Limit-Info`): the whole
        org's, so every process is told the same."""
        self._usage_at = 0.0

    def upsert(self, kind: str, external_id: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """`PATCH composite/sobjects/{kind}/{external_id}`: one result per row, in order. Costs one API call."""
        records = [{"attributes": {"type": kind}, **row} for row in rows]
        path = f"composite/sobjects/{kind}/{external_id}"
        found = self.call("PATCH", path, body={"allOrNone": False, "records": records})
        if not isinstance(found, list) or len(found) != len(rows):
            raise CallError(Unknown("Salesforce's answer does not match the records sent"), 200)
        return found

    def query(self, soql: str) -> list[dict[str, Any]]:
        """The first page (up to 2,000 records) of a SOQL query; numbers with a fraction are `Decimal`."""
        found = self.call("GET", "query", params={"q": soql})
        if not isinstance(found, dict) or not isinstance(found.get("records"), list):
            raise CallError(Unknown("Salesforce's answer to a query has no records"), 200)
        return list(found["records"])

    def call(self, method: str, path: str, *, params: dict[str, str] | None = None, body: Any = None) -> Any:
        """The decoded answer. Signs in again and repeats once when the session has expired. Raises `CallError`."""
        self._leave_reserve()
        token = self._tokens.get()
        given = {
            "params": params,
            "data": None if body is None else encoded(body),
            "allow_redirects": False,  # a redirected PATCH would be repeated as a GET
        }
        try:
            return self._once(token, method, path, given)
        except CallError as error:
            if error.status is not None and 300 <= error.status < 400:
                self._tokens.renew(token)  # the org has moved: signing in tells where to; the delivery comes again
            if error.status != 401 or not any(f.code == "INVALID_SESSION_ID" for f in error.faults):
                raise
        return self._once(self._tokens.renew(token), method, path, given)

    def close(self) -> None:
        """Close all connections. The threads that used them must have ended."""
        with self._sessions_lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()

    def _leave_reserve(self) -> None:
        """No call while others need what is left of the day. One that comes later than `DAILY_PAUSE` looks again."""
        if self.usage is None or self._settings.daily_reserve == 0:
            return
        (used, allowed), age = self.usage, self._clock() - self._usage_at
        if used < allowed * (1 - self._settings.daily_reserve) or age >= DAILY_PAUSE:
            return
        reason = (
            f"Salesforce: {used:,} of the org's {allowed:,} calls in 24 hours are used; the rest is left for others"
            f" (HUB_SALESFORCE_DAILY_RESERVE={self._settings.daily_reserve:g}); looked at again every"
            f" {DAILY_PAUSE / 60:.0f} minutes"
        )
        raise CallError(Defer(reason, DAILY_PAUSE - age, pause=True))

    def _once(self, token: Token, method: str, path: str, given: dict[str, Any]) -> Any:
        try:
            if self._turn is not None:
                self._turn()
            return self._connection(token).restful(path, method=method, **given)
        except OutcomeError as error:
            raise CallError(error.outcome) from None
        except SalesforceError as error:
            found = faults(error.content)
            external_id = path.rpartition("/")[2]  # where an upsert names it
            raise CallError(judge_call(error.status, found, external_id), error.status, found) from None
        except requests.RequestException as error:
            raise CallError(_network(error)) from None
        except ValueError:  # bytes that are not even text
            raise CallError(Unknown("Salesforce's answer cannot be read")) from None

    def _connection(self, token: Token) -> Salesforce:
        """This thread's connection, speaking with this token."""
        line = self._line
        if line.session is None:
            line.session = self._session()
        if line.sf is None or line.number != token.number:
            line.sf = Salesforce(
                session_id=token.value,
                instance=token.instance,
                session=line.session,
                version=self._settings.api_version,
                parse_float=Decimal,
                object_pairs_hook=dict,
            )
            line.sf.headers.pop("X-PrettyPrint", None)
            line.number = token.number
        return line.sf

    def _session(self) -> requests.Session:
        settings = self._settings
        session = requests.Session()
        session.mount("https://", Adapter(settings.base_url, (settings.connect_timeout, settings.timeout), self._note))
        # The environment's proxies and CA bundle apply to the real Salesforce only.
        session.trust_env = settings.base_url is None
        session.auth = _as_given
        # On the session, because the library drops per-call headers when it repeats a call.
        session.headers["Sforce-Call-Options"] = CALL_OPTIONS
        if settings.allow_duplicates:
            session.headers["Sforce-Duplicate-Rule-Header"] = "allowSave=true"
        with self._sessions_lock:
            self._sessions.append(session)
        return session

    def _note(self, headers: Mapping[str, str]) -> None:
        usage = Salesforce.parse_api_usage(headers.get("Sforce-Limit-Info", "")).get("api-usage")
        if usage is not None:
            self.usage, self._usage_at = (usage.used, usage.total), self._clock()

    def _sign_in(self) -> tuple[str, str]:
        """Session id and host name. No write depends on it, so nothing here is ever `Unknown`."""
        settings = self._settings
        given: dict[str, Any]
        if settings.client_secret is not None:
            given = {"consumer_secret": settings.client_secret.get_secret_value(), "domain": settings.domain}
        else:
            # The library takes the JWT's audience from `domain` and the token host from `instance_url`.
            given = {
                "username": settings.username,
                "privatekey": settings.private_key_pem(),
                "domain": settings.jwt_audience(),
                "instance_url": settings.domain,
            }
        session = self._session()
        try:
            return SalesforceLogin(session=session, consumer_key=settings.client_id, **given)
        except SalesforceAuthenticationFailed as error:
            raise CallError(judge_login(error.code, error.auth_message)) from None
        except requests.RequestException as error:
            raise CallError(Retry("NETWORK", f"signing in to Salesforce failed: {type(error).__name__}")) from None
        except (AttributeError, TypeError, ValueError):  # JSON, but not a token answer
            raise CallError(Retry("SIGN_IN", "Salesforce's answer to the sign-in cannot be read")) from None
        finally:
            session.close()
            with self._sessions_lock:
                self._sessions.remove(session)


def encoded(body: Any) -> bytes:
    """JSON with every `Decimal` as the number it is, digit for digit."""
    return orjson.dumps(body, default=_number)


def _number(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(format(value, "f"))
    raise TypeError(f"a {type(value).__name__} cannot be sent to Salesforce")


def _as_given(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps the Authorization header as the library set it: without this, requests may replace it from `.netrc`."""
    return request


def _network(error: requests.RequestException) -> Outcome:
    """Whether the request can have reached Salesforce."""
    name = type(error).__name__
    reason = error.args[0].reason if error.args and isinstance(error.args[0], MaxRetryError) else None
    refused = (requests.exceptions.ConnectTimeout, requests.exceptions.SSLError, requests.exceptions.ProxyError)
    if isinstance(error, refused) or isinstance(reason, NewConnectionError):
        return Retry("NETWORK", f"no connection to Salesforce: {name}")
    return Unknown(f"the call to Salesforce did not end: {name}")

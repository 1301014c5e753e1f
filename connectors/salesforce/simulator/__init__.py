"""Salesforce, simulated: sign-in, records, collections and queries of one org, strictly. Nothing is written to disk.

Left out: composite, graph, tree, Bulk API, search, Apex, change events, sharing and field-level security. What it
cannot prove stands in the connector's README.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Scope, Send

from connectors.salesforce.simulator.oauth import Sessions
from connectors.salesforce.simulator.rows import Rows
from connectors.salesforce.simulator.schema import FieldDef
from connectors.salesforce.simulator.store import Guard, Store
from connectors.salesforce.simulator.values import RefusedError
from connectors.salesforce.simulator.web import CONCURRENT, Budget, answer, application, expired, json_body
from connectors.simulator import Clock

__all__ = ["SalesforceSimulator"]


class SalesforceSimulator:
    """See `connectors.simulator.Simulator`. The methods below `refusal` set up trouble for tests."""

    def __init__(self, *, seed: int = 7, clock: Clock) -> None:
        self._seed, self._clock = seed, clock
        self.app = _Served(self)
        self.reset()

    def reset(self) -> None:
        """An empty org: no records, rules, locks or sessions; the first ids again."""
        self.store = Store(self._seed, self._clock)
        org = next(iter(self.store.rows["Organization"]))
        self.sessions = Sessions(self._seed, self._clock, org, self.store.user)
        self.budget = Budget(self._clock)
        self.inner = application(Rows(self.store, json_body), self.sessions, self.budget)

    def state(self) -> dict[str, Any]:
        """`{"Account": [...], "Stripe_Subscription__c": [...], "Stripe_Invoice__c": [...]}`: all fields by API name,
        numbers as text, lookups as ids, in the order the records were made. Deleted records are not shown."""
        return self.store.state()

    def refusal(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """`expired`: the session; `limit`: too many long calls at once; `daily`: the day's calls are used up."""
        errors = {
            "expired": expired(),
            "limit": RefusedError("REQUEST_LIMIT_EXCEEDED", CONCURRENT, status=403),
            "daily": RefusedError("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", status=403),
        }
        response = answer(errors[kind].body(), errors[kind].status or 400)
        return response.status_code, dict(response.headers), bytes(response.body)

    def expire_sessions(self) -> None:
        """Every session ends now."""
        self.sessions.expire()

    def daily_limit(self, calls: int) -> None:
        """The org's API calls per day, used ones included."""
        self.budget.limit = calls

    def busy(self, calls: int) -> None:
        """The next calls find too many long calls under way."""
        self.budget.busy = calls

    def lock(self, kind: str, key: str) -> None:
        """Someone holds this record: it and its children cannot be written."""
        self.store.locked.add(self.record(kind, key)["Id"])

    def unlock(self) -> None:
        self.store.locked.clear()

    def validation_rule(self, kind: str, fails: Guard, message: str, field: str | None = None) -> None:
        """Refuse records of a kind for which `fails` is true."""
        self.store.validation_rules.append((kind, fails, message, field))

    def duplicate_rule(self, kind: str, matches: Guard, *, alert_only: bool = False) -> None:
        """Refuse new records of a kind for which `matches` is true; an alert can be overridden by header."""
        self.store.duplicate_rules.append((kind, matches, alert_only))

    def trigger(self, kind: str, fails: Guard, message: str) -> None:
        """Apex that fails on some records, with the message it raises."""
        self.store.triggers.append((kind, fails, message))

    def race(self, kind: str, key: str) -> None:
        """The next insert of this key finds that someone was faster."""
        self.store.raced.add((kind, key))

    def add_field(self, kind: str, field: FieldDef) -> None:
        self.store.objects[kind].fields[field.name] = field
        for row in self.store.rows[kind].values():
            row.setdefault(field.name, None)

    def remove_field(self, kind: str, name: str) -> None:
        del self.store.objects[kind].fields[name]

    def remove_object(self, kind: str) -> None:
        del self.store.objects[kind]

    def record(self, kind: str, key: str) -> dict[str, Any]:
        """The stored record with this external id. Raises `KeyError`."""
        obj = self.store.objects[kind]
        for field in obj.fields.values():
            if field.external_id and (row := self.store.by_key(obj, field, key)) is not None:
                return row
        raise KeyError(key)

    def edit(self, kind: str, key: str, **fields: Any) -> None:
        """A person changes a record."""
        obj = self.store.objects[kind]
        self.store.save(obj, self.record(kind, key), self.store.parse(obj, fields))

    def delete(self, kind: str, key: str) -> None:
        """A person deletes a record."""
        self.store.delete(self.record(kind, key))


class _Served:
    """The application as a server holds it: the same one, though `reset` makes the inner one anew."""

    def __init__(self, simulator: SalesforceSimulator) -> None:
        self._simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._simulator.inner(scope, receive, send)

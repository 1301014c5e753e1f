"""What requests do at the vendors: every write that was carried out, and what it changed, whoever heard the answer.

Told by the vendors themselves: all they hold is compared before and after each request that is not a read. The end of
a story looks the same whether something was written once or twice; this does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Message, Receive, Scope, Send

NOTED = {"id", "Id", "CreatedDate", "LastModifiedDate", "SystemModstamp", "entity", "attributes"}
"""Times a vendor notes and ids it draws: a repeat that changes nothing else has changed nothing."""


@dataclass(frozen=True)
class Write:
    """A request that is not a read, as the vendor answered it."""

    vendor: str
    method: str
    path: str
    status: int
    effects: tuple[str, ...]
    """`made <record>`, `changed <record>`, `removed <record>`."""


@dataclass
class Effects:
    """All writes since the last `clear`, in the order in which they took effect."""

    writes: list[Write] = field(default_factory=list)

    def watch(self, vendor: str, simulator: Any) -> Any:
        """The simulator, watched; for `stack.vendors`. Stripe is only read."""
        return simulator if vendor == "stripe" else Watched(vendor, simulator, self.writes)

    def counted(self, vendor: str) -> Counter[str]:
        return Counter(effect for write in self.writes if write.vendor == vendor for effect in write.effects)

    def carried_out(self, vendor: str, method: str, part: str = "") -> Counter[str]:
        """Path -> how many such requests the vendor said yes to."""
        return Counter(
            write.path
            for write in self.writes
            if (write.vendor, write.method) == (vendor, method) and write.status < 300 and part in write.path
        )


class Watched:
    """A simulator whose writes are noted."""

    def __init__(self, vendor: str, simulator: Any, writes: list[Write]) -> None:
        self._vendor, self._simulator, self._writes = vendor, simulator, writes
        # Asked now, S3 loads what it needs now, and not during the first request.
        self._before = held(vendor, simulator.state())
        self.state, self.refusal = simulator.state, simulator.refusal

    def reset(self) -> None:
        self._simulator.reset()
        self._before = {}
        self._writes.clear()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD"):
            await self._simulator.app(scope, receive, send)
            return
        asked: list[Message] = []
        while not asked or asked[-1].get("more_body"):
            asked.append(await receive())
        if asked[-1]["type"] == "http.disconnect":
            return  # its sender was killed before all of it was sent
        said: list[Message] = []
        rest = iter(asked)

        async def again() -> Message:
            return next(rest, None) or await receive()

        async def keep(message: Message) -> None:
            said.append(message)

        await self._simulator.app(scope, again, keep)
        after = held(self._vendor, self._simulator.state())
        status = next((message["status"] for message in said if message["type"] == "http.response.start"), 500)
        path = str(scope["path"]).removeprefix(f"/{self._vendor}")
        changes = tuple(_changes(self._before, after))
        self._writes.append(Write(self._vendor, scope["method"], path, status, changes))
        self._before = after
        for message in said:
            await send(message)


def held(vendor: str, state: Mapping[str, Any]) -> dict[str, bytes]:
    """Record -> all of it in one text."""
    rows: list[tuple[str, Any]] = []
    if vendor == "salesforce":
        for kind, found in state.items():
            name = "Stripe_Customer_Id__c" if kind == "Account" else "Stripe_Id__c"
            rows += [(f"{kind} {row[name]}", row) for row in found]
    elif vendor == "netsuite":
        for kind, found in state.items():
            for address in (a for row in found if kind == "customer" for a in row.get("addressBook", ())):
                address.pop("id", None)  # a number that NetSuite draws
            listed = found if kind not in ("balances", "foreign", "carried") else ()  # those follow from the rest
            rows += [(f"{kind} {row['externalId'].removeprefix('stripe_')}", row) for row in listed]
    elif vendor == "avalara":
        rows += [(str(row["code"]), row) for row in state["documents"]]
        rows += [(f"superseded {row['code']}", row) for row in state["superseded"]]
    elif vendor == "s3":
        rows += [(str(row["key"]), row) for row in state["objects"]]
    known: dict[str, bytes] = {}
    for key, row in rows:
        name = key
        while name in known:
            name += " once more"
        shown = {k: v for k, v in row.items() if k not in NOTED}
        known[name] = orjson.dumps(shown, default=str, option=orjson.OPT_SORT_KEYS)
    return known


def _changes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[str]:
    for key, row in after.items():
        if key not in before:
            yield f"made {key}"
        elif before[key] != row:
            yield f"changed {key}"
    for key in before:
        if key not in after:
            yield f"removed {key}"

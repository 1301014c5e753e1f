"""Paging and expanding, for every list and object alike (docs.stripe.com/api/pagination, /api/expanding_objects)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Reversible
from typing import Any

from connectors.stripe.simulator.errors import no_such, refused
from connectors.stripe.simulator.values import API_PAGE, Obj
from connectors.stripe.simulator.world import World

PAGING = frozenset({"limit", "starting_after", "ending_before", "expand"})

_REFERENCES = {
    "balance_transaction": {"source": ""},
    "charge": {
        "balance_transaction": "balance_transaction",
        "customer": "customer",
        "payment_intent": "payment_intent",
    },
    "credit_note": {
        "customer": "customer",
        "customer_balance_transaction": "customer_balance_transaction",
        "invoice": "invoice",
    },
    "customer_balance_transaction": {"credit_note": "credit_note", "customer": "customer", "invoice": "invoice"},
    "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
    "invoice": {"customer": "customer", "discounts": "discount"},
    "invoice_payment": {"invoice": "invoice"},
    "invoiceitem": {"customer": "customer", "invoice": "invoice"},
    "payment_intent": {"customer": "customer", "latest_charge": "charge"},
    "price": {"product": "product"},
    "payout": {
        "balance_transaction": "balance_transaction",
        "failure_balance_transaction": "balance_transaction",
    },
    "refund": {
        "balance_transaction": "balance_transaction",
        "charge": "charge",
        "customer": "customer",
        "failure_balance_transaction": "balance_transaction",
        "payment_intent": "payment_intent",
    },
    "subscription": {"customer": "customer", "latest_invoice": "invoice", "discounts": "discount"},
    "subscription_details": {"subscription": "subscription"},
    "price_details": {"price": "price"},
    "payment": {"payment_intent": "payment_intent", "payment_record": "payment_record"},
    "source": {"coupon": "coupon"},
    "refunds": {"refund": "refund"},
}
"""Kind of object (or name of the inner object) -> expandable field -> kind it points to ("": any)."""


def page(rows: Iterable[Obj], params: Obj, url: str, render: Callable[[Obj], Obj], kind: str) -> Obj:
    """One page of a list. `rows` come in the list's own order: newest first, except for lines."""
    limit = params.get("limit", API_PAGE)
    if not 1 <= limit <= 100:
        raise refused(
            f"This value must be {'greater than or equal to 1' if limit < 1 else 'less than or equal to 100'}"
            f" (it currently is '{limit}').",
            param="limit",
            code="parameter_invalid_integer",
        )
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        raise refused(
            "You can only specify one of these parameters: starting_after, ending_before.", param="starting_after"
        )
    found, more = _cut(list(rows) if before else rows, limit, after, before, kind)
    return {"object": "list", "url": url, "has_more": more, "data": [render(row) for row in found]}


def newest(
    world: World,
    params: Obj,
    kind: str,
    *names: str,
    rows: Reversible[Obj] | None = None,
    where: Callable[[Obj], bool] = lambda _row: True,
    created: str = "created",
    url: str | None = None,
) -> Obj:
    """A list as most are: newest first, nothing deleted, by equal fields (`names`) and by `created`, where asked for.

    `rows`, oldest first, instead of all of this kind; `where`: what else must hold; `created`: the field that the
    parameter of this name is about; `url`: where the list is not at `/v1/<kind>s`.
    """
    equal = [(name, params[name]) for name in names if params.get(name) is not None]
    moment = params.get("created")
    found = (
        row
        for row in reversed(world.objects[kind].values() if rows is None else rows)
        if not row.get("deleted")
        and all(row[name] == value for name, value in equal)
        and in_range(row[created], moment)
        and where(row)
    )
    return page(found, params, url or f"/v1/{kind.replace('.', '/')}s", world.snapshot, kind)


def _cut(rows: Iterable[Obj], limit: int, after: str | None, before: str | None, kind: str) -> tuple[list[Obj], bool]:
    if before:
        everything = list(rows)
        at = next((i for i, row in enumerate(everything) if row["id"] == before), None)
        if at is None:
            raise no_such(kind, before, "ending_before")
        return everything[max(0, at - limit) : at], at > limit
    found: list[Obj] = []
    passed = after is None
    for row in rows:
        if not passed:
            passed = row["id"] == after
        elif len(found) == limit:
            return found, True
        else:
            found.append(row)
    if not passed and after is not None:
        raise no_such(kind, after, "starting_after")
    return found, False


def in_range(value: int | None, wanted: Any) -> bool:
    """A time filter: an exact value or any of gt, gte, lt, lte."""
    if wanted is None:
        return True
    if value is None:
        return False
    if isinstance(wanted, int):
        return value == wanted
    return bool(
        value > wanted.get("gt", value - 1)
        and value >= wanted.get("gte", value)
        and value < wanted.get("lt", value + 1)
        and value <= wanted.get("lte", value)
    )


def expand(world: World, body: Obj, paths: list[str]) -> Obj:
    """Replace ids by objects along `paths`; an unknown path is refused. At most four levels deep (the vendor's
    limit)."""
    if len(paths) > 20:
        raise refused("You can expand at most 20 properties.", param="expand")
    for path in paths:
        steps = path.split(".")
        if len(steps) > 4:
            raise refused("You cannot expand more than 4 levels of a property.", param="expand")
        _expand(world, body, str(body.get("object", "")), steps, path)
    return body


def _expand(world: World, body: Obj, kind: str, steps: list[str], path: str) -> None:
    step, rest = steps[0], steps[1:]
    value = body.get(step)
    if body.get("object") == "list":
        if step != "data" or not rest:
            raise _cannot(path)
        for item in body["data"]:
            _expand(world, item, str(item.get("object", "")), rest, path)
        return
    target = _REFERENCES.get(kind, {}).get(step)
    included = _INCLUDED.get((kind, step))
    if included is not None:
        body[step] = included(world, body)
    elif target is not None and isinstance(value, str):
        body[step] = world.snapshot(world.objects[target or _kind(world, value)][value])
    elif target is not None and isinstance(value, list):
        body[step] = [world.snapshot(world.objects[target][each]) if isinstance(each, str) else each for each in value]
    elif (
        target is None
        and (not rest or not isinstance(value, dict | list))
        and not (value is None and step in body and rest)
    ):
        raise _cannot(path)
    if rest:
        value = body[step]
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                _expand(world, item, str(item.get("object", step)), rest, path)


def _kind(world: World, object_id: str) -> str:
    return next(kind for kind, table in world.objects.items() if object_id in table)


def _cannot(path: str) -> Exception:
    return refused(f"This property cannot be expanded ({path}).", param="expand")


def _payments(world: World, invoice: Obj) -> Obj:
    rows = world.all("invoice_payment", reversed(world.payments_of[invoice["id"]]))
    url = "/v1/invoice_payments"
    return {"object": "list", "data": [world.snapshot(row) for row in rows[:API_PAGE]], "has_more": False, "url": url}


def _subscriptions(world: World, customer: Obj) -> Obj:
    rows = [s for s in world.all("subscription", reversed(world.subscriptions_of[customer["id"]])) if not s["ended_at"]]
    url = f"/v1/customers/{customer['id']}/subscriptions"
    data = [world.snapshot(row) for row in rows[:API_PAGE]]
    return {"object": "list", "data": data, "has_more": len(rows) > API_PAGE, "url": url}


def _tax_ids(world: World, customer: Obj) -> Obj:
    rows = world.all("tax_id", reversed(world.tax_ids_of[customer["id"]]))
    url = f"/v1/customers/{customer['id']}/tax_ids"
    return {"object": "list", "data": [world.snapshot(row) for row in rows], "has_more": False, "url": url}


def _tiers(world: World, price: Obj) -> list[Obj]:
    return [dict(tier) for tier in world.tiers.get(price["id"], [])]


def _no_list(name: str) -> Callable[[World, Obj], Obj]:
    return lambda _world, owner: {
        "object": "list",
        "data": [],
        "has_more": False,
        "url": f"/v1/{owner['object']}s/{owner['id']}/{name}",
    }


def _refunds(world: World, charge: Obj) -> Obj:
    rows = [r for r in world.objects["refund"].values() if r["charge"] == charge["id"]]
    data = [world.snapshot(row) for row in rows[::-1][:API_PAGE]]
    return {
        "object": "list",
        "data": data,
        "has_more": len(rows) > API_PAGE,
        "url": f"/v1/charges/{charge['id']}/refunds",
    }


_INCLUDED: dict[tuple[str, str], Callable[[World, Obj], Any]] = {
    ("invoice", "payments"): _payments,
    ("customer", "subscriptions"): _subscriptions,
    ("customer", "tax_ids"): _tax_ids,
    ("customer", "sources"): _no_list("sources"),
    ("charge", "refunds"): _refunds,
    ("price", "tiers"): _tiers,
}

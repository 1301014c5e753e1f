"""Made-up events of a realistic size and shape, made cheaply: a template with holes, no JSON written per event."""

from __future__ import annotations

import time
from typing import Any

import orjson

from hub import signature

API_VERSION = "2026-10-28.endive"
PATH = "/webhooks/stripe"
_HOLES = ("@event@", "@invoice@", "@customer@", "@line@", "@number@")


def _invoice(status: str) -> dict[str, Any]:
    """An invoice of two lines with tax whose parts add up; most fields a mapping reads are there."""
    lines = [
        {
            "id": f"il_{n}@line@",
            "object": "line_item",
            "amount": amount,
            "currency": "usd",
            "description": f"{n} x Platform seats (at $50.00 / month)",
            "discount_amounts": [],
            "invoice": "@invoice@",
            "livemode": False,
            "period": {"start": 1764547200, "end": 1767225600},
            "pricing": {
                "type": "price_details",
                "price_details": {"price": "price_1Bench", "product": "prod_Bench"},
                "unit_amount_decimal": "5000",
            },
            "quantity": n,
            "subtotal": amount,
            "taxes": [],
        }
        for n, amount in ((1, 5000), (2, 10000))
    ]
    return {
        "id": "@invoice@",
        "object": "invoice",
        "account_country": "US",
        "amount_due": 15000,
        "amount_paid": 15000 if status == "paid" else 0,
        "amount_remaining": 0 if status == "paid" else 15000,
        "attempt_count": 1,
        "automatic_tax": {"enabled": False, "provider": None},
        "billing_reason": "manual",
        "collection_method": "charge_automatically",
        "created": 1767229200,
        "currency": "usd",
        "customer": "@customer@",
        "discounts": [],
        "due_date": None,
        "effective_at": 1767232800,
        "lines": {"object": "list", "data": lines, "has_more": False, "total_count": 2},
        "livemode": False,
        "metadata": {},
        "number": "BENCH-@number@",
        "parent": None,
        "period_start": 1764547200,
        "period_end": 1767225600,
        "status": status,
        "status_transitions": {"finalized_at": 1767232800, "paid_at": 1767232805 if status == "paid" else None},
        "subtotal": 15000,
        "total": 15000,
        "total_discount_amounts": [],
        "total_taxes": [],
    }


def _event(type_: str, obj: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "id": "@event@",
            "object": "event",
            "api_version": API_VERSION,
            "created": int(time.time()),
            "data": {"object": obj},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": type_,
        }
    )


class Template:
    """Bytes with holes that are filled from a number."""

    def __init__(self, text: bytes) -> None:
        self._parts: list[bytes | int] = [text]
        for which, hole in enumerate(_HOLES):
            self._parts = [p for part in self._parts for p in _split(part, hole.encode(), which)]

    def fill(self, *values: bytes) -> bytes:
        """`values` in the order event, invoice, customer, line, number."""
        return b"".join([values[p] if isinstance(p, int) else p for p in self._parts])


def _split(part: bytes | int, hole: bytes, which: int) -> list[bytes | int]:
    if isinstance(part, int):
        return [part]
    found: list[bytes | int] = []
    for piece in part.split(hole):
        found += [piece, which]
    return found[:-1]


class Maker:
    """Unique events: number `n` of a run is always the same event, about an invoice of its own."""

    def __init__(self, run: str, *, customers: int, type_: str = "invoice.finalized") -> None:
        self._run, self._customers = run.encode(), customers
        self._invoice = Template(_event(type_, _invoice("paid" if type_ == "invoice.paid" else "open")))

    def event(self, n: int) -> bytes:
        """The body of event `n`, about 2 KB."""
        own = b"1Bench%s%010d" % (self._run, n)
        return self._invoice.fill(b"evt_" + own, b"in_" + own, b"cus_Bench%06d" % (n % self._customers), own, own)


def customer_event(n: int) -> bytes:
    """A `customer.created` for the `n`th customer of every `Maker`, for mappings that need the customer."""
    id_ = f"cus_Bench{n:06d}"
    obj = {
        "id": id_,
        "object": "customer",
        "address": {"line1": f"{n} Main Street", "line2": None, "city": "Springfield", "state": "IL",
                    "postal_code": "62701", "country": "US"},
        "created": 1767229100,
        "currency": "usd",
        "delinquent": False,
        "livemode": False,
        "name": f"Bench {n} Inc.",
        "phone": None,
    }  # fmt: skip
    return _event("customer.created", obj).replace(b"@event@", f"evt_{id_}".encode())


def product_event() -> bytes:
    """A `product.created` for the one product of every `Maker`, for mappings that need its tax code."""
    obj = {
        "id": "prod_Bench",
        "object": "product",
        "active": True,
        "created": 1767229000,
        "description": None,
        "livemode": False,
        "metadata": {},
        "name": "Platform seats",
        "tax_code": "txcd_10103001",
    }
    return _event("product.created", obj).replace(b"@event@", b"evt_prod_Bench")


def request(body: bytes, secret: bytes, host: str, now: int) -> bytes:
    """The signed HTTP/1.1 request that carries `body`, as bytes for the wire."""
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nAccept: */*; q=0.5, application/xml\r\n"
        f"Stripe-Signature: {signature.sign(body, secret, now)}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body

"""Stripe as a small machine: objects, the transitions its documentation allows, and what it says of them.

Written from docs.stripe.com/invoicing/integration/workflow-transitions and the API reference's event object, and knows
nothing of the hub. Its clock is its own and counts whole seconds.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Obj = dict[str, Any]
Event = dict[str, Any]
VERSION, OLD = "2026-10-28.endive", "2020-08-27"
PRICE = {"price_details": {"price": "price_1", "product": "prod_1"}}
ADDRESS = {"line1": "1 Quay", "city": "Seattle", "state": "WA", "postal_code": "98101", "country": "US"}
OLD_SHAPE: Obj = {"name": "old", "total": 1, "subtotal": 1, "metadata": {"remark": "old"}, "items": {"data": []}}
FROM = {
    "finalize": ("draft",),
    "pay": ("open", "uncollectible"),
    "void": ("open", "uncollectible"),
    "give_up": ("open",),
    "fail": ("open",),
    "part": ("open",),
    "edit": ("draft",),
    "discard": ("draft",),
}
"""Which statuses of an invoice allow what."""
SAID = {
    "finalize": ("invoice.finalized",),
    "pay": ("invoice.paid", "invoice.payment_succeeded"),
    "void": ("invoice.voided",),
    "give_up": ("invoice.marked_uncollectible",),
    "fail": ("invoice.payment_failed",),
    "part": (),
    "edit": (),
}


@dataclass
class Stripe:
    """Everything that is true, and everything that was said."""

    second: int = 1_789_000_000
    objects: dict[str, Obj] = field(default_factory=dict)
    """As they are now; a deleted one stays, marked."""
    truth: dict[str, list[Obj]] = field(default_factory=dict)
    """As they were, one after the other; the last is what is."""
    events: list[Event] = field(default_factory=list)

    def read(self, object_id: str) -> Obj | None:
        """What `GET` gives. Of a deleted customer a stub; a deleted draft is gone (API reference, delete a draft)."""
        if object_id == "prod_1":
            return {"id": object_id, "object": "product", "tax_code": "txcd_10103001", "metadata": {}}
        obj = self.objects.get(object_id)
        if obj is not None and obj.get("deleted"):
            stub = {"id": object_id, "object": "customer", "deleted": True}
            return stub if obj["object"] == "customer" else None
        return deepcopy(obj)

    def twin(self, event: Event) -> Event:
        """The thin notification of what `event` tells (API v2, the event object): it names the object, no more."""
        obj = event["data"]["object"]
        when = datetime.fromtimestamp(event["created"], UTC).strftime("%Y-%m-%dT%H:%M:%S.500Z")
        url = f"/v1/{obj['object']}s/{obj['id']}"
        return {
            "id": f"{event['id']}_thin", "object": "v2.core.event", "type": f"v1.{event['type']}", "created": when,
            "livemode": False, "context": None, "related_object": {"id": obj["id"], "type": obj["object"], "url": url},
        }  # fmt: skip

    def of(self, kind: str, pick: int) -> Obj | None:
        """One of the living objects of a kind."""
        found = [o for o in self.objects.values() if o["object"] == kind and not o.get("deleted")]
        return found[pick % len(found)] if found else None

    def _new(self, type_: str, obj: Obj) -> None:
        self.objects[obj["id"]] = obj
        self.truth[obj["id"]] = [deepcopy(obj)]
        self._say(type_, obj)

    def _say(self, type_: str, obj: Obj, previous: Obj | None = None, *, old: bool = False, late: int = 0) -> None:
        shown = deepcopy(obj)
        shown.pop("deleted", None)
        if old:  # whoever maps the old shape as it is will be seen
            shown |= {key: wrong for key, wrong in OLD_SHAPE.items() if key in shown}
        data: Obj = {"object": shown}
        if previous is not None:
            data["previous_attributes"] = previous
        self.events.append(
            {
                "id": f"evt_{len(self.events)}",
                "object": "event",
                "type": type_,
                "created": self.second + late,
                "api_version": OLD if old else VERSION,
                "livemode": False,
                "data": data,
            }
        )

    def _change(
        self, obj: Obj, types: tuple[str, ...], update: str, *, old: bool = False, behind: str = "", **changes: Any
    ) -> None:
        """`update`: the type of an event that names what was there before. `behind`: of one that still shows the object
        as it was, with a later `created`: Stripe promises no order between its machines' clocks."""
        if behind:
            self._say(behind, obj, late=1)
        previous = {k: deepcopy(obj.get(k)) for k, v in changes.items() if obj.get(k) != v}
        obj |= changes
        if previous:
            self.truth[obj["id"]].append(deepcopy(obj))
        for type_ in types:
            self._say(type_, obj, old=old)
        if previous and update:
            self._say(update, obj, previous, old=old)

    # What may happen: each does nothing if Stripe would refuse ------------------------------------------------------

    def customer(self) -> None:
        id_ = f"cus_{len(self.objects)}"
        obj = {"id": id_, "object": "customer", "name": "A", "address": ADDRESS, "currency": "usd", "livemode": False}
        self._new("customer.created", obj)

    def rename(self, obj: Obj, name: str, *, old: bool = False) -> None:
        """Of a customer."""
        self._change(obj, (), "customer.updated", old=old, name=name)

    def forget(self, pick: int, *, behind: bool) -> None:
        """Delete a customer; its subscriptions end with it."""
        obj = self.of("customer", pick)
        if not obj:
            return
        for other in list(self.objects.values()):
            if other["object"] == "subscription" and other["customer"] == obj["id"] and other["status"] != "canceled":
                self._change(other, ("customer.subscription.deleted",), "", status="canceled")
        self._change(obj, ("customer.deleted",), "", behind="customer.updated" if behind else "", deleted=True)

    def subscribe(self, pick: int) -> None:
        customer = self.of("customer", pick)
        if customer:
            id_ = f"sub_{len(self.objects)}"
            obj = {
                "id": id_, "object": "subscription", "customer": customer["id"], "status": "active", "currency": "usd",
                "collection_method": "charge_automatically", "cancel_at_period_end": False, "livemode": False,
                "start_date": self.second, "items": {"object": "list", "data": [{"id": f"si_{id_}", "quantity": 1}]},
            }  # fmt: skip
            self._new("customer.subscription.created", obj)

    def alter(self, obj: Obj, status: str, quantity: int, *, old: bool = False) -> None:
        """Of a subscription."""
        if obj["status"] != "canceled":
            items = {"object": "list", "data": [obj["items"]["data"][0] | {"quantity": quantity}]}
            self._change(obj, (), "customer.subscription.updated", old=old, status=status, items=items)

    def cancel(self, pick: int) -> None:
        obj = self.of("subscription", pick)
        if obj and obj["status"] != "canceled":
            self._change(obj, ("customer.subscription.deleted",), "", status="canceled", canceled_at=self.second)

    def draft(self, pick: int, amount: int) -> None:
        customer = self.of("customer", pick)
        if customer:
            id_ = f"in_{len(self.objects)}"
            obj: Obj = {
                "id": id_, "object": "invoice", "customer": customer["id"], "status": "draft", "currency": "usd",
                "created": self.second, "number": None, "livemode": False, "attempt_count": 0, "metadata": {},
                "status_transitions": {"finalized_at": None, "paid_at": None, "voided_at": None},
                "customer_address": ADDRESS, "collection_method": "charge_automatically",
            }  # fmt: skip
            self._new("invoice.created", obj | self._sums(id_, amount))

    def _sums(self, id_: str, amount: int, paid: int = 0, credited: int = 0) -> Obj:
        line = {"id": f"il_{id_}", "object": "line_item", "amount": amount, "quantity": 1, "pricing": PRICE}
        return {
            "lines": {"object": "list", "has_more": False, "data": [line]},
            "subtotal": amount, "total": amount, "total_taxes": [], "total_discount_amounts": [],
            "amount_due": amount, "amount_paid": paid, "amount_remaining": amount - paid - credited,
            "post_payment_credit_notes_amount": credited if paid else 0,
        }  # fmt: skip

    def invoice(
        self,
        verb: str,
        obj: Obj | None,
        amount: int = 0,
        *,
        tells: bool = True,
        old: bool = False,
        behind: bool = False,
    ) -> None:
        """`verb` of `FROM`. `tells`: is there an `invoice.updated` beside the event that is named after the change?
        `behind`: is there one that is behind the times? Only where the status tells them apart."""
        if not obj or obj["status"] not in FROM[verb]:
            return
        if verb in ("void", "part") and obj["amount_paid"]:
            return  # what is paid in part cannot be voided; once is enough here
        late = "invoice.updated" if behind and verb not in ("fail", "edit", "part") else ""
        if verb == "discard":
            self._change(obj, ("invoice.deleted",), "", behind=late, deleted=True)
            return
        when = dict(obj["status_transitions"])
        changes: Obj = {}
        match verb:
            case "finalize":
                when["finalized_at"] = self.second
                changes = {"status": "open", "number": f"N-{obj['id']}"}
            case "pay":
                when["paid_at"] = self.second
                changes = {"status": "paid", **self._sums(obj["id"], obj["total"], paid=obj["total"])}
            case "void":
                when["voided_at"] = self.second
                changes = {"status": "void"}
            case "give_up":
                changes = {"status": "uncollectible"}
            case "fail":
                changes = {"attempt_count": obj["attempt_count"] + 1}
            case "part":
                changes = self._sums(obj["id"], obj["total"], paid=obj["total"] // 3)
            case "edit":
                changes = self._sums(obj["id"], amount)
        update = "invoice.updated" if tells or not SAID[verb] else ""
        if verb in ("pay", "part"):
            self._paid(obj, changes["amount_paid"] - obj["amount_paid"])
        self._change(obj, SAID[verb], update, old=old, behind=late, status_transitions=when, **changes)

    def _paid(self, invoice: Obj, amount: int) -> None:
        """An InvoicePayment of its own for each amount that comes in (API reference, the InvoicePayment object)."""
        id_ = f"inpay_{len(self.objects)}"
        paid = {
            "id": id_, "object": "invoice_payment", "invoice": invoice["id"], "amount_paid": amount, "currency": "usd",
            "amount_requested": amount, "status": "paid", "created": self.second, "livemode": False,
            "status_transitions": {"paid_at": self.second, "canceled_at": None},
            "payment": {"type": "payment_intent", "payment_intent": f"pi_{id_}"},
        }  # fmt: skip
        self._new("invoice_payment.paid", paid)

    def remark(self, obj: Obj, text: str, *, old: bool = False) -> None:
        """Only an invoice's metadata: allowed in every status, and there and back again."""
        self._change(obj, (), "invoice.updated", old=old, metadata={"remark": text})

    def credit(self, pick: int) -> None:
        """A credit note over a third of a paid invoice, given back to the card."""
        obj = self.of("invoice", pick)
        if not obj or obj["status"] != "paid" or obj["post_payment_credit_notes_amount"]:
            return
        amount, id_ = obj["total"] // 3, f"cn_{len(self.objects)}"
        line = {"id": f"cnli_{id_}", "amount": amount, "quantity": 1}
        self._new(
            "credit_note.created",
            {
                "id": id_, "object": "credit_note", "invoice": obj["id"], "customer": obj["customer"],
                "currency": "usd", "status": "issued", "created": self.second, "subtotal": amount,
                "total": amount, "amount": amount, "pre_payment_amount": 0, "post_payment_amount": amount,
                "total_taxes": [], "discount_amounts": [],
                "lines": {"object": "list", "has_more": False, "data": [line]},
            },
        )  # fmt: skip
        self._change(obj, (), "invoice.updated", post_payment_credit_notes_amount=amount)

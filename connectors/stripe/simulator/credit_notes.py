"""Credit notes. docs.stripe.com/invoicing/credit-notes, docs.stripe.com/api/credit_notes/create.

On an open invoice a note lowers what is due (pre-payment); on a paid one it must be given back in full: refunded,
credited to the customer's balance, or outside Stripe (post-payment). Notes on other statuses are refused here
(Stripe's rule for uncollectible ones is not known). A note given as an `amount` only has one line without taxes
(Stripe's split is not known).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from connectors.stripe.simulator import customer_balance, invoices, payments, refunds
from connectors.stripe.simulator.catalog import update_metadata, usable_rates
from connectors.stripe.simulator.errors import no_such, refused
from connectors.stripe.simulator.lists import newest, page
from connectors.stripe.simulator.totals import settle, split, tax_entry, taxes_on, total_taxes
from connectors.stripe.simulator.values import Obj, plain, rounded
from connectors.stripe.simulator.world import World


def create_note(w: World, p: Obj, _ids: list[str]) -> Obj:
    invoice = w.get("invoice", p["invoice"], "invoice")
    if invoice["status"] not in ("open", "paid"):
        raise refused(f"Credit notes need an open or paid invoice; this one is {invoice['status']}.", param="invoice")
    if ("amount" in p) == ("lines" in p):
        raise refused("You must specify exactly one of `amount` and `lines`.", param="lines")
    note_id = w.new_id("cn")
    given = p.get("lines") or [{"type": "custom_line_item", "quantity": 1, "unit_amount": p["amount"]}]
    made = [_line(w, invoice, each, f"lines[{i}]") for i, each in enumerate(given)]
    note = _note(w, invoice, p, note_id, made)
    _check_limits(w, invoice, note, p, made)
    linked = [_linked_refund(w, invoice, each, f"refunds[{i}]") for i, each in enumerate(p.get("refunds") or [])]
    _give_back(w, invoice, note, p, linked)
    for line in made:
        if line["invoice_line_item"]:
            w.credited[line["invoice_line_item"]] += line["amount"]
    w.lines[note_id] = made
    w.add("credit_note", note)
    w.notes_of[invoice["id"]].append(note_id)
    w.emit("credit_note.created", note)
    _book(w, invoice, note, 1)
    return note


def _note(w: World, invoice: Obj, p: Obj, note_id: str, made: list[Obj]) -> Obj:
    taxes = total_taxes(tax for line in made for tax in line["taxes"])
    inclusive, exclusive = split(taxes)
    discounts: dict[str, int] = {}
    for entry in (each for line in made for each in line["discount_amounts"]):
        discounts[entry["discount"]] = discounts.get(entry["discount"], 0) + entry["amount"]
    amounts = [{"amount": amount, "discount": discount} for discount, amount in discounts.items()]
    subtotal, discount = sum(line["amount"] for line in made), sum(discounts.values())
    total = subtotal - discount + exclusive
    paid = invoice["status"] == "paid"
    return {
        "id": note_id, "object": "credit_note", "amount": total, "amount_shipping": 0, "created": w.now,
        "currency": invoice["currency"], "customer": invoice["customer"], "customer_account": None,
        "customer_balance_transaction": None, "discount_amount": discount, "discount_amounts": amounts,
        "effective_at": p.get("effective_at", w.now), "invoice": invoice["id"], "livemode": False,
        "memo": p.get("memo"),
        "metadata": dict(p.get("metadata") or {}),
        "number": f"{invoice['number']}-CN-{len(w.notes_of[invoice['id']]) + 1:02d}",
        "out_of_band_amount": None, "pdf": f"https://invoice.example.com/c/{note_id}/pdf",
        "post_payment_amount": total if paid else 0, "pre_payment_amount": 0 if paid else total,
        "pretax_credit_amounts": [{**each, "type": "discount", "credit_balance_transaction": None} for each in amounts],
        "reason": p.get("reason"), "refunds": [], "shipping_cost": None, "status": "issued", "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inclusive, "total": total,
        "total_excluding_tax": total - exclusive - inclusive, "total_taxes": taxes,
        "type": "post_payment" if paid else "pre_payment", "voided_at": None,
    }  # fmt: skip


def _line(w: World, invoice: Obj, given: Obj, where: str) -> Obj:
    line: Obj = {
        "id": w.new_id("cnli"), "object": "credit_note_line_item", "description": given.get("description"),
        "discount_amount": 0, "discount_amounts": [], "invoice_line_item": None, "livemode": False,
        "metadata": dict(given.get("metadata") or {}), "pretax_credit_amounts": [], "quantity": given.get("quantity"),
        "tax_rates": [], "type": given["type"], "unit_amount": None, "unit_amount_decimal": None,
    }  # fmt: skip
    if given["type"] == "custom_line_item":
        unit = given.get("unit_amount_decimal", given.get("unit_amount"))
        if unit is None or "quantity" not in given:
            raise refused("A custom line needs `quantity` and `unit_amount`.", param=f"{where}[unit_amount]")
        unit = Decimal(unit)
        line["amount"] = rounded(unit * given["quantity"], invoice["currency"])
        line["unit_amount"], line["unit_amount_decimal"] = (int(unit) if unit == int(unit) else None), plain(unit)
        source = None
    else:
        source = _credit_source(w, invoice, given, where)
        line.update(amount=_credit_amount(w, source, given, where, invoice["currency"]), invoice_line_item=source["id"])
        line["description"] = line["description"] or source["description"]
        line["discount_amounts"] = _discounts(source, line["amount"], invoice["currency"])
        line["discount_amount"] = sum(each["amount"] for each in line["discount_amounts"])
        line["pretax_credit_amounts"] = [
            {**each, "type": "discount", "credit_balance_transaction": None} for each in line["discount_amounts"]
        ]
    if line["amount"] <= 0:
        raise refused("A credit note line must be worth more than 0.", param=f"{where}[amount]")
    line["taxes"] = _taxes(w, invoice, line, source, given=given, where=where)
    return line


def _credit_source(w: World, invoice: Obj, given: Obj, where: str) -> Obj:
    wanted = given.get("invoice_line_item")
    source = next((line for line in w.lines[invoice["id"]] if line["id"] == wanted), None)
    if source is None:
        raise no_such("line_item", str(wanted), f"{where}[invoice_line_item]")
    return source


def _credit_amount(w: World, source: Obj, given: Obj, where: str, currency: str) -> int:
    if ("amount" in given) == ("quantity" in given):
        raise refused("A line takes exactly one of `amount` and `quantity`.", param=f"{where}[amount]")
    left = source["amount"] - w.credited[source["id"]]
    amount = given.get("amount")
    if amount is None:
        if not source["quantity"] or given["quantity"] > source["quantity"]:
            raise refused("The quantity is greater than the invoiced one.", param=f"{where}[quantity]")
        amount = rounded(Decimal(source["amount"]) * given["quantity"] / source["quantity"], currency)
    if amount > left:
        raise refused(
            f"The amount ({amount}) is greater than what is left to credit ({left}).", param=f"{where}[amount]"
        )
    return int(amount)


def _discounts(source: Obj, amount: int, currency: str) -> list[Obj]:
    return [
        {"amount": rounded(Decimal(each["amount"]) * amount / source["amount"], currency), "discount": each["discount"]}
        for each in source["discount_amounts"]
    ]


def _taxes(w: World, invoice: Obj, line: Obj, source: Obj | None, *, given: Obj, where: str) -> list[Obj]:
    net = line["amount"] - line["discount_amount"]
    amounts: Any = given.get("tax_amounts")
    if source is not None and source["id"] in w.manual_taxes:
        known = {tax["tax_rate_details"]["tax_rate"] for tax in source["taxes"]}
        if not amounts:
            raise refused(
                "`tax_amounts` is required for a line whose taxes were set by hand.", param=f"{where}[tax_amounts]"
            )
        for index, each in enumerate(amounts):
            if each["tax_rate"] not in known:
                raise no_such("tax_rate", each["tax_rate"], f"{where}[tax_amounts][{index}][tax_rate]")
        return [
            tax_entry(
                each["tax_rate"], each["amount"], each["taxable_amount"],
                inclusive=w.objects["tax_rate"][each["tax_rate"]]["inclusive"], reason="standard_rated",
            )
            for each in amounts
        ]  # fmt: skip
    if amounts:
        raise refused("`tax_amounts` is for lines whose taxes were set by hand.", param=f"{where}[tax_amounts]")
    if "tax_rates" in given:
        line["tax_rates"] = usable_rates(w, given["tax_rates"], f"{where}[tax_rates]")
    elif source is not None:
        line["tax_rates"] = w.all("tax_rate", [tax["tax_rate_details"]["tax_rate"] for tax in source["taxes"]])
    return taxes_on(net, line["tax_rates"], invoice["currency"], invoice["customer_tax_exempt"])


def _check_limits(w: World, invoice: Obj, note: Obj, p: Obj, made: list[Obj]) -> None:
    total = note["total"]
    per_line: dict[str, int] = {}
    for line in made:
        if line["invoice_line_item"]:
            per_line[line["invoice_line_item"]] = per_line.get(line["invoice_line_item"], 0) + line["amount"]
    for source in w.lines[invoice["id"]]:
        if per_line.get(source["id"], 0) + w.credited[source["id"]] > max(0, source["amount"]):
            raise refused("The lines credit more than was invoiced.", param="lines")
    back = [p.get(name) or 0 for name in ("refund_amount", "credit_amount", "out_of_band_amount")]
    given = sum(back) + sum(each.get("amount_refunded") or 0 for each in p.get("refunds") or [])
    if min(back) < 0:
        raise refused("Amounts must not be negative.", param="refund_amount")
    if invoice["status"] == "open":
        if given:
            raise refused(
                "An open invoice has nothing to give back: leave out refunds and credits.", param="refund_amount"
            )
        if total > invoice["amount_remaining"]:
            raise refused(
                f"The credit note ({total}) is greater than the amount remaining ({invoice['amount_remaining']}).",
                param="amount",
            )
        return
    left = invoice["amount_paid"] - invoice["post_payment_credit_notes_amount"]
    if total > left:
        raise refused(f"The credit note ({total}) is greater than what is left to credit ({left}).", param="amount")
    if given != total:
        raise refused(
            f"The sum of refunds, credit_amount, refund_amount and out_of_band_amount ({given}) must equal the credit "
            f"note amount ({total}).",
            param="refund_amount",
        )


def _linked_refund(w: World, invoice: Obj, given: Obj, where: str) -> Obj:
    found = w.get("refund", given.get("refund", ""), f"{where}[refund]")
    if found["charge"] not in [paid["id"] for paid in payments.charges_of(w, invoice)]:
        raise refused("The refund does not belong to this invoice's charge.", param=f"{where}[refund]")
    return {"amount_refunded": given.get("amount_refunded", found["amount"]), "refund": found["id"], "type": "refund"}


def _give_back(w: World, invoice: Obj, note: Obj, p: Obj, linked: list[Obj]) -> None:
    note["refunds"] = [{**each, "payment_record_refund": None} for each in linked]
    if p.get("refund_amount"):
        paid = _refundable(w, invoice, p["refund_amount"])
        reason = "requested_by_customer" if p.get("reason") in (None, "order_change") else None
        made = refunds.refund(w, paid, p["refund_amount"], reason, {})
        note["refunds"].append(
            {"amount_refunded": made["amount"], "refund": made["id"], "type": "refund", "payment_record_refund": None}
        )
    note["out_of_band_amount"] = p.get("out_of_band_amount")
    if p.get("credit_amount"):
        customer = w.get("customer", invoice["customer"], "customer")
        note["customer_balance_transaction"] = customer_balance.change(
            w, customer, -p["credit_amount"], invoice["currency"], "credit_note", note=note["id"]
        )["id"]


def _refundable(w: World, invoice: Obj, amount: int) -> Obj:
    """The charge to refund. Of several, the newest that is large enough (Stripe's choice is not known)."""
    charges = payments.charges_of(w, invoice)
    if not charges:
        raise refused("This invoice has no charge to refund.", param="refund_amount")
    enough = [each for each in charges if each["amount_captured"] - each["amount_refunded"] >= amount]
    return (enough or charges)[-1]


def _book(w: World, invoice: Obj, note: Obj, sign: int) -> None:
    """Put the note's effect on the invoice, or take it off again."""
    with w.changing(invoice, "invoice.updated"):
        invoice["pre_payment_credit_notes_amount"] += sign * note["pre_payment_amount"]
        invoice["post_payment_credit_notes_amount"] += sign * note["post_payment_amount"]
        settle(invoice)
    if note["type"] != "pre_payment":
        return
    if invoice["amount_remaining"] == 0:
        invoices.nothing_left(w, invoice)
        return
    payments.ask_for(w, invoice)


def update_note(w: World, p: Obj, ids: list[str]) -> Obj:
    note = w.get("credit_note", ids[0])
    with w.changing(note, "credit_note.updated"):
        note["memo"] = p.get("memo", note["memo"])
        update_metadata(note, p.get("metadata"))
    return note


def void_note(w: World, _p: Obj, ids: list[str]) -> Obj:
    """Only a note that lowered what is due on an invoice still open
    (docs.stripe.com/invoicing/integration/programmatic-credit-notes)."""
    note = w.get("credit_note", ids[0])
    invoice = w.objects["invoice"][note["invoice"]]
    if note["status"] == "void":
        raise refused("This credit note is already void.")
    if note["type"] != "pre_payment" or invoice["status"] != "open":
        raise refused("You can only void credit notes of open invoices.")
    note.update(status="void", voided_at=w.now)
    for line in w.lines[note["id"]]:
        if line["invoice_line_item"]:
            w.credited[line["invoice_line_item"]] -= line["amount"]
    w.emit("credit_note.voided", note)
    _book(w, invoice, note, -1)
    return note


def list_notes(w: World, p: Obj, _ids: list[str]) -> Obj:
    return newest(w, p, "credit_note", "customer", "invoice")


def list_note_lines(w: World, p: Obj, ids: list[str]) -> Obj:
    w.get("credit_note", ids[0])
    return page(w.lines[ids[0]], p, f"/v1/credit_notes/{ids[0]}/lines", w.snapshot, "credit_note_line_item")

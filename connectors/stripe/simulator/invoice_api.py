"""Operations on invoices, as called over the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from connectors.stripe.simulator import invoices
from connectors.stripe.simulator.catalog import (
    amount_of,
    assign,
    currency_of,
    new_tax_rate,
    redeem,
    update_metadata,
    usable_coupons,
    usable_rates,
)
from connectors.stripe.simulator.errors import StripeError, no_such, not_simulated, refused
from connectors.stripe.simulator.invoice_items import take_pending, use_currency
from connectors.stripe.simulator.lists import in_range, newest, page
from connectors.stripe.simulator.payments import DECLINED
from connectors.stripe.simulator.totals import recompute, tax_entry
from connectors.stripe.simulator.values import DAY, HOUR, Obj, copied
from connectors.stripe.simulator.world import World


def create_invoice(w: World, p: Obj, _ids: list[str]) -> Obj:
    if "customer" not in p:
        raise refused("Missing required param: customer.", param="customer", code="parameter_missing")
    customer = w.get("customer", p["customer"], "customer")
    currency = currency_of(p.get("currency") or customer["currency"] or "usd")
    method = p.get("collection_method", "charge_automatically")
    no_automatic_tax(p)
    usable_coupons(w, p.get("discounts"), currency)
    due_date, rates = _due_date(w, p, method), usable_rates(w, p.get("default_tax_rates"), "default_tax_rates")
    use_currency(w, customer, currency)
    invoice = invoices.draft(
        w, customer, currency, reason="manual", collection_method=method, auto_advance=p.get("auto_advance", False)
    )
    invoice["due_date"] = due_date
    assign(invoice, p, "description footer statement_descriptor")
    update_metadata(invoice, p.get("metadata"))
    invoice["default_tax_rates"] = rates
    invoice["discounts"] = redeem(
        w, p.get("discounts"), customer=customer["id"], currency=currency, subscription=None, invoice=invoice["id"]
    )
    if p.get("pending_invoice_items_behavior", "exclude") == "include":
        take_pending(w, invoice, subscription=None)
    invoices.announce(w, invoice)
    return invoice


def no_automatic_tax(p: Obj) -> None:
    """Only `automatic_tax[enabled]=false` is modelled."""
    if (p.get("automatic_tax") or {}).get("enabled"):
        raise not_simulated("automatic_tax[enabled]=true")


def _due_date(w: World, p: Obj, method: str) -> int | None:
    days, date = p.get("days_until_due"), p.get("due_date")
    if method == "charge_automatically":
        if days is not None or date is not None:
            raise refused(
                "`days_until_due` and `due_date` are for collection_method `send_invoice`.", param="days_until_due"
            )
        return None
    if (days is None) == (date is None):
        raise refused(
            "You must specify one of `days_until_due` or `due_date` if collection method is `send_invoice`.",
            param="due_date",
        )
    due = int(date) if date is not None else w.now + int(days or 0) * DAY
    if due < w.now:
        raise refused("The due date must be in the future.", param="due_date")
    return due


def _draft(w: World, invoice_id: str) -> Obj:
    invoice = w.get("invoice", invoice_id)
    if invoice["status"] != "draft":
        raise refused(
            f"This invoice is no longer editable (its status is {invoice['status']}).", code="invoice_not_editable"
        )
    return invoice


def update_invoice(w: World, p: Obj, ids: list[str]) -> Obj:
    """After finalisation only metadata, `auto_advance` and (for sent invoices) the due date may change."""
    invoice = w.get("invoice", ids[0])
    allowed = {"metadata", "auto_advance", "expand"} | ({"due_date"} if invoice["status"] == "open" else set())
    if invoice["status"] != "draft" and p.keys() - allowed:
        name = sorted(p.keys() - allowed)[0]
        raise refused(f"Finalized invoices can't be updated: {name}.", param=name, code="invoice_not_editable")
    no_automatic_tax(p)
    with w.changing(invoice, "invoice.updated"):
        if "collection_method" in p:
            invoice["collection_method"] = p["collection_method"]
            invoice["due_date"] = None
        if p.keys() & {"days_until_due", "due_date"} or p.get("collection_method") == "send_invoice":
            invoice["due_date"] = _due_date(w, p, invoice["collection_method"])
        assign(invoice, p, "description footer statement_descriptor")
        update_metadata(invoice, p.get("metadata"))
        if "default_tax_rates" in p:
            rates = usable_rates(w, p["default_tax_rates"], "default_tax_rates")
            if rates and any(line["id"] in w.manual_taxes for line in w.lines[invoice["id"]]):
                raise refused("Lines with `tax_amounts` cannot be combined with tax rates.", param="default_tax_rates")
            invoice["default_tax_rates"] = rates
        if "discounts" in p:
            invoice["discounts"] = redeem(
                w, p["discounts"], customer=invoice["customer"], currency=invoice["currency"], subscription=None,
                invoice=invoice["id"],
            )  # fmt: skip
        if invoice["status"] == "draft":
            recompute(w, invoice)
        _auto_advance(w, invoice, p)
    return invoice


def _auto_advance(w: World, invoice: Obj, p: Obj) -> None:
    if invoice["status"] == "draft" and "automatically_finalizes_at" in p:
        moment = p["automatically_finalizes_at"]
        if moment <= w.now:
            raise refused("`automatically_finalizes_at` must be in the future.", param="automatically_finalizes_at")
        if moment > w.now + 5 * 366 * DAY:
            raise refused("`automatically_finalizes_at` is at most 5 years away.", param="automatically_finalizes_at")
        invoice["auto_advance"] = True
        invoices.schedule_finalization(w, invoice, moment)
    if "auto_advance" not in p or p["auto_advance"] == invoice["auto_advance"]:
        return
    invoice["auto_advance"] = p["auto_advance"]
    if invoice["status"] == "draft":
        if p["auto_advance"]:
            invoices.schedule_finalization(w, invoice, w.now + HOUR)
        else:
            invoice["automatically_finalizes_at"] = invoice["next_payment_attempt"] = None


def update_lines(w: World, p: Obj, ids: list[str]) -> Obj:
    """The bulk call. docs.stripe.com/invoicing/taxes/manual-tax-amounts: drafts only; not together with tax rates; the
    amounts are taken as they are (taxable amount and percentage are shown, not checked)."""
    invoice = _draft(w, ids[0])
    with w.changing(invoice, "invoice.updated"), _all_or_nothing(w, invoice):
        for index, given in enumerate(p["lines"]):
            line = next((each for each in w.lines[invoice["id"]] if each["id"] == given["id"]), None)
            if line is None:
                raise no_such("line_item", given["id"], f"lines[{index}][id]")
            _edit_line(w, invoice, line, given, f"lines[{index}]")
        update_metadata(invoice, p.get("invoice_metadata"))
        recompute(w, invoice)
    return invoice


@contextmanager
def _all_or_nothing(w: World, invoice: Obj) -> Iterator[None]:
    """A bulk edit that is refused at its second line leaves the first as it was."""
    lines, rates, manual = copied(w.lines[invoice["id"]]), dict(w.rates), dict(w.manual_taxes)
    try:
        yield
    except StripeError:
        w.lines[invoice["id"]], w.rates, w.manual_taxes = lines, rates, manual
        raise


def update_line(w: World, p: Obj, ids: list[str]) -> Obj:
    """One line of a draft."""
    update_lines(w, {"lines": [{**p, "id": ids[1]}]}, ids[:1])
    return next(line for line in w.lines[ids[0]] if line["id"] == ids[1])


def _edit_line(w: World, invoice: Obj, line: Obj, given: Obj, where: str) -> None:
    for name in given.keys() - {
        "id",
        "description",
        "metadata",
        "tax_amounts",
        "tax_rates",
        "discountable",
        "amount",
        "period",
        "expand",
    }:
        raise not_simulated(f"{where}[{name}]")
    if "amount" in given:
        if line["parent"]["type"] != "invoice_item_details":
            raise refused("The amount of a subscription line cannot be changed.", param=f"{where}[amount]")
        line["amount"] = line["subtotal"] = given["amount"]
    assign(line, given, "description discountable")
    if "period" in given:
        line["period"] = given["period"]
    update_metadata(line, given.get("metadata"))
    if "tax_rates" in given:
        if line["id"] in w.manual_taxes and given["tax_rates"]:
            raise refused("A line has either `tax_rates` or `tax_amounts`.", param=f"{where}[tax_rates]")
        w.rates[line["id"]] = [rate["id"] for rate in usable_rates(w, given["tax_rates"], f"{where}[tax_rates]")]
    if "tax_amounts" in given:
        _set_tax_amounts(w, invoice, line, given["tax_amounts"], f"{where}[tax_amounts]")


def _set_tax_amounts(w: World, invoice: Obj, line: Obj, given: Any, where: str) -> None:
    if not given:
        w.manual_taxes.pop(line["id"], None)
        return
    if invoice["default_tax_rates"] or any(w.rates.get(each["id"]) for each in w.lines[invoice["id"]]):
        raise refused("You cannot set `tax_amounts` on an invoice that uses tax rates.", param=where)
    if len(given) > 20:
        raise refused("You can set at most 20 tax amounts on a line.", param=where)
    for index, each in enumerate(given):  # what could not be charged: Stripe's own rule here is not known
        amount_of(each["amount"], invoice["currency"], f"{where}[{index}][amount]")
    w.manual_taxes[line["id"]] = [
        tax_entry(
            _archived_rate(w, each["tax_rate_data"]), each["amount"], each["taxable_amount"],
            inclusive=each["tax_rate_data"]["inclusive"], reason=each.get("taxability_reason", "standard_rated"),
        )
        for each in given
    ]  # fmt: skip


def _archived_rate(w: World, data: Obj) -> str:
    """Stripe makes an archived TaxRate for every distinct set of data, and uses it again for the same set."""
    names = ("percentage", "inclusive", "display_name", "jurisdiction", "country", "state", "tax_type")
    key = tuple(data.get(name) for name in names)
    if key not in w.archived_rates:
        w.archived_rates[key] = new_tax_rate(w, data, active=False)["id"]
    return w.archived_rates[key]


def finalize_invoice(w: World, p: Obj, ids: list[str]) -> Obj:
    """`auto_advance` true: Stripe then collects by itself, an hour later (a charge) or now (sending)."""
    invoice = w.get("invoice", ids[0])
    if "auto_advance" in p:
        invoice["auto_advance"] = p["auto_advance"]
    invoices.finalize(w, invoice)
    if invoice["status"] == "open" and invoice["auto_advance"]:
        if invoice["collection_method"] == "charge_automatically":
            invoices.schedule_attempt(w, invoice, w.now + HOUR)
        else:
            invoices.advance(w, invoice)
    return invoice


def pay_invoice(w: World, p: Obj, ids: list[str]) -> Obj:
    """A draft is finalised first. A declined card is a 402, and `invoice.payment_failed`."""
    invoice = w.get("invoice", ids[0])
    if invoice["status"] == "draft":
        invoices.finalize(w, invoice)
        if invoice["status"] == "paid":
            return invoice
    if invoice["status"] == "paid":
        raise refused("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] == "void":
        raise refused("Voided invoices cannot be paid.")
    if p.get("paid_out_of_band"):
        invoices.pay_out_of_band(w, invoice)
    elif not invoices.attempt(w, invoice, by_hand=True):
        error = {**DECLINED, "doc_url": "https://stripe.com/docs/error-codes/card-declined"}
        raise StripeError(402, {"error": error})
    return invoice


def void_invoice(w: World, _p: Obj, ids: list[str]) -> Obj:
    invoice = w.get("invoice", ids[0])
    invoices.void(w, invoice)
    return invoice


def mark_uncollectible(w: World, _p: Obj, ids: list[str]) -> Obj:
    invoice = w.get("invoice", ids[0])
    invoices.mark_uncollectible(w, invoice)
    return invoice


def send_invoice(w: World, _p: Obj, ids: list[str]) -> Obj:
    invoice = w.get("invoice", ids[0])
    if invoice["collection_method"] != "send_invoice":
        raise refused("You can only manually send an invoice if its collection method is `send_invoice`.")
    if invoice["status"] == "draft":
        invoices.finalize(w, invoice)
    if invoice["status"] not in ("open", "paid"):
        raise refused(f"This invoice is {invoice['status']} and cannot be sent.")
    w.emit("invoice.sent", invoice)
    return invoice


def delete_invoice(w: World, _p: Obj, ids: list[str]) -> Obj:
    """Drafts of one-off invoices only. Their items are deleted with them."""
    invoice = w.get("invoice", ids[0])
    if invoice["status"] != "draft":
        raise refused("You can only delete draft invoices.", code="invoice_not_editable")
    if invoice["parent"] is not None:
        raise refused("You can't delete invoices created by subscriptions.")
    w.emit("invoice.deleted", invoice)
    stub: Obj = {"id": invoice["id"], "object": "invoice", "deleted": True}
    for line in w.lines.pop(invoice["id"]):
        item = line["parent"]["invoice_item_details"]["invoice_item"]
        w.objects["invoiceitem"][item] = {"id": item, "object": "invoiceitem", "deleted": True}
    w.objects["invoice"][invoice["id"]] = stub
    return stub


def list_invoices(w: World, p: Obj, _ids: list[str]) -> Obj:
    owner, due = p.get("subscription") or p.get("customer"), p.get("due_date")
    rows = None if owner is None else w.all("invoice", w.invoices_of.get(owner, []))
    names = ("customer", "status", "collection_method")
    return newest(w, p, "invoice", *names, rows=rows, where=lambda row: in_range(row["due_date"], due))


def list_lines(w: World, p: Obj, ids: list[str]) -> Obj:
    """All lines, in the invoice's own order."""
    w.get("invoice", ids[0])
    return page(w.lines[ids[0]], p, f"/v1/invoices/{ids[0]}/lines", w.snapshot, "line_item")

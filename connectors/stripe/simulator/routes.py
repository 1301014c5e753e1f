"""Every operation the simulator answers: method, path, request contract, and the parameters it models.

The contract (which parameters exist, their types) comes from the installed `stripe` package; a parameter that Stripe
knows and the simulator does not model is refused with code `not_simulated`, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from connectors.stripe.simulator import (
    balance,
    catalog,
    collecting,
    credit_notes,
    customer_balance,
    customers,
    disputes,
    event_api,
    invoice_api,
    invoice_items,
    meters,
    payments,
    payouts,
    refunds,
    subscription_update,
    subscriptions,
    tax_ids,
)
from connectors.stripe.simulator.errors import not_simulated
from connectors.stripe.simulator.lists import PAGING
from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World

Handler: TypeAlias = Callable[[World, Obj, list[str]], Obj]
"""(world, checked parameters, ids in the path) -> a live object, or a list made by `lists.page`."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `pattern`: the path's segments, None where an id stands."""

    method: str
    pattern: tuple[str | None, ...]
    contract: str
    modelled: frozenset[str]
    handler: Handler


_WORDS = frozenset({"search", "create_preview", "preview"})
_TABLE: dict[tuple[str, int], list[Route]] = {}


def find(method: str, path: str) -> tuple[Route, list[str]] | None:
    """The route for a request, and the ids in its path. Operations Stripe has under a word where an id could stand are
    refused as not modelled."""
    segments = path.strip("/").split("/")
    if _WORDS & {*segments}:
        raise not_simulated(f"{method} {path}")
    for route in _TABLE.get((method, len(segments)), ()):
        pairs = list(zip(route.pattern, segments, strict=True))
        if all(want is None or want == got for want, got in pairs):
            return route, [got for want, got in pairs if want is None]
    return None


def _route(line: str, handler: Handler, modelled: str = "") -> None:
    method, path, contract = line.split()
    pattern = tuple(None if part == "*" else part for part in path.strip("/").split("/"))
    names = set(modelled.split()) | {"expand"}
    if contract.endswith("ListParams"):
        names |= PAGING
    _TABLE.setdefault((method, len(pattern)), []).append(Route(method, pattern, contract, frozenset(names), handler))


def _read(kind: str) -> Handler:
    return lambda w, _p, ids: w.get(kind, ids[0])


_CUSTOMER = (
    "address business_name description email individual_name metadata name phone preferred_locales shipping tax_exempt"
)
_TERMS = "collection_method days_until_due default_tax_rates description discounts metadata automatic_tax"
_SUBSCRIPTION = _TERMS + " items cancel_at cancel_at_period_end payment_behavior proration_behavior off_session"
_INVOICE = _TERMS + " auto_advance due_date footer statement_descriptor"
_NOTE = (
    "amount credit_amount effective_at email_type invoice lines memo metadata out_of_band_amount reason refund_amount "
    "refunds"
)
_ITEM = "amount description discountable metadata"

_route("POST /v1/customers CustomerCreateParams", customers.create_customer, _CUSTOMER + " tax_id_data")
_route("GET /v1/customers CustomerListParams", customers.list_customers, "created email")
_route("GET /v1/customers/* CustomerRetrieveParams", customers.retrieve_customer)
_route("POST /v1/customers/* CustomerUpdateParams", customers.update_customer, _CUSTOMER)
_route("DELETE /v1/customers/* CustomerDeleteParams", customers.delete_customer)

_route("POST /v1/customers/*/tax_ids CustomerTaxIdCreateParams", tax_ids.create_tax_id, "type value")
_route(
    "POST /v1/customers/*/balance_transactions CustomerBalanceTransactionCreateParams",
    customer_balance.create_transaction,
    "amount currency description metadata",
)
_route(
    "GET /v1/customers/*/balance_transactions CustomerBalanceTransactionListParams",
    customer_balance.list_transactions,
    "created invoice",
)
_route(
    "GET /v1/customers/*/balance_transactions/* CustomerBalanceTransactionRetrieveParams",
    customer_balance.retrieve_transaction,
)
_route("GET /v1/customers/*/tax_ids CustomerTaxIdListParams", tax_ids.list_tax_ids)
_route("GET /v1/customers/*/tax_ids/* CustomerTaxIdRetrieveParams", tax_ids.retrieve_tax_id)
_route("DELETE /v1/customers/*/tax_ids/* CustomerTaxIdDeleteParams", tax_ids.delete_tax_id)

_PRODUCT = "active description id metadata name tax_code unit_label url"
_route("POST /v1/products ProductCreateParams", catalog.create_product, _PRODUCT)
_route("GET /v1/products ProductListParams", catalog.list_products, "active created ids")
_route("GET /v1/products/* ProductRetrieveParams", _read("product"))
_route("POST /v1/products/* ProductUpdateParams", catalog.update_product, _PRODUCT)

_route("DELETE /v1/products/* ProductDeleteParams", catalog.delete_product)

_PRICE = "active lookup_key metadata nickname tax_behavior transfer_lookup_key"
_route(
    "POST /v1/prices PriceCreateParams",
    catalog.create_price,
    _PRICE + " billing_scheme currency product product_data recurring tiers tiers_mode unit_amount unit_amount_decimal",
)
_route(
    "GET /v1/prices PriceListParams", catalog.list_prices, "active created currency lookup_keys product recurring type"
)
_route("GET /v1/prices/* PriceRetrieveParams", _read("price"))
_route("POST /v1/prices/* PriceUpdateParams", catalog.update_price, _PRICE)

_route(
    "POST /v1/coupons CouponCreateParams",
    catalog.create_coupon,
    "amount_off currency duration duration_in_months id max_redemptions metadata name percent_off",
)
_route("GET /v1/coupons CouponListParams", catalog.list_coupons, "created")
_route("GET /v1/coupons/* CouponRetrieveParams", _read("coupon"))
_route("POST /v1/coupons/* CouponUpdateParams", catalog.update_coupon, "metadata name")
_route("DELETE /v1/coupons/* CouponDeleteParams", catalog.delete("coupon"))

_RATE = "active country description display_name inclusive jurisdiction metadata percentage state tax_type"
_route("POST /v1/tax_rates TaxRateCreateParams", catalog.create_tax_rate, _RATE)
_route("GET /v1/tax_rates TaxRateListParams", catalog.list_tax_rates, "active created inclusive")
_route("GET /v1/tax_rates/* TaxRateRetrieveParams", _read("tax_rate"))
_route("POST /v1/tax_rates/* TaxRateUpdateParams", catalog.update_tax_rate, _RATE)

_route(
    "POST /v1/subscriptions SubscriptionCreateParams",
    subscriptions.create_subscription,
    _SUBSCRIPTION + " customer currency add_invoice_items trial_end trial_period_days",
)
_route(
    "GET /v1/subscriptions SubscriptionListParams",
    subscriptions.list_subscriptions,
    "collection_method created customer price status",
)
_route("GET /v1/subscriptions/* SubscriptionRetrieveParams", _read("subscription"))
_route(
    "POST /v1/subscriptions/* SubscriptionUpdateParams",
    subscription_update.update_subscription,
    _SUBSCRIPTION + " proration_date billing_cycle_anchor cancellation_details",
)
_route(
    "DELETE /v1/subscriptions/* SubscriptionCancelParams",
    subscriptions.cancel_subscription,
    "cancellation_details invoice_now prorate",
)
_route("GET /v1/subscription_items SubscriptionItemListParams", subscriptions.list_subscription_items, "subscription")

_route(
    "POST /v1/invoiceitems InvoiceItemCreateParams",
    invoice_items.create_item,
    _ITEM + " currency customer invoice period pricing quantity subscription tax_rates unit_amount_decimal",
)
_route("GET /v1/invoiceitems InvoiceItemListParams", invoice_items.list_items, "created customer invoice pending")
_route("GET /v1/invoiceitems/* InvoiceItemRetrieveParams", _read("invoiceitem"))
_route("POST /v1/invoiceitems/* InvoiceItemUpdateParams", invoice_items.update_item, _ITEM)
_route("DELETE /v1/invoiceitems/* InvoiceItemDeleteParams", invoice_items.delete_item)

_route(
    "POST /v1/invoices InvoiceCreateParams",
    invoice_api.create_invoice,
    _INVOICE + " customer currency pending_invoice_items_behavior",
)
_route(
    "GET /v1/invoices InvoiceListParams",
    invoice_api.list_invoices,
    "collection_method created customer due_date status subscription",
)
_route("GET /v1/invoices/* InvoiceRetrieveParams", _read("invoice"))
_route("POST /v1/invoices/* InvoiceUpdateParams", invoice_api.update_invoice, _INVOICE + " automatically_finalizes_at")
_route("DELETE /v1/invoices/* InvoiceDeleteParams", invoice_api.delete_invoice)
_route("GET /v1/invoices/*/lines InvoiceLineItemListParams", invoice_api.list_lines)
_LINE = "amount description discountable metadata period tax_amounts tax_rates"
_route("POST /v1/invoices/*/lines/* InvoiceLineItemUpdateParams", invoice_api.update_line, _LINE)
_route("POST /v1/invoices/*/update_lines InvoiceUpdateLinesParams", invoice_api.update_lines, "lines invoice_metadata")
_route("POST /v1/invoices/*/finalize InvoiceFinalizeInvoiceParams", invoice_api.finalize_invoice, "auto_advance")
_route("POST /v1/invoices/*/pay InvoicePayParams", invoice_api.pay_invoice, "paid_out_of_band off_session")
_route(
    "POST /v1/invoices/*/attach_payment InvoiceAttachPaymentParams",
    collecting.attach_payment,
    "payment_intent payment_record",
)
_route("POST /v1/invoices/*/void InvoiceVoidInvoiceParams", invoice_api.void_invoice)
_route("POST /v1/invoices/*/mark_uncollectible InvoiceMarkUncollectibleParams", invoice_api.mark_uncollectible)
_route("POST /v1/invoices/*/send InvoiceSendInvoiceParams", invoice_api.send_invoice)

_route(
    "GET /v1/invoice_payments InvoicePaymentListParams",
    payments.list_invoice_payments,
    "created invoice payment status",
)
_route("GET /v1/invoice_payments/* InvoicePaymentRetrieveParams", _read("invoice_payment"))
_route("GET /v1/payment_intents PaymentIntentListParams", payments.list_payment_intents, "created customer")
_route("GET /v1/payment_intents/* PaymentIntentRetrieveParams", _read("payment_intent"))
_route(
    "POST /v1/payment_intents PaymentIntentCreateParams",
    collecting.create_intent,
    "amount confirm currency customer description metadata off_session",
)
_route("POST /v1/payment_intents/*/confirm PaymentIntentConfirmParams", collecting.confirm_intent, "off_session")
_route("POST /v1/payment_intents/*/cancel PaymentIntentCancelParams", collecting.cancel_intent, "cancellation_reason")
_route(
    "POST /v1/payment_records/report_payment PaymentRecordReportPaymentParams",
    collecting.report_payment,
    "amount_requested customer_details description guaranteed initiated_at metadata outcome payment_method_details "
    "processor_details",
)
_route("GET /v1/payment_records/* PaymentRecordRetrieveParams", _read("payment_record"))
_route("GET /v1/charges ChargeListParams", payments.list_charges, "created customer payment_intent")
_route("GET /v1/charges/* ChargeRetrieveParams", _read("charge"))

_route("POST /v1/credit_notes CreditNoteCreateParams", credit_notes.create_note, _NOTE)
_route("GET /v1/credit_notes CreditNoteListParams", credit_notes.list_notes, "created customer invoice")
_route("GET /v1/credit_notes/* CreditNoteRetrieveParams", _read("credit_note"))
_route("POST /v1/credit_notes/* CreditNoteUpdateParams", credit_notes.update_note, "memo metadata")
_route("GET /v1/credit_notes/*/lines CreditNoteLineItemListParams", credit_notes.list_note_lines)
_route("POST /v1/credit_notes/*/void CreditNoteVoidCreditNoteParams", credit_notes.void_note)

_route(
    "POST /v1/refunds RefundCreateParams",
    refunds.create_refund,
    "amount charge metadata payment_intent reason",
)
_route("GET /v1/refunds RefundListParams", refunds.list_refunds, "charge created payment_intent")
_route("GET /v1/refunds/* RefundRetrieveParams", _read("refund"))
_route("POST /v1/refunds/* RefundUpdateParams", refunds.update_refund, "metadata")

_route("GET /v1/disputes DisputeListParams", disputes.list_disputes, "charge created payment_intent")
_route("GET /v1/disputes/* DisputeRetrieveParams", _read("dispute"))
_route("POST /v1/disputes/*/close DisputeCloseParams", disputes.close_dispute)

_route("GET /v1/balance BalanceRetrieveParams", balance.retrieve_balance)
_route(
    "GET /v1/balance_transactions BalanceTransactionListParams",
    balance.list_transactions,
    "created currency payout source type",
)
_route("GET /v1/balance_transactions/* BalanceTransactionRetrieveParams", _read("balance_transaction"))
_route("GET /v1/payouts PayoutListParams", payouts.list_payouts, "arrival_date created destination status")
_route("GET /v1/payouts/* PayoutRetrieveParams", _read("payout"))

_route("GET /v1/events EventListParams", event_api.list_events, "created type types")
_route("GET /v1/events/* EventRetrieveParams", event_api.retrieve_event)
_route("GET /v2/core/events v2/core/EventListParams", event_api.list_thin, "created object_id types limit")
_route("GET /v2/core/events/* v2/core/EventRetrieveParams", event_api.retrieve_thin)

_METER = "customer_mapping default_aggregation display_name event_name value_settings"
_route("POST /v1/billing/meters billing/MeterCreateParams", meters.create_meter, _METER)
_route("GET /v1/billing/meters billing/MeterListParams", meters.list_meters, "status")
_route("GET /v1/billing/meters/* billing/MeterRetrieveParams", _read("billing.meter"))
_route("POST /v1/billing/meters/* billing/MeterUpdateParams", meters.update_meter, "display_name")
_route("POST /v1/billing/meters/*/deactivate billing/MeterDeactivateParams", meters.deactivate)
_route("POST /v1/billing/meters/*/reactivate billing/MeterReactivateParams", meters.reactivate)
_route(
    "POST /v1/billing/meter_events billing/MeterEventCreateParams",
    meters.create_meter_event,
    "event_name identifier payload timestamp",
)

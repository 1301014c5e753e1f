"""What the simulated business sells, in four currencies, and the tax rates and coupons it uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectors.stripe.simulator.people import TAXES, scaled
from connectors.stripe.simulator.values import Obj

if TYPE_CHECKING:
    from connectors.stripe.simulator.simulator import StripeSimulator

METER = "api_calls"
_MONTHLY = {"interval": "month"}


@dataclass(slots=True)
class Catalogue:
    """Ids of what was created: `prices[currency][name]`, `coupons[currency]`, `rates[place]`."""

    prices: dict[str, dict[str, str]] = field(default_factory=dict)
    coupons: dict[str, list[str]] = field(default_factory=dict)
    rates: dict[str, list[str]] = field(default_factory=dict)


def stock(sim: StripeSimulator) -> Catalogue:
    """Create it all, once."""

    def post(path: str, **params: Any) -> str:
        return str(sim.call("POST", path, params)["id"])

    meter = post(
        "/v1/billing/meters", display_name="API calls", event_name=METER, default_aggregation={"formula": "sum"}
    )
    products = {
        name: post("/v1/products", name=title, tax_code=tax_code)
        for name, title, tax_code in (
            ("team", "Team seats", "txcd_10103001"),
            ("business", "Business seats", "txcd_10103001"),
            ("graduated", "Storage bundles", "txcd_10103001"),
            ("volume", "Devices", "txcd_10103001"),
            ("metered", "API calls", "txcd_10010001"),
            ("support", "Priority support", "txcd_20030000"),
            ("setup", "Set-up", "txcd_20030000"),
        )
    }
    catalogue = Catalogue()
    for currency in ("usd", "eur", "jpy", "kwd"):
        catalogue.prices[currency] = {
            name: post("/v1/prices", product=products[name], currency=currency, **terms)
            for name, terms in _terms(currency, meter).items()
        }
        amount_off = scaled(500, currency)
        catalogue.coupons[currency] = [
            post("/v1/coupons", percent_off="15", duration="forever"),
            post("/v1/coupons", percent_off="33.3", duration="repeating", duration_in_months=3),
            post("/v1/coupons", amount_off=amount_off, currency=currency, duration="once"),
        ]
    for place, rates in TAXES.items():
        catalogue.rates[place] = [_rate(sim, place, rate) for rate in rates]
    return catalogue


def _rate(sim: StripeSimulator, place: str, rate: tuple[str, str, bool, str | None, str]) -> str:
    name, percentage, inclusive, state, jurisdiction = rate
    params: Obj = {
        "display_name": name, "percentage": percentage, "inclusive": inclusive, "jurisdiction": jurisdiction,
        "country": "US" if state else place,
    }  # fmt: skip
    if state:
        params["state"] = state
    return str(sim.call("POST", "/v1/tax_rates", params)["id"])


def _terms(currency: str, meter: str) -> dict[str, Obj]:
    def money(cents: int) -> int:
        return scaled(cents, currency)

    licensed = {"recurring": _MONTHLY}
    return {
        "team": {**licensed, "unit_amount": money(1200)},
        "business": {**licensed, "unit_amount": money(2990)},
        "graduated": {
            **licensed, "billing_scheme": "tiered", "tiers_mode": "graduated",
            "tiers": [
                {"up_to": 10, "unit_amount": money(900), "flat_amount": money(2500)},
                {"up_to": 50, "unit_amount": money(700)},
                {"up_to": "inf", "unit_amount": money(450)},
            ],
        },
        "volume": {
            **licensed, "billing_scheme": "tiered", "tiers_mode": "volume",
            "tiers": [
                {"up_to": 25, "unit_amount": money(600)},
                {"up_to": 100, "unit_amount": money(480)},
                {"up_to": "inf", "unit_amount": money(350)},
            ],
        },
        "metered": {
            "recurring": {**_MONTHLY, "usage_type": "metered", "meter": meter}, "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [{"up_to": 1000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.85"}],
        },
        "support": {**licensed, "unit_amount": money(4900)},
        "setup": {"unit_amount": money(9900)},
    }  # fmt: skip

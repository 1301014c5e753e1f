"""Products, prices, coupons, discounts and tax rates."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from connectors.stripe.simulator.errors import not_simulated, refused
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.values import Obj, add_interval, plain, quantum
from connectors.stripe.simulator.world import World

CURRENCIES = frozenset({"usd", "eur", "jpy", "kwd", "gbp", "chf", "cad", "aud"})


def currency_of(value: str, param: str = "currency") -> str:
    """A currency the simulator knows, in lower case as Stripe answers it."""
    if value.lower() not in CURRENCIES:
        raise refused(
            f"Invalid currency: {value.lower()}. The simulator knows {', '.join(sorted(CURRENCIES))}.", param=param
        )
    return value.lower()


def amount_of(value: int, currency: str, param: str) -> int:
    """An amount in minor units; three-decimal currencies must end in 0 (docs.stripe.com/currencies)."""
    if value % quantum(currency):
        raise refused(f"Invalid amount: {value}; amounts in {currency} must end in 0.", param=param)
    return value


def update_metadata(obj: Obj, given: Any) -> None:
    """Stripe's rule: keys are merged, an empty value unsets a key, an empty string unsets all."""
    if given is None:
        return
    if given == "":
        obj["metadata"] = {}
        return
    obj["metadata"] = {k: v for k, v in {**obj["metadata"], **given}.items() if v != ""}


def assign(obj: Obj, params: Obj, names: str) -> None:
    """Copy the named parameters that were given; an empty string clears."""
    for name in names.split():
        if name in params:
            obj[name] = None if params[name] == "" else params[name]


# Products ------------------------------------------------------------------------------------------------------------


def create_product(w: World, p: Obj, _ids: list[str]) -> Obj:
    product_id = p.get("id") or w.new_id("prod")
    if product_id in w.objects["product"]:
        raise refused(f"Product already exists: {product_id}.", param="id", code="resource_already_exists")
    product: Obj = {
        "id": product_id, "object": "product", "active": p.get("active", True), "created": w.now, "default_price": None,
        "description": p.get("description"), "images": [], "livemode": False, "marketing_features": [],
        "metadata": dict(p.get("metadata") or {}), "name": p["name"], "package_dimensions": None, "shippable": None,
        "statement_descriptor": None, "tax_code": p.get("tax_code"), "tax_details": None, "type": "service",
        "unit_label": p.get("unit_label"), "updated": w.now, "url": p.get("url"),
    }  # fmt: skip
    w.add("product", product)
    w.emit("product.created", product)
    return product


def update_product(w: World, p: Obj, ids: list[str]) -> Obj:
    product = w.get("product", ids[0])
    with w.changing(product, "product.updated"):
        assign(product, p, "active name description unit_label tax_code url")
        update_metadata(product, p.get("metadata"))
        product["updated"] = w.now
    return product


def delete_product(w: World, p: Obj, ids: list[str]) -> Obj:
    """Only one without prices (docs.stripe.com/api/products/delete); an archived one stays where it is."""
    if any(price["product"] == ids[0] for price in w.objects["price"].values()):
        raise refused("This product cannot be deleted because it has one or more user-created prices.", param="id")
    stub: Obj = delete("product")(w, p, ids)
    return stub


def list_products(w: World, p: Obj, _ids: list[str]) -> Obj:
    """Active and archived alike unless `active` says which; `ids` and paging exclude each other."""
    wanted = p.get("ids")
    if wanted is not None and (p.get("starting_after") or p.get("ending_before")):
        raise refused("You may not use `ids` with `starting_after` or `ending_before`.", param="ids")
    return newest(w, p, "product", "active", where=lambda row: wanted is None or row["id"] in wanted)


# Prices --------------------------------------------------------------------------------------------------------------


def create_price(w: World, p: Obj, _ids: list[str]) -> Obj:
    currency = currency_of(p["currency"])
    product = w.get("product", p["product"], "product") if "product" in p else _product_of(w, p)
    scheme = p.get("billing_scheme", "per_unit")
    price_id = w.new_id("price")
    price: Obj = {
        "id": price_id, "object": "price", "active": p.get("active", True), "billing_scheme": scheme, "created": w.now,
        "currency": currency, "custom_unit_amount": None, "livemode": False, "lookup_key": _lookup_key(w, p),
        "metadata": dict(p.get("metadata") or {}), "nickname": p.get("nickname"), "product": product["id"],
        "recurring": _recurring(w, p), "tax_behavior": p.get("tax_behavior", "unspecified"), "tiers_mode": None,
        "transform_quantity": None, "type": "recurring" if "recurring" in p else "one_time", "unit_amount": None,
        "unit_amount_decimal": None,
    }  # fmt: skip
    if scheme == "tiered":
        price["tiers_mode"] = _tiered(w, p, price_id, currency)
    else:
        if "tiers" in p or "tiers_mode" in p:
            raise refused("You cannot set `tiers` unless `billing_scheme` is `tiered`.", param="tiers")
        price["unit_amount"], price["unit_amount_decimal"] = _unit(p, currency, "unit_amount")
    w.add("price", price)
    w.emit("price.created", price)
    return price


def _product_of(w: World, p: Obj) -> Obj:
    data = p.get("product_data")
    if data is None:
        raise refused("You must specify either `product` or `product_data` when creating a price.", param="product")
    for name in data.keys() - {"name", "metadata", "unit_label", "tax_code", "id", "active"}:
        raise not_simulated(f"product_data[{name}]")
    return create_product(w, data, [])


def _lookup_key(w: World, p: Obj) -> str | None:
    key: str | None = p.get("lookup_key")
    for other in w.objects["price"].values():
        if key is not None and other["lookup_key"] == key:
            if not p.get("transfer_lookup_key"):
                raise refused(f"A price (`{other['id']}`) already uses that lookup key.", param="lookup_key")
            with w.changing(other, "price.updated"):
                other["lookup_key"] = None
    return key


def _recurring(w: World, p: Obj) -> Obj | None:
    given = p.get("recurring")
    if given is None:
        return None
    usage_type, meter = given.get("usage_type", "licensed"), given.get("meter")
    if (usage_type == "metered") != (meter is not None):
        raise refused("Metered prices need a `meter`, and only they can have one.", param="recurring[meter]")
    if meter is not None:
        w.get("billing.meter", meter, "recurring[meter]")
    if "trial_period_days" in given:
        raise not_simulated("recurring[trial_period_days]")
    return {
        "interval": given["interval"],
        "interval_count": given.get("interval_count", 1),
        "meter": meter,
        "trial_period_days": None,
        "usage_type": usage_type,
    }


def _unit(p: Obj, currency: str, name: str) -> tuple[int | None, str]:
    whole, fraction = p.get(name), p.get(f"{name}_decimal")
    if (whole is None) == (fraction is None):
        raise refused(f"You must specify exactly one of `{name}` and `{name}_decimal`.", param=name)
    if whole is not None:
        return amount_of(whole, currency, name), str(whole)
    value = Decimal(str(fraction))
    return (int(value) if value == int(value) else None), plain(value)


def _tiered(w: World, p: Obj, price_id: str, currency: str) -> str:
    if "unit_amount" in p or "unit_amount_decimal" in p:
        raise refused("You cannot set `unit_amount` when `billing_scheme` is `tiered`.", param="unit_amount")
    if not p.get("tiers") or "tiers_mode" not in p:
        raise refused("Tiered prices need `tiers` and `tiers_mode`.", param="tiers")
    tiers: list[Obj] = []
    last = 0
    for index, given in enumerate(p["tiers"]):
        where, up_to = f"tiers[{index}]", given["up_to"]
        if (up_to == "inf") != (index == len(p["tiers"]) - 1) or (up_to != "inf" and up_to <= last):
            raise refused(
                "`up_to` must grow from tier to tier, and be `inf` in the last one only.", param=f"{where}[up_to]"
            )
        last = last if up_to == "inf" else up_to
        tier: Obj = {"up_to": None if up_to == "inf" else up_to}
        for name in ("flat_amount", "unit_amount"):
            if name in given or f"{name}_decimal" in given:
                tier[name], tier[f"{name}_decimal"] = _unit(given, currency, name)
            else:
                tier[name] = tier[f"{name}_decimal"] = None
        if tier["flat_amount_decimal"] is None and tier["unit_amount_decimal"] is None:
            raise refused("A tier needs a unit amount or a flat amount.", param=where)
        tiers.append(tier)
    w.tiers[price_id] = tiers
    return str(p["tiers_mode"])


def update_price(w: World, p: Obj, ids: list[str]) -> Obj:
    price = w.get("price", ids[0])
    with w.changing(price, "price.updated"):
        assign(price, p, "active nickname tax_behavior")
        if "lookup_key" in p:
            price["lookup_key"] = _lookup_key(w, p)
        update_metadata(price, p.get("metadata"))
    return price


def list_prices(w: World, p: Obj, _ids: list[str]) -> Obj:
    keys, wanted = p.get("lookup_keys"), p.get("recurring")

    def matches(row: Obj) -> bool:
        return (keys is None or row["lookup_key"] in keys) and (
            wanted is None or (row["recurring"] is not None and wanted.items() <= row["recurring"].items())
        )

    return newest(w, p, "price", "active", "product", "currency", "type", where=matches)


# Coupons and discounts -----------------------------------------------------------------------------------------------


def create_coupon(w: World, p: Obj, _ids: list[str]) -> Obj:
    coupon_id = p.get("id") or w.new_id("cpn").removeprefix("cpn_")[:8]
    if coupon_id in w.objects["coupon"]:
        raise refused(f"Coupon already exists: {coupon_id}.", param="id", code="resource_already_exists")
    if ("percent_off" in p) == ("amount_off" in p):
        raise refused("Must provide exactly one of percent_off or amount_off.", param="percent_off")
    if "percent_off" in p and not 0 < p["percent_off"] <= 100:
        raise refused("Invalid percent_off: must be greater than 0 and at most 100.", param="percent_off")
    duration = p.get("duration", "once")
    if (duration == "repeating") != ("duration_in_months" in p):
        raise refused(
            "`duration_in_months` belongs to duration `repeating`, and only to it.", param="duration_in_months"
        )
    currency = None
    if "amount_off" in p:
        if "currency" not in p:
            raise refused("Missing required param: currency.", param="currency", code="parameter_missing")
        currency = currency_of(p["currency"])
        amount_of(p["amount_off"], currency, "amount_off")
    coupon: Obj = {
        "id": coupon_id, "object": "coupon", "amount_off": p.get("amount_off"), "created": w.now, "currency": currency,
        "duration": duration, "duration_in_months": p.get("duration_in_months"), "livemode": False,
        "max_redemptions": p.get("max_redemptions"), "metadata": dict(p.get("metadata") or {}), "name": p.get("name"),
        "percent_off": float(p["percent_off"]) if "percent_off" in p else None, "redeem_by": None, "times_redeemed": 0,
        "valid": True,
    }  # fmt: skip
    w.add("coupon", coupon)
    w.emit("coupon.created", coupon)
    return coupon


def update_coupon(w: World, p: Obj, ids: list[str]) -> Obj:
    coupon = w.get("coupon", ids[0])
    with w.changing(coupon, "coupon.updated"):
        assign(coupon, p, "name")
        update_metadata(coupon, p.get("metadata"))
    return coupon


def list_coupons(w: World, p: Obj, _ids: list[str]) -> Obj:
    return newest(w, p, "coupon")


def delete(kind: str) -> Any:
    """A handler that deletes: later reads say `resource_missing`, the reply and the record are a stub."""

    def handler(w: World, _p: Obj, ids: list[str]) -> Obj:
        obj = w.get(kind, ids[0])
        w.emit(f"{kind}.deleted", obj)
        stub: Obj = {"id": obj["id"], "object": obj["object"], "deleted": True}
        w.objects[kind][obj["id"]] = stub
        return stub

    return handler


def usable_coupons(w: World, given: Any, currency: str) -> list[Obj]:
    """The coupons named by `discounts[]` parameters, checked: they exist, are valid, and are in that currency."""
    coupons = []
    for index, each in enumerate(given or []):
        where = f"discounts[{index}]"
        if "coupon" not in each:
            raise not_simulated(f"{where} without coupon")
        coupon = w.get("coupon", each["coupon"], f"{where}[coupon]")
        if coupon["currency"] not in (None, currency):
            raise refused(f"The coupon is in {coupon['currency']}, not in {currency}.", param=f"{where}[coupon]")
        if not coupon["valid"]:
            raise refused("This coupon is no longer valid.", param=f"{where}[coupon]", code="coupon_expired")
        coupons.append(coupon)
    return coupons


def redeem(
    w: World, given: Any, *, customer: str, currency: str, subscription: str | None, invoice: str | None
) -> list[str]:
    """Turn `discounts[]` parameters into Discount objects; returns their ids. An empty string means none."""
    result = []
    for coupon in usable_coupons(w, given, currency):
        months = coupon["duration_in_months"]
        discount = w.add(
            "discount",
            {
                "id": w.new_id("di"), "object": "discount", "checkout_session": None, "customer": customer,
                "customer_account": None, "end": add_interval(w.now, "month", months) if months else None,
                "invoice": invoice, "invoice_item": None, "promotion_code": None,
                "source": {"type": "coupon", "coupon": coupon["id"]}, "start": w.now, "subscription": subscription,
                "subscription_item": None,
            },
        )  # fmt: skip
        with w.changing(coupon, "coupon.updated"):
            coupon["times_redeemed"] += 1
            limit = coupon["max_redemptions"]
            coupon["valid"] = limit is None or coupon["times_redeemed"] < limit
        w.emit("customer.discount.created", discount)
        result.append(str(discount["id"]))
    return result


# Tax rates -----------------------------------------------------------------------------------------------------------


def new_tax_rate(w: World, data: Obj, *, active: bool) -> Obj:
    """A TaxRate object; `data` as in `tax_rate_data` or the create call."""
    percentage = data["percentage"]
    if not 0 <= percentage <= 100 or -percentage.as_tuple().exponent > 4:
        raise refused(
            "Invalid percentage: must be between 0 and 100 with at most 4 decimal places.", param="percentage"
        )
    rate: Obj = {
        "id": w.new_id("txr"), "object": "tax_rate", "active": active, "country": data.get("country"), "created": w.now,
        "description": data.get("description"), "display_name": data["display_name"],
        "effective_percentage": float(percentage), "flat_amount": None, "inclusive": data["inclusive"],
        "jurisdiction": data.get("jurisdiction"), "jurisdiction_level": data.get("jurisdiction_level"),
        "livemode": False,
        "metadata": dict(data.get("metadata") or {}), "percentage": float(percentage), "rate_type": "percentage",
        "state": data.get("state"), "tax_type": data.get("tax_type"),
    }  # fmt: skip
    return w.add("tax_rate", rate)


def create_tax_rate(w: World, p: Obj, _ids: list[str]) -> Obj:
    rate = new_tax_rate(w, p, active=p.get("active", True))
    w.emit("tax_rate.created", rate)
    return rate


def update_tax_rate(w: World, p: Obj, ids: list[str]) -> Obj:
    rate = w.get("tax_rate", ids[0])
    with w.changing(rate, "tax_rate.updated"):
        assign(rate, p, "active display_name description jurisdiction country state tax_type")
        update_metadata(rate, p.get("metadata"))
    return rate


def list_tax_rates(w: World, p: Obj, _ids: list[str]) -> Obj:
    return newest(w, p, "tax_rate", "active", "inclusive")


def usable_rates(w: World, given: Any, param: str) -> list[Obj]:
    """The tax rates named in a parameter; archived ones cannot be put on anything new."""
    rates = [w.get("tax_rate", each, f"{param}[{i}]") for i, each in enumerate(given or [])]
    for rate in rates:
        if not rate["active"]:
            raise refused(f"The tax rate {rate['id']} is archived and cannot be used in {param}.", param=param)
    return rates

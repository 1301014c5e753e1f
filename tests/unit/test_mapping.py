"""Applying mappings: fields, lists, needs, parents, routes, digests."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import ConservationError, MappingError
from hub.mapping import Mappings, RecordMapping, Skip, digest
from hub.model import Record
from tests.unit.mapping_folder import loaded, mapping_text

INVOICE: dict[str, Any] = {"id": "in_1", "object": "invoice", "currency": "usd", "customer": "cus_1", "total": 1050}


def one(root: Path, fields: str = "a: invoice.id", more: str = "") -> RecordMapping:
    """The mapping `shop/order`."""
    return loaded(root, shop__order=mapping_text(fields, more)).for_destination("shop")["order"]


def made(mapping: RecordMapping, settings: dict[str, Any] | None = None, **roots: Any) -> Record:
    """What it makes of the invoice."""
    record = mapping.apply({"invoice": INVOICE, **roots}, settings)
    assert isinstance(record, Record)
    return record


def refused(mapping: RecordMapping, **roots: Any) -> MappingError:
    """How it refuses."""
    with pytest.raises(MappingError) as e:
        mapping.apply({"invoice": INVOICE, **roots})
    assert e.value.fix
    return e.value


def test_a_record(tmp_path: Path) -> None:
    record = made(one(tmp_path, "a.b: invoice.currency\na.c: money(invoice.total, invoice.currency)\nd: mapping.id"))
    assert record == Record(
        record="order",
        action="upsert",
        object_id="in_1",
        key="k_in_1",
        fields={"a": {"b": "usd", "c": Decimal("10.50")}, "d": "shop/order@2"},
        digest=digest("order", "upsert", "k_in_1", record.fields),
        mapping="shop/order@2",
        link=None,
    )


def test_null_is_left_out_sent_or_refused(tmp_path: Path) -> None:
    left = "a: invoice.none\nb: {value: invoice.none, null: true}\nc: {value: invoice.id, required: true}"
    assert made(one(tmp_path, left)).fields == {"b": None, "c": "in_1"}
    error = refused(one(tmp_path, "a.b: {value: invoice.none, required: true}"))
    assert error.code == "field_required"
    assert "mappings/shop/order.yaml, fields.a.b: " in error.cause


def test_constants(tmp_path: Path) -> None:
    fields = "a: false\nb: 7\nc: \"'text'\"\nd: {value: true}\ne: '`[1, 0.10]`'"
    record = made(one(tmp_path, fields))
    assert record.fields == {"a": False, "b": 7, "c": "text", "d": True, "e": [1, Decimal("0.10")]}
    assert record.fields["a"] is False


@pytest.mark.parametrize("expression", ["avg(invoice.numbers)", "[avg(invoice.numbers)]", "{x: avg(invoice.numbers)}"])
def test_no_float_gets_out(tmp_path: Path, expression: str) -> None:
    mapping = one(tmp_path, f"a: '{expression}'")
    assert refused(mapping, invoice={**INVOICE, "numbers": [1, 2]}).code == "not_a_float"


def test_a_float_in_a_body_is_noticed(tmp_path: Path) -> None:
    assert refused(one(tmp_path, "a: invoice.rate"), invoice={**INVOICE, "rate": 0.1}).code == "not_a_float"


def test_when_and_otherwise(tmp_path: Path) -> None:
    mapping = one(tmp_path, more="when: invoice.paid\notherwise: not paid yet")
    untrue: list[Any] = [None, False, "", [], {}]
    for paid in untrue:
        assert mapping.apply({"invoice": {**INVOICE, "paid": paid}}) == Skip("not paid yet")
    for paid in (True, 0, "x", [0]):
        assert isinstance(mapping.apply({"invoice": {**INVOICE, "paid": paid}}), Record)
    assert isinstance(one(tmp_path, more="when: invoice.paid").apply({"invoice": INVOICE}), Skip)


def test_when_decides_before_anything_else_can_go_wrong(tmp_path: Path) -> None:
    mapping = one(tmp_path, "a: {value: invoice.none, required: true}", "when: invoice.none\nconserve: invoice")
    assert isinstance(mapping.apply({"invoice": INVOICE}), Skip)


def test_conserve(tmp_path: Path) -> None:
    mapping = one(tmp_path, more="conserve: invoice")
    body = {"id": "in_1", "subtotal": 5, "total": 5, "lines": {"data": [{"amount": 5}]}}
    assert isinstance(mapping.apply({"invoice": body}), Record)
    with pytest.raises(ConservationError, match="in_1"):
        mapping.apply({"invoice": body | {"total": 6}})
    assert refused(mapping, invoice=body | {"lines": {"has_more": True, "data": []}}).code == "lines_incomplete"


EACH = """
each:
  x.rows:
    - over: invoice.lines
      as: line
      when: line.amount != `0`
      fields: {n: index, amount: 'money(line.amount, invoice.currency)', of: invoice.id}
      each:
        parts:
          - over: line.parts
            as: part
            fields: {p: part, of: line.amount, n: index}
    - over: invoice.extras
      as: extra
      fields: {extra: extra}
"""


def test_lists(tmp_path: Path) -> None:
    lines = [{"amount": 100, "parts": ["a", "b"]}, {"amount": 0}, None, {"amount": 200}]
    record = made(one(tmp_path, "x.other: invoice.id", EACH), invoice={**INVOICE, "lines": lines, "extras": [1]})
    assert record.fields["x"] == {
        "other": "in_1",
        "rows": [
            {
                "n": 0,
                "amount": Decimal("1.00"),
                "of": "in_1",
                "parts": [{"p": "a", "of": 100, "n": 0}, {"p": "b", "of": 100, "n": 1}],
            },
            {"n": 3, "amount": Decimal("2.00"), "of": "in_1", "parts": []},
            {"extra": 1},
        ],
    }


def test_lists_of_nothing_and_of_no_list(tmp_path: Path) -> None:
    mapping = one(tmp_path, more=EACH)
    assert made(mapping).fields["x"] == {"rows": []}
    error = refused(mapping, invoice={**INVOICE, "lines": {"data": []}})
    assert (error.code, "each.x.rows[0].over" in error.cause) == ("expression_failed", True)
    error = refused(mapping, invoice={**INVOICE, "lines": [{"amount": "1"}]})
    assert "each.x.rows[0].fields.amount: money() wants a whole number" in error.cause


NEEDS = """
needs:
  customer: {object: customer, id: invoice.customer}
  account: {object: account, id: customer.account}
  event_thing: {object: thing, id: event.id}
"""


def test_needs_are_asked_for_in_rounds(tmp_path: Path) -> None:
    mapping = one(tmp_path, more=NEEDS)
    roots: dict[str, Any] = {"invoice": INVOICE}
    assert mapping.needed(roots) == {"customer": ("customer", "cus_1"), "event_thing": ("thing", None)}
    roots |= {"customer": {"id": "cus_1", "account": {"id": "acct_1", "object": "account"}}, "event_thing": None}
    assert mapping.needed(roots) == {"account": ("account", "acct_1")}, "an expanded object stands for its id"
    error = refused(mapping, **roots)
    assert (error.code, "needs.account" in error.cause) == ("missing_object", True)
    roots["account"] = None
    assert mapping.needed(roots) == {}
    assert isinstance(mapping.apply(roots), Record)
    assert mapping.needed({"invoice": {**INVOICE, "customer": None}}) == {
        "customer": ("customer", None),
        "event_thing": ("thing", None),
    }
    with pytest.raises(MappingError, match="not an id"):
        mapping.needed({"invoice": {**INVOICE, "customer": 7}})


MANY = """
needs:
  products: {object: product, ids: 'invoice.lines[].product'}
  makers: {object: maker, ids: 'values(products)[].maker'}
"""


def test_needs_of_many_are_asked_for_one_by_one_and_put_together(tmp_path: Path) -> None:
    mapping = one(tmp_path, "names: values(products)[].name\nmaker: pick(makers, 'm1').name", MANY)
    lines = [{"product": "p1"}, {"product": None}, {"product": {"id": "p2"}}, {"product": "p1"}]
    roots: dict[str, Any] = {"invoice": {**INVOICE, "lines": lines}}
    known = {"p1": {"id": "p1", "name": "P1", "maker": "m1"}, "p2": {"id": "p2", "name": "P2"}, "m1": {"name": "M"}}
    rounds = []
    while wanted := mapping.needed(roots):
        rounds.append(dict(wanted))
        roots |= {name: known[i] for name, (_, i) in wanted.items() if i}
    assert rounds == [
        {"products/p1": ("product", "p1"), "products/p2": ("product", "p2")},
        {"makers/m1": ("maker", "m1")},
    ]
    assert made(mapping, **roots).fields == {"names": ["P1", "P2"], "maker": "M"}
    nothing: dict[str, Any] = {"invoice": {**INVOICE, "lines": None}}
    assert mapping.needed(nothing) == {}
    assert made(mapping, **nothing).fields == {"names": []}


@pytest.mark.parametrize("invoice", [None, {}, {"id": None}, "in_1"])
def test_no_object(tmp_path: Path, invoice: Any) -> None:
    assert refused(one(tmp_path), invoice=invoice).code == "missing_object"


def test_a_key_must_be_a_text(tmp_path: Path) -> None:
    mapping = loaded(tmp_path, shop__order=mapping_text().replace("concat('k_', invoice.id)", "invoice.number"))
    order = mapping.for_destination("shop")["order"]
    assert refused(order).code == "field_required"
    assert made(order, invoice={**INVOICE, "number": "N1"}).key == "N1"


def test_dotted_object_types(tmp_path: Path) -> None:
    text = mapping_text("a: billing_meter.name").replace("invoice.id", "billing_meter.id")
    mappings = loaded(tmp_path, shop__order=text.replace("object: invoice", "object: billing.meter"))
    record = mappings.for_destination("shop")["order"].apply({"billing_meter": {"id": "mtr_1", "name": "Calls"}})
    assert isinstance(record, Record)
    assert record.fields == {"a": "Calls"}


def _family(root: Path) -> Mappings:
    invoice = mapping_text(
        more="""
        needs:
          customer: {object: customer, id: invoice.customer}
          payer: {object: customer, id: invoice.payer}
          products: {object: product, ids: invoice.products}
        parents: [client, thing]
        """
    )
    client = mapping_text("a: customer.id").replace("invoice.paid", "customer.created, invoice.paid")
    client = client.replace("object: invoice", "object: customer").replace("invoice.id", "customer.id")
    thing = mapping_text("a: product.id").replace("[invoice.paid]", "[]").replace("invoice", "product")
    note = mapping_text("a: settings.erp.account", "parents: [order]")
    elsewhere = mapping_text("a: date(invoice.created, settings.timezone)")
    return loaded(
        root, shop__order=invoice, shop__client=client, shop__thing=thing, shop__a_note=note, erp__order=elsewhere
    )


def test_routes_and_families(tmp_path: Path) -> None:
    mappings = _family(tmp_path)
    assert mappings.routes() == {"invoice.paid": frozenset({"shop", "erp"}), "customer.created": frozenset({"shop"})}
    assert [m.name for m in mappings.for_event("shop", "invoice.paid")] == ["client", "order", "a_note"], (
        "parents first"
    )
    assert mappings.for_event("shop", "customer.deleted") == ()
    assert mappings.for_event("nowhere", "invoice.paid") == ()
    assert list(mappings.for_destination("shop")) == ["client", "thing", "order", "a_note"]
    assert mappings.for_destination("nowhere") == {}
    assert mappings.object_types == {"invoice", "customer", "product"}
    assert mappings.settings == {"erp", "timezone"}
    assert mappings.for_destination("shop")["order"].id == "shop/order@2"


def test_parents(tmp_path: Path) -> None:
    mappings = _family(tmp_path)
    order, note = (mappings.for_destination("shop")[n] for n in ("order", "a_note"))
    cus, p1, p2 = {"id": "cus_1"}, {"id": "p1"}, {"id": "p2"}

    def parents(of: RecordMapping, **roots: Any) -> list[tuple[str, Any]]:
        return [(m.name, root) for m, root in mappings.parent_roots(of, {"invoice": INVOICE, **roots})]

    both = {"products/p1": p1, "products/p2": p2}
    assert parents(order, customer=cus, payer={"id": "cus_2"}, **both) == [
        ("client", cus),
        ("client", {"id": "cus_2"}),
        ("thing", p1),
        ("thing", p2),
    ]
    assert parents(order, customer=cus, payer=dict(cus), products={"p1": p1}) == [("client", cus), ("thing", p1)]
    assert parents(order, customer=None, payer=None, products={}) == [("client", None), ("thing", None)]
    assert parents(note) == [("order", INVOICE)], "its own object where no need has the type"


_scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.decimals(allow_nan=False, allow_infinity=False)
)
_fields = st.dictionaries(
    st.text(max_size=4),
    st.recursive(_scalars, lambda i: st.lists(i, max_size=3) | st.dictionaries(st.text(max_size=3), i, max_size=3)),
    max_size=5,
)  # fmt: skip


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        return {k: _shuffled(value[k], random) for k in random.sample(list(value), len(value))}
    if isinstance(value, list):
        return [_shuffled(v, random) for v in value]
    if isinstance(value, Decimal) and abs(value.adjusted()) < 100:
        sign, digits, exponent = value.as_tuple()
        zeros = random.randrange(3)
        return Decimal((sign if any(digits) else random.randrange(2), digits + (0,) * zeros, int(exponent) - zeros))
    return value


@given(_fields, st.randoms(use_true_random=False))
def test_the_digest_is_blind_to_key_order_and_trailing_zeros(fields: dict[str, Any], random: Any) -> None:
    assert digest("r", "upsert", "k", _shuffled(fields, random)) == digest("r", "upsert", "k", fields)


@given(_scalars, _scalars)
def test_the_digest_sees_everything_else(a: Any, b: Any) -> None:
    same = type(a) is type(b) and a == b
    assert (digest("r", "upsert", "k", {"x": a}) == digest("r", "upsert", "k", {"x": b})) is same


def test_the_digest_covers_the_whole_record() -> None:
    fields = {"x": Decimal("1.0")}
    base = digest("r", "upsert", "k", fields)
    assert len(base) == 32
    assert digest("r", "upsert", "k", {"x": Decimal("1.00")}) == base
    others = [digest("s", "upsert", "k", fields), digest("r", "void", "k", fields), digest("r", "upsert", "l", fields)]
    assert len({base, *others, digest("r", "upsert", "k", {"x": "1.0"})}) == 5

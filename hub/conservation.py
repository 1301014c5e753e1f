"""Parts must add up to the whole before a document leaves. All amounts are integers in minor units.

Only what Stripe's API reference says of the objects (2025-03-31.basil and later) is checked; an optional field that is
absent or null is passed over, one that is there must fit. Where the reference leaves two readings open, both are let
through, and the reading is marked "not verified" at the rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hub.errors import ConservationError, MappingError


def check_invoice(invoice: Mapping[str, Any]) -> None:
    """Check a Stripe invoice with all its lines. Raises `ConservationError` with the sum that fails.

    1. every line is there (`lines.has_more` is false), else `MappingError` `lines_incomplete`
    2. line amounts = `subtotal`. The reference says item discounts are "already incorporated" in the subtotal, so line
       amounts less the discounts on the lines themselves are accepted too (not verified which of the two happens)
    3. discounts of the lines = `total_discount_amounts`; pretax credits likewise, and the discounts among them are
       those same ones
    4. taxes of the lines = `total_taxes`, with or without the tax on shipping (not verified)
    5. `total` = line amounts - discounts - billing credits + exclusive taxes + shipping, where the tax on shipping is
       either among the taxes or comes with the shipping (not verified)
    6. `amount_remaining` = `amount_due` - `amount_paid`; what was paid outside Stripe may be in `amount_paid` or not
       (not verified), and an overpaid invoice is passed over, because where the surplus is counted is not known
    """
    document = _Document(invoice)
    lines = document.lines()
    amounts = [document.whole(line.get("amount"), f"lines[{i}].amount") for i, line in enumerate(lines)]
    subtotal = document.whole(invoice.get("subtotal"), "subtotal")
    on_lines = _on_lines(document, lines)
    document.equal(f"line amounts {_sum(amounts)}", (sum(amounts), sum(amounts) - on_lines), "subtotal", subtotal)

    discounts = document.agreed("total_discount_amounts", "discount_amounts", lines)
    prepaid = document.prepaid("total_pretax_credit_amounts", lines, discounts)
    document.check_total(f"line amounts {sum(amounts)}", sum(amounts), discounts, prepaid, lines)
    document.check_remaining()


def check_credit_note(note: Mapping[str, Any]) -> None:
    """Check a Stripe credit note with all its lines. Raises `ConservationError` with the sum that fails.

    1. every line is there, else `MappingError` `lines_incomplete`
    2. line amounts (gross) = `subtotal`; with discounts the subtotal may lie lower, by at most all of them, because
       only discounts of the whole invoice are kept out of it and the note does not say which those are
    3. `discount_amount` = `discount_amounts` = discounts of the lines; taxes of the lines = `total_taxes`
    4. `total` = line amounts - discounts - billing credits + exclusive taxes + shipping, as on an invoice

    A note made from an amount alone may have no lines; then the subtotal stands in for them (not verified).
    """
    document = _Document(note)
    lines = document.lines()
    amounts = [document.whole(line.get("amount"), f"lines[{i}].amount") for i, line in enumerate(lines)]
    subtotal = document.whole(note.get("subtotal"), "subtotal")
    discounts = document.agreed("discount_amounts", "discount_amounts", lines)
    if note.get("discount_amount") is not None:
        stated = document.whole(note["discount_amount"], "discount_amount")
        if note.get("discount_amounts") is not None or any(line.get("discount_amounts") is not None for line in lines):
            document.equal(f"discounts {discounts}", (discounts,), "discount_amount", stated)
        discounts = stated
    gross = sum(amounts) if lines else subtotal
    if not gross - max(discounts, 0) <= subtotal <= gross - min(discounts, 0):
        document.fail(f"line amounts {_sum(amounts)}, discounts {discounts}, but subtotal is {subtotal}")

    prepaid = document.prepaid("pretax_credit_amounts", lines, discounts)
    document.check_total(f"line amounts {gross}" if lines else f"subtotal {gross}", gross, discounts, prepaid, lines)


class _Document:
    """One invoice or credit note being checked."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        self.id = str(body.get("id", "document without id"))

    def fail(self, arithmetic: str) -> NoReturn:
        raise ConservationError(self.id, f"{arithmetic} ({self.body.get('currency', 'currency unknown')}, minor units)")

    def equal(self, shown: str, accepted: Sequence[int], name: str, stated: int) -> None:
        if stated not in accepted:
            self.fail(f"{shown}, but {name} is {stated}: off by {stated - accepted[0]}")

    def whole(self, value: Any, name: str) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        kind = "missing" if value is None else f"a {type(value).__name__}, not a whole number of minor units"
        return self.fail(f"{name} is {kind}")

    def lines(self) -> list[Mapping[str, Any]]:
        lines = self.body.get("lines")
        data = lines.get("data") if isinstance(lines, Mapping) else None
        if not isinstance(lines, Mapping) or not isinstance(data, list) or lines.get("has_more"):
            raise MappingError(
                "lines_incomplete",
                f"{self.id} was checked without all of its lines.",
                "Read the object from Stripe again, following its list of lines to the end.",
            )
        return data

    def total(self, entries: Any, name: str) -> int | None:
        """Sum of the amounts of a list of `{amount, ...}`; None if the list is absent."""
        if entries is None:
            return None
        if not isinstance(entries, list):
            self.fail(f"{name} is not a list")
        return sum(self.whole(e.get("amount"), f"{name}[{i}].amount") for i, e in enumerate(entries))

    def over_lines(self, name: str, lines: Sequence[Mapping[str, Any]]) -> int | None:
        sums = [self.total(line.get(name), f"lines[{i}].{name}") for i, line in enumerate(lines)]
        return None if all(s is None for s in sums) else sum(s for s in sums if s is not None)

    def agreed(self, whole: str, part: str, lines: Sequence[Mapping[str, Any]]) -> int:
        """The sum of a list on the document, which must be the sum of the lists on its lines where both are there."""
        stated, summed = self.total(self.body.get(whole), whole), self.over_lines(part, lines)
        if stated is not None and summed is not None:
            self.equal(f"{part} of the lines {summed}", (summed,), f"the sum of {whole}", stated)
        return stated if stated is not None else summed or 0

    def prepaid(self, name: str, lines: Sequence[Mapping[str, Any]], discounts: int) -> int:
        """Prepaid billing credits used. The list of pretax credits may hold the discounts as well."""
        pretax = self.agreed(name, "pretax_credit_amounts", lines)
        entries = self.body.get(name)
        if entries is None:
            entries = [e for line in lines for e in line.get("pretax_credit_amounts") or ()]
        listed = [e for e in entries if e.get("type") == "discount"]
        if not listed:
            return pretax
        among = self.total(listed, name) or 0
        self.equal(f"discounts {discounts}", (discounts,), f"the sum of the discounts in {name}", among)
        return pretax - among

    def check_total(
        self, shown: str, gross: int, discounts: int, prepaid: int, lines: Sequence[Mapping[str, Any]]
    ) -> None:
        """The last sum: what is left of the lines, with what comes on top of them, is `total`."""
        before, tax, after = self.shipping()
        exclusive = self.exclusive_taxes(lines, tax)
        wanted = gross - discounts - prepaid + exclusive
        parts = [shown, f"- discounts {discounts}", f"- billing credits {prepaid}", f"+ exclusive taxes {exclusive}"]
        parts.append(f"+ shipping {after}")
        arithmetic = " ".join(part for part in parts if not part.endswith(" 0"))
        stated = self.whole(self.body.get("total"), "total")
        self.equal(f"{arithmetic} = {wanted + after}", (wanted + after, wanted + before), "total", stated)

    def shipping(self) -> tuple[int, int, int]:
        """Shipping without tax, its tax, and with tax."""
        cost = self.body.get("shipping_cost")
        if not isinstance(cost, Mapping):
            return (0, 0, 0)
        names = ("amount_subtotal", "amount_tax", "amount_total")
        before, tax, after = (self.whole(cost.get(name), f"shipping_cost.{name}") for name in names)
        return (before, tax, after)

    def exclusive_taxes(self, lines: Sequence[Mapping[str, Any]], shipping_tax: int) -> int:
        """Taxes on top of the price, once the document's taxes are those of its lines."""
        entries = self.body.get("total_taxes")
        stated, summed = self.total(entries, "total_taxes"), self.over_lines("taxes", lines)
        if stated is not None and summed is not None:
            accepted = (summed, summed + shipping_tax)
            self.equal(f"taxes of the lines {summed}", accepted, "the sum of total_taxes", stated)
        if entries is None:
            entries = [tax for line in lines for tax in line.get("taxes") or ()]
        return self.total([e for e in entries if e.get("tax_behavior") == "exclusive"], "taxes") or 0

    def check_remaining(self) -> None:
        names = ("amount_due", "amount_paid", "amount_remaining")
        if any(self.body.get(name) is None for name in names) or self.body.get("amount_overpaid"):
            return
        due, paid, remaining = (self.whole(self.body[name], name) for name in names)
        outside = self.body.get("amount_paid_off_stripe")
        elsewhere = 0 if outside is None else self.whole(outside, "amount_paid_off_stripe")
        shown = f"amount_due {due} - amount_paid {paid} = {due - paid}"
        self.equal(shown, (due - paid, due - paid - elsewhere), "amount_remaining", remaining)


def _on_lines(document: _Document, lines: Sequence[Mapping[str, Any]]) -> int:
    """Discounts that hang on a line itself (its `discounts`), not on the whole invoice."""
    total = 0
    for i, line in enumerate(lines):
        own = {d.get("id") if isinstance(d, Mapping) else d for d in line.get("discounts") or ()}
        entries = [e for e in line.get("discount_amounts") or () if _id(e.get("discount")) in own]
        total += document.total(entries, f"lines[{i}].discount_amounts") or 0
    return total


def _id(value: Any) -> Any:
    return value.get("id") if isinstance(value, Mapping) else value


def _sum(amounts: Sequence[int]) -> str:
    """`1500 + 300 - 20 = 1780`, shortened in the middle."""
    if len(amounts) < 2:
        return str(sum(amounts))
    shown = list(map(str, amounts)) if len(amounts) <= 12 else [*map(str, amounts[:10]), "...", str(amounts[-1])]
    return f"{' + '.join(shown).replace('+ -', '- ')} = {sum(amounts)}"

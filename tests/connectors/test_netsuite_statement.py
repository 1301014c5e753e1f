"""What `hub reconcile` reads as the tax of NetSuite's documents, of an account that the mappings filled. By hand."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from connectors.netsuite.statement import NetSuiteStatement, Tables, tax_items
from hub.errors import Reject
from tests.connectors.books_kit import DAY, JAN, Books, invoice, line, note, paid, refund, tax


async def taxes(books: Books, tables: Tables, *keys: str) -> dict[str, Decimal | None]:
    """External id -> tax, read one by one as well as in one page."""
    found = {}
    for page in (1, 1000):
        statement = NetSuiteStatement(books.w.settings(**books.settings), None, tables, page=page)
        found = {e.key: e.tax for e in await statement.keyed(keys)}
        await statement.close()
    return found


@pytest.mark.parametrize("how", ["line", "suitetax"])
async def test_tax_is_read_from_the_lines_of_every_document_that_has_it(opened: Callable[..., Books], how: str) -> None:
    books = opened(tax=how)
    books.w.sim.configure(suitetax=how == "suitetax")
    # 100.00 at 8% and 50.00 at 5%: 8.00 + 2.50. Of it 25.00 + 2.00 are credited. 10.00 are refunded besides.
    one, two = tax(800, taxable_amount=10000), tax(250, taxable_amount=5000, tax_rate_details={"tax_rate": "txr_2"})
    sold = invoice([line(10000, taxes=[one]), line(5000, taxes=[two])], 16050, total_taxes=[one, two])
    await books.told("invoice.finalized", sold)
    await books.told("invoice_payment.paid", paid(16050))
    back = tax(200, taxable_amount=2500)
    lines = {"object": "list", "has_more": False, "data": [{"id": "cnli_1", "amount": 2500, "taxes": [back]}]}
    given = note(0, 2700, subtotal=2500, total_taxes=[back], lines=lines, out_of_band_amount=2700)
    await books.told("credit_note.created", given)
    await books.told("refund.created", refund(1000, created=JAN + 3 * DAY))
    keys = ("stripe_in_1", "stripe_cn_1", "stripe_memo_re_1", "stripe_inpay_1")
    found = await taxes(books, books.mappings.tables, *keys)
    assert found == dict(zip(keys, (Decimal("10.5"), Decimal(2), Decimal(0), None), strict=True))
    if how == "line":
        assert await taxes(books, {}, *keys) == dict.fromkeys(keys), "which items have the tax is not known"


async def test_tax_that_a_bundle_adds_counts(opened: Callable[..., Books]) -> None:
    books = opened()
    books.w.sim.configure(avatax_bundle=True)
    sold = invoice([line(10000, taxes=[tax(800)])], 10800, total_taxes=[tax(800)])
    (outcome,) = await books.tell("invoice.finalized", sold)
    assert isinstance(outcome, Reject)
    # The bundle adds 10% of the 100.00 to the 8.00 on our line.
    assert await taxes(books, books.mappings.tables, "stripe_in_1") == {"stripe_in_1": Decimal(18)}


def test_the_tax_items_are_those_of_every_account_currency_and_country() -> None:
    table = {"tax": "hub_tax", "acct_1/tax/eur/DE": "vat_de", "tax/gbp": "hub_tax", "price_tax": "no", "*": "hub_x"}
    assert tax_items({"netsuite_items": table}) == ["hub_tax", "vat_de"]

"""The general ledger: what each transaction posts. Debit is positive, credit negative; each sums to nothing.

Receivables are carried at the rate of the document that made them. A payment, credit memo or refund applied to a
document at another rate relieves them at the document's, and the difference is a realized gain or loss on the one that
applies (NetSuite help, "Realized Gains and Losses"). Parts of a document take its base amount in slices that add up,
so that what is open in its currency is nothing exactly when it is nothing in base currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from connectors.netsuite.simulator.banking import signed
from connectors.netsuite.simulator.money import ZERO, parts, to_base
from connectors.netsuite.simulator.seed import REALIZED, TAX_PAYABLE, UNDEPOSITED, Row

if TYPE_CHECKING:
    from connectors.netsuite.simulator.books import Books


@dataclass(frozen=True, slots=True)
class Post:
    """One ledger line. `foreign`: in the transaction's currency; `line`: place in its sublist, 0 for the main line."""

    account: str
    foreign: Decimal
    base: Decimal
    line: int = 0


def posts(books: Books, kind: str, number: str, row: Row) -> list[Post]:
    """The ledger lines of a transaction, the main line first."""
    made = {
        "invoice": _sale, "creditMemo": _sale, "customerPayment": _payment, "customerRefund": _refund,
        "deposit": _deposit, "journalEntry": _journal,
    }[kind](books, number, row)  # fmt: skip
    if kind == "creditMemo":
        # The lines are turned; the receivable takes what the invoices it is applied to were worth.
        made = [Post(p.account, -p.foreign, -p.base, p.line) for p in made[1:]]
        made = [_settled(books, number, row, row["account"]), *made]
    return balanced(made)


def balanced(made: list[Post]) -> list[Post]:
    """With the realized difference, if there is one; nothing in the transaction's currency may be left."""
    assert sum((p.foreign for p in made), ZERO) == 0, "a transaction does not balance in its own currency"
    left = sum((p.base for p in made), ZERO)
    return [*made, Post(REALIZED, ZERO, -left, len(made))] if left else made


def _sale(books: Books, number: str, row: Row) -> list[Post]:
    del number
    amounts = [*(line["amount"] for line in row["item"]), *([row["taxTotal"]] if row["taxTotal"] else [])]
    accounts = [books.item(line["item"])["incomeAccount"] for line in row["item"]] + [TAX_PAYABLE]
    rows = zip(accounts, amounts, parts(books, amounts, row), strict=False)
    lines = [Post(account, -amount, -base, n) for n, (account, amount, base) in enumerate(rows, 1)]
    return [Post(row["account"], row["total"], to_base(books, row["total"], row)), *lines]


def _payment(books: Books, number: str, row: Row) -> list[Post]:
    money = Post(row.get("account") or UNDEPOSITED, row["total"], to_base(books, row["total"], row))
    return [money, _settled(books, number, row, row["arAcct"], line=1)]


def _refund(books: Books, number: str, row: Row) -> list[Post]:
    money = Post(row["account"], -row["total"], -to_base(books, row["total"], row))
    worth = sum((relief(books, line["doc"], number) for line in row["apply"]), ZERO)
    return [money, Post(row["arAcct"], row["total"], worth, 1)]


def _settled(books: Books, number: str, row: Row, account: str, line: int = 0) -> Post:
    """The receivable a payment or credit memo takes off: what it is applied to at that document's rate, the rest at its
    own."""
    own = to_base(books, row["total"], row) - to_base(books, row["applied"], row)
    worth = sum((relief(books, each["doc"], number) for each in row["apply"]), ZERO)
    return Post(account, -row["total"], -(own + worth), line)


def relief(books: Books, doc: str, by: str) -> Decimal:
    """The base amount that `by` takes of a document: its slice, in the order of the applications."""
    document = books.transaction(doc)
    amounts = [document.get("applied", ZERO), *books.applications(doc).values()]
    slices = dict(zip(books.applications(doc), parts(books, amounts, document)[1:], strict=True))
    return slices[by]


def _deposit(books: Books, number: str, row: Row) -> list[Post]:
    del number
    lines = []
    for line in row["payment"]:
        payment = books.records["customerPayment"][str(line["id"])]
        lines.append((UNDEPOSITED, -payment["total"], -to_base(books, payment["total"], payment)))
    amounts = [-line["amount"] for line in row["other"]] + [line["amount"] for line in row["cashback"]]
    accounts = [line["account"] for line in [*row["other"], *row["cashback"]]]
    lines += list(zip(accounts, amounts, parts(books, amounts, row), strict=True))
    main = Post(row["account"], row["total"], to_base(books, row["total"], row))
    return [main, *(Post(account, foreign, base, n) for n, (account, foreign, base) in enumerate(lines, 1))]


def _journal(books: Books, number: str, row: Row) -> list[Post]:
    del number
    debits = [line for line in row["line"] if signed(line) > 0]
    credited = [line for line in row["line"] if signed(line) < 0]
    worth = {
        id(line): base
        for side in (debits, credited)
        for line, base in zip(side, parts(books, [signed(line) for line in side], row), strict=True)
    }
    return [Post(line["account"], signed(line), worth[id(line)], n) for n, line in enumerate(row["line"], 1)]

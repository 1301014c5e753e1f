"""The mappings the hub ships, and everything mappings/README.md claims."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub.errors import MappingError
from hub.mapping import FOLDER, Mappings, RecordMapping, Skip, load, run_examples
from hub.mapping.files import parse_yaml
from hub.mapping.functions import Functions
from tests.unit.mapping_folder import folder

README = (FOLDER / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
EXPRESSIONS = [
    line.split(" => ") for _, block in BLOCKS for line in block.splitlines() if " => " in line and line[0] != "#"
]


def test_every_shipped_mapping_loads_and_its_examples_hold() -> None:
    results = run_examples(load())
    assert [f"{r.file}, {r.name}: {r.difference}" for r in results if not r.ok] == []


def test_every_shipped_mapping_has_examples() -> None:
    assert [m.file for m in load().all() if not m.examples] == []


@pytest.fixture
def readme(tmp_path: Path) -> Mappings:
    """The files shown in the README, as files."""
    for language, block in BLOCKS:
        name = re.match(r"# mappings/(\S+)\n", block)
        if language == "yaml" and name:
            path = tmp_path / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, "utf-8")
    return load(tmp_path)


def test_the_readmes_mappings_load_and_their_examples_hold(readme: Mappings) -> None:
    results = run_examples(readme)
    assert [f"{r.name}: {r.difference}" for r in results if not r.ok] == []
    assert len(results) == 4
    assert readme.routes().keys() == {"invoice.finalized", "invoice.paid", "customer.created", "customer.updated"}


def test_the_readmes_examples_notice_a_difference(readme: Mappings, tmp_path: Path) -> None:
    path = tmp_path / "netsuite" / "invoice.yaml"
    text = path.read_text("utf-8")
    for before, after, says in (
        ("amount: 20.00", "amount: 20.01", "fields.item.items[0].amount: Decimal('20.00'), expected Decimal('20.01')"),
        ("toBeEmailed: false\n        item", "toBeEmailed: 0\n        item", "fields.toBeEmailed: False, expected 0"),
        ("memo: null", "remark: null", "fields.memo: not expected, got None\nfields.remark: missing, expected None"),
        ("status: open", "status: draft", "skip: got the invoice is still a draft"),
        ("total: 2165", "total: 2166", "got in_1 does not add up: line amounts 2000 + exclusive taxes 165 = 2165"),
        ("{skip: the invoice is still a draft}", "{skip: another reason}", "expected 'another reason'"),
        ("{error: lookup_missing}", "{error: bad_currency}", "error: 'lookup_missing', expected 'bad_currency'"),
        ("{error: lookup_missing}", "{key: stripe_in_1}", "error: got mappings/netsuite/invoice.yaml, each.item"),
        ("customer: {id: cus_1,", "customer: {id: cus_2,", "given.customer: is cus_2, but the mapping would ask for"),
        ("{prod_seat: {id", "{prod_chair: {id", "given.products: is prod_chair, but the mapping would ask"),
    ):
        assert text.count(before) == 1, before
        path.write_text(text.replace(before, after), "utf-8")
        differences = "\n".join(r.difference for r in run_examples(load(tmp_path)) if not r.ok)
        assert says in differences, (before, differences)


def _written(mapping: RecordMapping, roots: dict[str, Any]) -> str:
    """The field `it`, or the error, as the README writes it; the digits of a number count."""
    try:
        made = mapping.apply(roots)
    except MappingError as e:
        return f"error {e.code}"
    assert not isinstance(made, Skip)
    value = made.fields["it"]
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


@pytest.mark.parametrize(("expression", "result"), EXPRESSIONS, ids=[e for e, _ in EXPRESSIONS])
def test_the_readmes_expressions(expression: str, result: str, tmp_path: Path, readme: Mappings) -> None:
    roots = next(parse_yaml(block.encode()) for _, block in BLOCKS if block.startswith("# roots\n"))
    needs = (
        "{line: {object: line_item, id: thing.line}, products: {object: product, ids: thing.products},"
        " notes: {object: credit_note, list: invoice, id: thing.invoice},"
        " payments: {object: invoice_payment, list: invoice, id: thing.invoice},"
        " invoice: {object: invoice, id: thing.in}}"
    )
    mapping = {
        "version": 1,
        "record": "r",
        "object": "thing",
        "key": "thing.id",
        "fields": {"it": {"value": expression}},
    }
    text = "\n".join(f"{k}: {json.dumps(v)}" for k, v in mapping.items()) + f"\nneeds: {needs}\n"
    mappings = load(folder(tmp_path, test__one=text.replace('"value":', '"null": true, "value":')))
    assert _written(mappings.for_destination("test")["one"], {"thing": {"id": "x"}, **roots}) == result


def test_every_function_is_in_the_readme_with_an_example() -> None:
    ours = {
        name.removeprefix("_func_")
        for name in vars(Functions)
        if name.startswith("_func_") and not hasattr(Functions.__base__, name)
    }
    assert len(ours) == 26
    table = set(re.findall(r"`(\w+)\(", "\n".join(line for line in README.splitlines() if line.startswith("| `"))))
    used = set(re.findall(r"(\w+)\(", " ".join(e for e, _ in EXPRESSIONS)))
    assert ours - table == set()
    assert ours - used == set()


def test_every_error_code_is_in_the_readme() -> None:
    source = "".join(p.read_text("utf-8") for p in Path(load.__code__.co_filename).parent.glob("*.py"))
    source += (FOLDER.parent / "hub" / "conservation.py").read_text("utf-8")
    raised: set[Any] = set(re.findall(r'(?:_fail|MappingError|RefusalError)\(\s*"(\w+)"', source))
    assert raised == set(re.findall(r"^\| `(\w+)` \|.*\|.*\|$", README, re.MULTILINE)) & raised
    assert len(raised) == 10

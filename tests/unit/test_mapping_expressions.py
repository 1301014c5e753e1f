"""The compiled form of an expression and the interpreter say the same; what is stricter is stricter in both."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmespath.parser import Parser

from hub.mapping.expressions import Expression, Interpreter, compile_expression
from hub.mapping.functions import Functions, RefusalError

TABLES = {"t": {"a": 1, "1": 2}}
FUNCTIONS = Functions(TABLES)
INTERPRETER = Interpreter(FUNCTIONS)


def compiled(text: str) -> Expression:
    expression, problems = compile_expression(text, INTERPRETER, FUNCTIONS)
    assert expression is not None, problems
    return expression


def answer(run: Any, roots: Any) -> Any:
    """What it gives, or that it refuses, and how."""
    try:
        return run(roots)
    except RefusalError as e:
        return (e.code, e.cause)


_leaf = st.sampled_from(
    ["a", "a.b", "a.b.c", "b", "c.d", "'x'", "`1`", "`0`", "`null`", "`[]`", "`true`", "`false`", "`{}`", "''", "`2`"]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda p: f"({p[0]} && {p[1]})"),
        pair.map(lambda p: f"({p[0]} || {p[1]})"),
        st.tuples(inner, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), inner).map(lambda p: f"({' '.join(p)})"),
        pair.map(lambda p: f"[{p[0]}, {p[1]}]"),
        pair.map(lambda p: f"{{p: {p[0]}, q: {p[1]}}}.p"),
        pair.map(lambda p: f"concat({p[0]}, {p[1]})"),
        pair.map(lambda p: f"first_of({p[0]}, {p[1]})"),
        pair.map(lambda p: f"add({p[0]}, {p[1]})"),
        pair.map(lambda p: f"lookup('t', [{p[0]}, {p[1]}])"),
        pair.map(lambda p: f"not_null({p[0]}, {p[1]})"),
        inner.map(lambda i: f"to_array({i})[0]"),
        inner.map(lambda i: f"to_array({i})[].b"),
        inner.map(lambda i: f"[{i}][?@ == `1`]"),
        inner.map(lambda i: f"({i}) | b"),
        pair.map(lambda p: f"[{p[0]}, {p[1]}][?b || !c]"),
        pair.map(lambda p: f"[{p[0]}, {p[1]}][].[a, @][] | [0]"),
        inner.map(lambda i: f"{i}[*].b.c"),
        inner.map(lambda i: f"({i})[?@ != `null`].{{x: b, y: @}}"),
        inner.map(lambda i: f"({i}).*"),
        inner.map(lambda i: f"!({i})"),
        inner.map(lambda i: f"type({i})"),
        inner.map(lambda i: f"length(to_array({i}))"),
    )


_values = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 2, Decimal("1.5"), "", "x", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


@given(st.recursive(_leaf, _larger, max_leaves=6), st.dictionaries(st.sampled_from("abc"), _values))
def test_compiled_and_interpreted_agree(text: str, roots: dict[str, Any]) -> None:
    node = Parser().parse(text).parsed
    # Both through Expression, so that library errors become refusals in the same way.
    interpreted = Expression(text, lambda r: INTERPRETER.visit(node, r), frozenset(), frozenset())
    mine, theirs = answer(compiled(text), roots), answer(interpreted, roots)
    assert mine == theirs
    assert repr(mine) == repr(theirs)


@pytest.mark.parametrize(
    ("text", "roots", "value"),
    [
        ("sum(a)", {"a": [1, Decimal("0.1"), Decimal("0.2")]}, Decimal("1.3")),
        ("max(a)", {"a": [Decimal("0.1"), 2]}, 2),
        ("abs(a)", {"a": Decimal("-1.10")}, Decimal("1.10")),
        ("sort_by(a, &n)[0].n", {"a": [{"n": Decimal("1.5")}, {"n": Decimal("1.2")}]}, Decimal("1.2")),
        ("type(a)", {"a": Decimal(1)}, "number"),
        ("to_number(a)", {"a": "0.10"}, Decimal("0.10")),
        ("to_number(a)", {"a": "12"}, 12),
        ("to_number(a)", {"a": "twelve"}, None),
        ("to_number(a)", {"a": True}, None),
        ("to_string(a)", {"a": Decimal("1E+2")}, "100"),
        ("to_string(a)", {"a": [Decimal("1.5"), None]}, '["1.5", null]'),
        ("a == `0.1`", {"a": Decimal("0.1")}, True),
        ("a > `0.1`", {"a": Decimal("0.1")}, False),
        ("`[0.1, {\"x\": 0.2}]`[1].x", {}, Decimal("0.2")),
        ("a[?n > `1`].n", {"a": [{"n": 1}, {"n": 2}]}, [2]),
        ("a == `1`", {"a": True}, False),
        ("map(&concat('x', n), a)", {"a": [{"n": 1}, {"n": None}]}, ["x1", "x"]),
    ],
)  # fmt: skip
def test_numbers_stay_exact(text: str, roots: dict[str, Any], value: Any) -> None:
    got = compiled(text)(roots)
    assert (got, str(got)) == (value, str(value))


@pytest.mark.parametrize(
    ("text", "roots", "says"),
    [
        ("a > `0`", {"a": None}, "compares null with a number"),
        ("a > `0`", {"a": "1"}, "compares a string with a number"),
        ("a >= b", {"a": True, "b": 1}, "compares true/false with a number"),
        ("a[?n > `1`]", {"a": [{}]}, "compares null with a number"),
        ("sum(a)", {"a": ["secret name"]}, "sum() cannot take a string"),
        ("length(a)", {"a": 1}, "length() cannot take a number"),
        ("join(',', a)", {"a": None}, "join() cannot take null, it wants array-string"),
        ("money(a, 'usd')", {"a": True}, "not bool"),
        ("money(a, 'usd')", {"a": 1.5}, "not float"),
        ("money(a, b)", {"a": 1}, "got no currency"),
        ("concat(a)", {"a": {"x": 1}}, "wants text or a number, not dict"),
        ("decimal(a)", {"a": "NaN"}, "decimal() wants a number"),
        ("decimal(a)", {"a": "secret name"}, "decimal() wants a number"),
        ("decimal(a)", {"a": False}, "decimal() wants a number"),
        ("truncate(a, `-1`)", {"a": "x"}, "0 or more"),
        ("datetime(a)", {"a": "2025-01-01"}, "seconds since 1970"),
        ("datetime(a)", {"a": 10**20}, "seconds since 1970"),
        ("date(a, b)", {"a": 1}, "got nothing as time zone"),
        ("date(a, '../../etc/passwd')", {"a": 1}, "as time zone"),
        ("subtract(a, b)", {"a": 1}, "not null"),
        ("negate(a)", {"a": "1"}, "not str"),
        ("pick(a, 'x')", {"a": [1]}, "wants an object"),
        ("lookup('t', [a, b])", {}, "no entry for (no key: all are null)"),
        ("lookup('t', [a, `7`])", {"a": "nope"}, "no entry for nope, 7"),
        ("lookup(a, ['x'])", {"a": "other"}, "table that does not exist"),
    ],
)
def test_what_cannot_be_worked_out_is_refused_without_showing_values(text: str, roots: Any, says: str) -> None:
    with pytest.raises(RefusalError) as e:
        compiled(text)(roots)
    assert says in e.value.cause
    assert "secret" not in e.value.cause
    assert e.value.fix


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a..b", "is not a JMESPath expression"),
        ("", "is not a JMESPath expression"),
        ("nope(a)", "unknown function nope(); known: abs, add"),
        ("a.nope(b)", "unknown function nope()"),
        ("money(a)", "money() takes 2 argument(s), not 1"),
        ("sum(a, b)", "sum() takes 1 argument(s), not 2"),
        ("concat()", "concat() takes at least 1"),
        ("lookup('nope', [a])", "unknown lookup table 'nope'"),
        ("lookup(`[1]`, [a])", "unknown lookup table [1]"),
        ("@", "must start from a named root"),
        ("[0]", "must start from a named root"),
        ("*.a", "must start from a named root"),
        ("[?a == 'x']", "must start from a named root"),
        ("x" * 2001, "longer than 2000"),
        ("(" * 900 + "a" + ")" * 900, "is not a JMESPath expression"),
    ],
    ids=lambda v: v[:20],
)
def test_what_is_wrong_with_an_expression(text: str, says: str) -> None:
    expression, problems = compile_expression(text, INTERPRETER, FUNCTIONS)
    assert expression is None
    assert any(says in p for p in problems), problems


@pytest.mark.parametrize(
    ("text", "roots", "settings"),
    [
        ("a.b", {"a"}, set()),
        ("a.b || c", {"a", "c"}, set()),
        ("lines[?amount > `0`].product", {"lines"}, set()),
        ("money(sum(a[].b), c.currency)", {"a", "c"}, set()),
        ("map(&concat('x', inner), a)", {"a"}, set()),
        ("[a, {p: b, q: c.d}]", {"a", "b", "c"}, set()),
        ("a | b", {"a"}, set()),
        ("date(a, settings.timezone)", {"a", "settings"}, {"timezone"}),
        ("settings.erp.account", {"settings"}, {"erp"}),
        ("a.settings.timezone", {"a"}, set()),
        ("a[0:2] && !b", {"a", "b"}, set()),
        ("'text'", set(), set()),
    ],
)
def test_roots_and_settings_read(text: str, roots: set[str], settings: set[str]) -> None:
    assert (set(compiled(text).roots), set(compiled(text).settings)) == (roots, settings)


def test_the_librarys_cache_of_parsed_expressions_is_left_alone() -> None:
    compiled("a == `0.25`")
    assert Parser().parse("a == `0.25`").parsed["children"][1]["value"] == 0.25

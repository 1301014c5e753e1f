"""YAML without surprises, and within limits."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from hub.mapping.files import MAX_BYTES, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on: [a]", {"on": ["a"]}),
        ("[yes, no, NO, off, y]", ["yes", "no", "NO", "off", "y"]),
        ("[true, True, false]", [True, True, False]),
        ("[0400, 1:30, 0x10, 1_000]", ["0400", "1:30", "0x10", "1_000"]),
        ("[2025-12-31, 2025-12-31T00:00:00Z]", ["2025-12-31", "2025-12-31T00:00:00Z"]),
        ("[1, -1, +1, 0]", [1, -1, 1, 0]),
        ("[null, ~, '', Null]", [None, None, "", None]),
        ("[.inf, .nan, 1e3, =]", [".inf", ".nan", "1e3", "="]),
        ("{null: 1, true: 2, 01: 3, 2: 4}", {"null": 1, "true": 2, "01": 3, "2": 4}),
        ("{a: &x {p: 1, q: 2}, b: {<<: *x, q: 3}}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("", None),
        ("# nothing", None),
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    read = parse_yaml(text.encode())
    assert read == value
    assert repr(read) == repr(value), "True is not 1"


def test_numbers_with_a_point_are_exact() -> None:
    assert [str(n) for n in parse_yaml(b"[1.10, -0.5, 0.1]")] == ["1.10", "-0.5", "0.1"]
    assert all(isinstance(n, Decimal) for n in parse_yaml(b"[1.10, -0.5]"))


def test_a_table_merged_twice_is_not_a_duplicate() -> None:
    text = b"base: &b {x: 1}\nover: &o {<<: *b, y: 2}\nthird: {<<: *o, z: 3}\nagain: {<<: [*b, *o], y: 4}"
    assert parse_yaml(text)["third"] == {"x": 1, "y": 2, "z": 3}
    assert parse_yaml(text)["again"] == {"x": 1, "y": 4}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a: 1\nb: 2\na: 3", "line 3: duplicate key 'a'"),
        (b"x: [{a: 1, 'a': 2}]", "duplicate key 'a'"),
        (b"[a, b]: 1", "a key must be a plain value"),
        (b"a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        (b"a: [1", "did not find expected ',' or ']'"),
        (b"a: 1\n---\nb: 2", "found another document"),
        (b"a: \xff", "is not UTF-8"),
        (b"a: \x07", "control characters"),
        (b"[" * 41 + b"]" * 41, "nested deeper than 40"),
        (b"[" * 200_000, "nested deeper than 40"),
        (b"a: &a [*a]", "unfolds to more than"),
        (b"x" * (MAX_BYTES + 1), "larger than 512 KiB"),
        (b"a: *nobody", "undefined alias"),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_what_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_yaml(text)


@pytest.mark.parametrize("merge", [False, True])
def test_a_small_file_that_unfolds_to_a_huge_one(merge: bool) -> None:
    lines = ["a0: &a0 {k0: 1, k1: 1, k2: 1, k3: 1, k4: 1, k5: 1, k6: 1, k7: 1}"]
    for n in range(1, 12):
        inner = ", ".join(f"*a{n - 1}" for _ in range(8))
        lines.append(f"a{n}: &a{n} {{<<: [{inner}]}}" if merge else f"a{n}: &a{n} [{inner}]")
    with pytest.raises(ValueError, match=r"unfolds to more than|merge keys grow"):
        parse_yaml("\n".join(lines).encode())

"""What the tests of the whole hub may ask for: the served sandbox, one for a test file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow import stack
from tests.flow.stack import Vendors


@pytest.fixture(scope="module")
def served() -> Iterator[Vendors]:
    """As the last test left it."""
    with stack.vendors() as town:
        yield town


@pytest.fixture
def town(served: Vendors) -> Vendors:
    """As new."""
    served.reset()
    return served


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """For the variables of a hub."""
    return monkeypatch

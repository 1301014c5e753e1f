"""What the tests of connectors may ask for: simulated vendors, one for a test file, and ways into them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from connectors.sandbox.app import Sandbox, create
from hub.mapping import Mappings
from tests.connectors import avalara_kit
from tests.connectors.books_kit import Books, opening
from tests.connectors.netsuite_kit import Caller, World, own_mappings, world
from tests.serving import served


@pytest.fixture(scope="module")
def sandbox() -> Iterator[tuple[str, Sandbox]]:
    """All vendors behind one door, and its address."""
    app = create(seed=7, clock=time.time)
    with served(app) as url:
        yield url, app


@pytest.fixture(scope="module")
def avalara() -> Iterator[avalara_kit.World]:
    """A simulated AvaTax: `fresh()` empties it."""
    with avalara_kit.world() as w:
        yield w


@pytest.fixture(scope="module")
def netsuite() -> Iterator[World]:
    """A simulated account, one for all tests of a file: who writes into it empties it first."""
    with world() as w:
        yield w


@pytest.fixture(scope="session")
def netsuite_mappings(tmp_path_factory: pytest.TempPathFactory) -> Mappings:
    return own_mappings(tmp_path_factory.mktemp("netsuite") / "mappings")


@pytest.fixture
async def call(netsuite: World) -> AsyncIterator[Caller]:
    """Plain calls into an account without a record."""
    netsuite.sim.reset()
    caller = Caller(netsuite)
    yield caller
    await caller.client.close()


@pytest.fixture
async def opened(netsuite: World, netsuite_mappings: Mappings) -> AsyncIterator[Callable[..., Books]]:
    """Opens the books of a hub with the settings given, in an account without a record."""
    async with opening(netsuite, netsuite_mappings) as made:
        yield made

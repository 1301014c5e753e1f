"""The API under requests made up from its own description, right and wrong ones, against a database with rows in it.

No answer is a 5xx, every answer is as described, what breaks the description is refused, and nothing is answered
without the token.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import yaml
from schemathesis.specs.openapi.checks import positive_data_acceptance

from hub import api
from hub.db import Database, Embedded
from tests.flow import stack
from tests.flow.hostile import TOKEN, Served, fill, serving

KNOWN = {
    "deliveries": ("1", "2", "3", "4", "5"),
    "events": ("evt_1", "evt_4", "evt_5"),
    "objects": ("in_1", "in_4"),
    "destinations": ("netsuite", "salesforce", "s3_lake"),
}
"""What exists, by the first word of the path: made up ids never do, and everything would be a 404."""
TOKEN_HEADER = {"Authorization": f"Bearer {TOKEN}"}
TEXT = api.DESCRIPTION.read_text()
PATHS = [
    (method.upper(), path, path != "/openapi.json")
    for path, methods in yaml.safe_load(TEXT)["paths"].items()
    for method in methods
]


def described(examples: int, *, coverage: bool) -> Any:
    """The description as schemathesis reads it: so many made up requests per operation, each half right, half wrong.
    `coverage`: and every bound and every way to break a schema, one by one.
    """
    config = {
        "generation": {"max-examples": examples, "deterministic": True, "no-shrink": True},
        "phases": {"coverage": {"enabled": coverage}, "examples": {"enabled": False}},
    }
    return schemathesis.openapi.from_file(TEXT, config=schemathesis.Config.from_dict(config))


@pytest.fixture(scope="module")
def hub(postgres: Embedded, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with filled_hub(postgres, template, tmp_path_factory) as served:
        yield served


@contextlib.contextmanager
def filled_hub(postgres: Embedded, template: str, folders: pytest.TempPathFactory) -> Iterator[Served]:
    """One process for all tests of a module: none depends on what another left behind."""
    with asyncio.Runner() as runner:
        place = _hub(postgres, template, folders.mktemp("served"))
        yield runner.run(place.__aenter__())
        runner.run(place.__aexit__(None, None, None))


@contextlib.asynccontextmanager
async def _hub(postgres: Embedded, template: str, folder: Path) -> AsyncIterator[Served]:
    async with stack.database(postgres, template) as dsn:
        db = await Database.connect(dsn, size=2)
        await fill(db)
        await db.close()
        async with serving(dsn, folder) as served:
            yield served


def holds(case: Any, hub: Served) -> None:
    """Sends a made up request; the answer must be as described, and no 5xx. Right ones are mostly about what exists."""
    wrong = case.meta is not None and case.meta.generation.mode is schemathesis.GenerationMode.NEGATIVE
    known = KNOWN.get(case.path.split("/")[1], ())
    seed = sum(map(ord, repr((case.query, case.body))))
    if case.path_parameters and not wrong and seed % 4:
        name = "name" if "{name}" in case.path else "id"
        case.path_parameters[name] = known[seed % len(known)]
    # A destination or a cursor that never was is refused, which no schema can say: so not all that fits one is taken.
    case.call_and_validate(
        base_url=hub.url + api.PREFIX, headers=TOKEN_HEADER, excluded_checks=[positive_data_acceptance]
    )


few = described(6, coverage=False)


@few.parametrize()  # type: ignore[untyped-decorator]
def test_what_is_made_up_from_the_description_is_answered_as_described_and_never_with_a_5xx(
    case: Any, hub: Served
) -> None:
    holds(case, hub)


@pytest.mark.parametrize("token", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}"])
def test_without_the_token_there_is_no_answer_to_anything(token: str | None, hub: Served) -> None:
    header = {"authorization": token} if token else {}
    with httpx.Client(base_url=hub.url + api.PREFIX, headers=header, verify=False, trust_env=False) as http:
        for method, path, closed in PATHS:
            answer = http.request(method, path.format(id="1", name="netsuite"))
            assert answer.status_code == (401 if closed else 200), (method, path)
            assert ("www-authenticate" in answer.headers) is closed

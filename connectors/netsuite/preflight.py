"""`preflight`: before any money moves, everything in the account that would make a mapping fail, all at once.

It reads (GET and SuiteQL) and changes nothing. Three parts: what the mappings will write (`preflight_uses`), what the
account is like (`preflight_account`), and the comparison (`preflight_checks`, `preflight_references`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from connectors.netsuite import preflight_checks as checks
from connectors.netsuite.client import NetSuiteClient
from connectors.netsuite.limit import Limit
from connectors.netsuite.preflight_account import Account, Reader, Sleep
from connectors.netsuite.preflight_checks import Finding
from connectors.netsuite.preflight_references import references
from connectors.netsuite.preflight_uses import Uses, uses
from connectors.netsuite.settings import NetSuiteSettings
from hub.mapping.record import RecordMapping

Tables = Mapping[str, Mapping[str, Any]]
ORDER = ("wrong", "cannot tell", "ok")


async def preflight(
    settings: NetSuiteSettings,
    mappings: Iterable[RecordMapping],
    tables: Tables,
    seen: Mapping[str, Any],
    today: date,
    places: Mapping[str, int],
    *,
    rng: random.Random | None = None,
    sleep: Sleep = asyncio.sleep,
) -> list[Finding]:
    """Every finding, what is wrong first.

    `mappings`, `tables`: those of this destination, and the lookup tables. `seen`: what expressions see as `settings`.
    `today`: the day in the books' time zone. `places`: decimal places of Stripe's amounts by upper-case currency.
    Raises `OutcomeError` if the account cannot be read at all.
    """
    wanted = uses(mappings, tables, seen)
    client = NetSuiteClient(settings, Limit(1))  # one at a time: a hub may be at work beside it
    try:
        reader = Reader(client, rng or random.Random(), sleep)  # noqa: S311 - spreads retries, protects nothing
        account = await reader.read(wanted)
    finally:
        await client.close()
    return judge(settings, wanted, account, tables, today, places)


def judge(
    settings: NetSuiteSettings, wanted: Uses, account: Account, tables: Tables, today: date, places: Mapping[str, int]
) -> list[Finding]:
    """The comparison alone."""
    found = [
        *checks.access(account, wanted),
        *checks.fields(account, wanted, settings.tax),
        *references(account, wanted, tables, places),
        *checks.period(account, today, settings.closed_period),
        *checks.tax(account, wanted, settings.tax, settings.disable_tax_field),
        *checks.concurrency(account, settings.concurrency),
    ]
    return sorted(found, key=lambda f: ORDER.index(f.verdict))

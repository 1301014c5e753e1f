"""How many calls each vendor gets per thousand events: the cost that NetSuite's and Salesforce's limits make count."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hub.bench.ground import BenchError, Say, ask, silent

SECONDS = 1200.0


async def calls(customers: int = 50, seed: int = 7, *, say: Say = silent) -> dict[str, Any]:
    """Run `hub demo --once` and divide. Raises `BenchError` if the demo fails: then the figures are worth nothing."""
    say(f"{customers} customers' lives through the demo ...")
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        result = await ask(
            "hub.cli", "demo", "--once", "--customers", str(customers), "--seed", str(seed), "--json",
            env={}, folder=Path(folder), seconds=SECONDS,
        )  # fmt: skip
    return {"calls_per_1000_events": per_thousand(result)}


def per_thousand(result: dict[str, Any]) -> dict[str, float]:
    """Vendor -> calls per thousand events, from the demo's JSON."""
    events, counted = result.get("events"), result.get("vendor_calls")
    if not isinstance(events, int) or not events or not isinstance(counted, dict):
        raise BenchError(f"the demo's JSON has no events or no vendor_calls; it has {', '.join(sorted(result))}")
    return {vendor: round(1000 * n / events, 1) for vendor, n in sorted(counted.items())}

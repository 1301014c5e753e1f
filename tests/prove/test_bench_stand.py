"""The smallest forms of the benchmarks that need many processes: they run, and measure what they say."""

from __future__ import annotations

import pytest

from hub import bench

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]


async def test_latency() -> None:
    found = (await bench.latency(4.0, rate=30.0, customers=2))["latency"]
    for name in ("salesforce", "netsuite", "avalara", "s3_lake"):
        assert 0 < found[name]["p50_ms"] <= found[name]["p99_ms"]
        assert found[name]["deliveries"] > 0
    assert found["salesforce"]["p50_ms"] > 1000 * found["coalesce_s"] > 0, "it waits for more changes first"
    assert found["s3_lake"]["p99_ms"] > 1000, "the lake waits for more events first"
    lives = found["end_to_end"]
    assert lives["invoices"] > 2
    assert lives["invoice_lives_per_s"] > 0
    assert lives["deliveries_per_s"] > lives["events_per_s"] > lives["invoice_lives_per_s"]


async def test_isolation() -> None:
    found = (await bench.isolation(5.0, rounds=1, rate=20.0))["isolation"]
    assert set(found["p99_ratio"]) == {"down", "hanging", "limit"}
    assert all(set(of) == {"salesforce", "avalara", "s3_lake"} for of in found["p99_ratio"].values())
    assert min(found["recovery_s"].values()) > 0
    assert found["most_attempts"] > 1
    assert found["dead"] == 0
    assert 0 < found["budget_used_percent"] < 1
    assert found["verdict"].startswith("too short to judge: 1 rounds")


async def test_nodes() -> None:
    found = (await bench.nodes(0.2, rounds=1, deliveries=20))["nodes"]
    assert found["attempted_twice"] == 0
    for name in ("deliveries_slow_vendor", "deliveries_null_vendor", "acks"):
        assert min(found[f"few_{name}_per_s"], found[f"many_{name}_per_s"]) > 0
    # Five slots of 75 ms each: no more than 66 a second, however fast the machine is.
    assert found["few_deliveries_slow_vendor_per_s"] < 70

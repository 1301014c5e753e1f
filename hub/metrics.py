"""What `/metrics` shows. Labels are few and bounded: destinations, outcomes, reasons; never ids."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


@dataclass(frozen=True, slots=True)
class Metrics:
    """All instruments, on a registry of their own. Made once by `hub.app` and passed down."""

    registry: CollectorRegistry
    received: Counter
    """Webhook requests by result: accepted, repeat, or the reason of refusal."""
    ack_seconds: Histogram
    turned_away: Counter
    """Connections and requests that came to no application, by what was wrong with them."""
    attempts: Counter
    attempt_seconds: Histogram
    settled: Counter
    late: Counter
    """Settlements that came after the claim was lost."""
    source_reads: Counter
    deliveries: Gauge
    oldest: Gauge
    paused: Gauge
    circuit: Gauge
    share: Gauge
    """How much of a destination's limits is in use, 0 to 1."""
    quota_used: Gauge
    quota_allowed: Gauge
    swept_until: Gauge
    gap: Gauge
    """Seconds of events that no sweep could compare and no backfill has made up for."""
    sweep_missing: Counter
    """Events that no webhook brought, by what became of them."""
    pruned: Counter
    """Removed by retention."""
    tax_differences: Counter
    """Documents booked with another tax than AvaTax itself would have charged."""
    held_drafts: Gauge
    held_seconds: Gauge
    held_money: Gauge
    """What the drafts that wait for tax are worth, minor units by currency."""
    differences: Gauge
    """Of the last reconciliation, by what they are."""
    reconciled_until: Gauge
    """Up to when it compared."""


def create() -> Metrics:
    """A fresh set of instruments."""
    registry = CollectorRegistry()
    return Metrics(
        registry=registry,
        received=Counter("hub_received_total", "Webhook requests", ["result"], registry=registry),
        ack_seconds=Histogram("hub_ack_seconds", "From request to durable 2xx", registry=registry, buckets=SECONDS),
        turned_away=Counter(
            "hub_turned_away_total", "Connections turned away by the web server", ["reason"], registry=registry
        ),
        attempts=Counter("hub_attempts_total", "Attempts by outcome", ["destination", "outcome"], registry=registry),
        attempt_seconds=Histogram(
            "hub_attempt_seconds", "Duration of a send", ["destination"], registry=registry, buckets=SECONDS
        ),
        settled=Counter(
            "hub_settled_total", "Deliveries settled by state", ["destination", "state"], registry=registry
        ),
        late=Counter(
            "hub_late_settlements_total", "Settled after the claim was lost", ["destination"], registry=registry
        ),
        source_reads=Counter("hub_source_reads_total", "Objects read from Stripe", ["reason"], registry=registry),
        deliveries=Gauge("hub_deliveries", "Open deliveries by state", ["destination", "state"], registry=registry),
        oldest=Gauge("hub_oldest_open_seconds", "Age of the oldest open delivery", ["destination"], registry=registry),
        paused=Gauge("hub_destination_paused", "1 while paused", ["destination"], registry=registry),
        circuit=Gauge("hub_circuit_open", "1 until it answers again", ["destination"], registry=registry),
        share=Gauge("hub_limit_share", "Share of its limits in use", ["destination"], registry=registry),
        quota_used=Gauge("hub_quota_used", "Calls of the vendor's quota used", ["destination"], registry=registry),
        quota_allowed=Gauge("hub_quota_allowed", "Calls the quota allows", ["destination"], registry=registry),
        swept_until=Gauge("hub_swept_until_seconds", "Unix time up to which nothing is missing", registry=registry),
        gap=Gauge("hub_gap_seconds", "Events lost beyond what Stripe lists, not backfilled yet", registry=registry),
        differences=Gauge(
            "hub_differences", "Differences in the last reconciliation", ["destination", "name"], registry=registry
        ),
        reconciled_until=Gauge(
            "hub_reconciled_until_seconds", "Unix time up to which it compared", ["destination"], registry=registry
        ),
        pruned=Counter("hub_pruned_total", "Removed by retention", ["what"], registry=registry),
        tax_differences=Counter(
            "hub_tax_differences_total",
            "Booked with another tax than the vendor's own",
            ["destination"],
            registry=registry,
        ),
        held_drafts=Gauge("hub_tax_held_drafts", "Drafts that wait for tax", registry=registry),
        held_seconds=Gauge("hub_tax_held_seconds", "How long the first of them has waited", registry=registry),
        held_money=Gauge("hub_tax_held_minor_units", "Their totals without tax", ["currency"], registry=registry),
        sweep_missing=Counter(
            "hub_sweep_missing_total", "Events no webhook had brought", ["disposition"], registry=registry
        ),
    )

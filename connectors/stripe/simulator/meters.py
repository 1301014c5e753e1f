"""Meters and their events: what customers used."""

from __future__ import annotations

from connectors.stripe.simulator.catalog import assign
from connectors.stripe.simulator.errors import refused
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.thin import emit_thin, rfc3339
from connectors.stripe.simulator.values import DAY, Obj
from connectors.stripe.simulator.world import World


def create_meter(w: World, p: Obj, _ids: list[str]) -> Obj:
    for other in w.objects["billing.meter"].values():
        if other["event_name"] == p["event_name"] and other["status"] == "active":
            raise refused(f"An active meter for `{p['event_name']}` exists: {other['id']}.", param="event_name")
    mapping, values = p.get("customer_mapping") or {}, p.get("value_settings") or {}
    meter: Obj = {
        "id": w.new_id("mtr"), "object": "billing.meter", "created": w.now,
        "customer_mapping": {"event_payload_key": mapping.get("event_payload_key", "stripe_customer_id"),
        "type": "by_id"},
        "default_aggregation": {"formula": p["default_aggregation"]["formula"]}, "display_name": p["display_name"],
        "event_name": p["event_name"], "event_time_window": None, "livemode": False, "status": "active",
        "status_transitions": {"deactivated_at": None}, "updated": w.now,
        "value_settings": {"event_payload_key": values.get("event_payload_key", "value")},
    }  # fmt: skip
    w.add("billing.meter", meter)
    w.emit("billing.meter.created", meter)
    return meter


def update_meter(w: World, p: Obj, ids: list[str]) -> Obj:
    meter = w.get("billing.meter", ids[0])
    with w.changing(meter, "billing.meter.updated"):
        assign(meter, p, "display_name")
        meter["updated"] = w.now
    return meter


def deactivate(w: World, _p: Obj, ids: list[str]) -> Obj:
    return _set_status(w, ids[0], active=False)


def reactivate(w: World, _p: Obj, ids: list[str]) -> Obj:
    return _set_status(w, ids[0], active=True)


def _set_status(w: World, meter_id: str, *, active: bool) -> Obj:
    meter = w.get("billing.meter", meter_id)
    if (meter["status"] == "active") == active:
        raise refused(f"The meter is already {meter['status']}.")
    meter["status"] = "active" if active else "inactive"
    meter["status_transitions"]["deactivated_at"] = None if active else w.now
    w.emit("billing.meter.reactivated" if active else "billing.meter.deactivated", meter)
    return meter


def list_meters(w: World, p: Obj, _ids: list[str]) -> Obj:
    return newest(w, p, "billing.meter", "status")


def create_meter_event(w: World, p: Obj, _ids: list[str]) -> Obj:
    """Answered at once, judged afterwards: a meter, customer or value that does not fit is reported by a thin event
    only. Checked at once: the identifier (unique for 24 h) and the timestamp (35 days back to 5 minutes ahead)."""
    moment = p.get("timestamp", w.now)
    if moment > w.now + 300:
        raise refused("The timestamp is in the future.", param="timestamp", code="timestamp_in_future")
    if moment < w.now - 35 * DAY:
        raise refused("The timestamp is more than 35 days ago.", param="timestamp", code="timestamp_too_far_in_past")
    identifier = p.get("identifier") or w.new_id("mev")
    if w.identifiers.get(identifier, -DAY) > w.now - DAY:
        raise refused(
            f"An event already exists with identifier {identifier}.", param="identifier", code="resource_already_exists"
        )
    w.identifiers[identifier] = w.now
    _meter(w, p["event_name"], p["payload"], identifier, moment)
    return {
        "object": "billing.meter_event", "created": w.now, "event_name": p["event_name"], "identifier": identifier,
        "livemode": False, "payload": p["payload"], "timestamp": moment,
    }  # fmt: skip


def _meter(w: World, name: str, payload: Obj, identifier: str, moment: int) -> None:
    meter = next((m for m in w.objects["billing.meter"].values() if m["event_name"] == name), None)
    if meter is None:
        emit_thin(w, "v1.billing.meter.no_meter_found", None, _report(w, "no_meter", identifier))
        return
    customer = payload.get(meter["customer_mapping"]["event_payload_key"])
    value = payload.get(meter["value_settings"]["event_payload_key"], "")
    problem = None
    if meter["status"] != "active":
        problem = "archived_meter"
    elif customer is None:
        problem = "meter_event_no_customer_defined"
    elif customer not in w.objects["customer"] or w.objects["customer"][customer].get("deleted"):
        problem = "meter_event_customer_not_found"
    elif not value.isdigit():
        problem = "meter_event_invalid_value"
    elif len(value) > 15:
        problem = "meter_event_value_too_many_digits"
    if problem is not None:
        report = _report(w, problem, identifier)
        emit_thin(w, "v1.billing.meter.error_report_triggered", ("billing.meter", meter["id"]), report)
        return
    w.usage[(meter["id"], str(customer))].append((moment, value))


def _report(w: World, code: str, identifier: str) -> Obj:
    sample = {"error_message": f"The meter event was not recorded: {code}.", "request": {"identifier": identifier}}
    return {
        "developer_message_summary": f"There is 1 invalid event: {code}.",
        "reason": {"error_count": 1, "error_types": [{"code": code, "error_count": 1, "sample_errors": [sample]}]},
        "validation_start": rfc3339(w.now - 10),
        "validation_end": rfc3339(w.now),
    }


def usage_between(w: World, meter_id: str, customer: str, start: int, end: int) -> int:
    """What the meter says for a period: the sum, the count or the last of the values, by its formula."""
    values = [int(value) for moment, value in w.usage[(meter_id, customer)] if start <= moment < end]
    formula = w.get("billing.meter", meter_id)["default_aggregation"]["formula"]
    if formula == "count":
        return len(values)
    if formula == "last":
        return values[-1] if values else 0
    return sum(values)

"""The settings that connect a hub to the simulated Salesforce, and the credentials that simulator knows."""

from __future__ import annotations

CLIENT_ID = "sandbox-salesforce-consumer-key"
CLIENT_SECRET = "sandbox-salesforce-consumer-secret"  # noqa: S105 - opens nothing but the simulator
DOMAIN = "sandbox-org.my"


def environment(base_url: str) -> dict[str, str]:
    """Variables for a hub whose simulated Salesforce is served at `base_url`, e.g. `http://127.0.0.1:9700/salesforce`."""
    return {
        "HUB_SALESFORCE_BASE_URL": base_url,
        "HUB_SALESFORCE_DOMAIN": DOMAIN,
        "HUB_SALESFORCE_CLIENT_ID": CLIENT_ID,
        "HUB_SALESFORCE_CLIENT_SECRET": CLIENT_SECRET,
    }

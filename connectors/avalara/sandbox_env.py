"""How a hub reaches the AvaTax of the sandbox. None of these values opens anything outside of it."""

from __future__ import annotations

ACCOUNT_ID = "1100000001"
LICENSE_KEY = "SANDBOX0LICENSE0KEY"
COMPANY_CODE = "HUBSANDBOX"


def environment(base_url: str) -> dict[str, str]:
    """The `HUB_AVALARA_*` variables for the simulator served at `base_url`, e.g. `http://127.0.0.1:9700/avalara`.

    The simulator has no limit, so none is kept.
    The ship-from address lies in Washington, one of the states of the simulator's tax table.
    """
    return {
        "HUB_AVALARA_ENVIRONMENT": "sandbox",
        "HUB_AVALARA_BASE_URL": base_url,
        "HUB_AVALARA_ACCOUNT_ID": ACCOUNT_ID,
        "HUB_AVALARA_LICENSE_KEY": LICENSE_KEY,
        "HUB_AVALARA_COMPANY_CODE": COMPANY_CODE,
        "HUB_AVALARA_RATE": "1000",
        "HUB_AVALARA_SHIP_FROM_LINE1": "100 Ravine Ln NE",
        "HUB_AVALARA_SHIP_FROM_CITY": "Bainbridge Island",
        "HUB_AVALARA_SHIP_FROM_REGION": "WA",
        "HUB_AVALARA_SHIP_FROM_POSTAL_CODE": "98110",
        "HUB_AVALARA_SHIP_FROM_COUNTRY": "US",
    }

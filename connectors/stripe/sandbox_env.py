"""How a hub is connected to the Stripe simulator. Light on purpose: it is imported before anything else is decided.

Key and secret are good for the simulator only; they say so themselves.
"""

from __future__ import annotations

API_KEY = "sk_test_sandbox_only_not_a_secret"
WEBHOOK_SECRET = "whsec_sandbox_only_not_a_secret"  # noqa: S105 - a constant of the sandbox, worth nothing elsewhere


def environment(base_url: str) -> dict[str, str]:
    """The `HUB_*` variables for a simulator served at `base_url` (no trailing slash)."""
    return {
        "HUB_STRIPE_API_BASE": base_url,
        "HUB_STRIPE_API_KEY": API_KEY,
        "HUB_STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
    }

"""Settings of the Stripe side: `HUB_STRIPE_*`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from hub.config import BaseUrl, VendorSettings

_KEY = re.compile(r"(?:sk|rk)_(live|test)_\w+")
_ACCOUNT = re.compile(r"acct_\w+")


class StripeSettings(VendorSettings):
    """How to read Stripe, and how to know its webhooks. All problems are reported at once."""

    model_config = SettingsConfigDict(env_prefix="HUB_STRIPE_")

    api_key: SecretStr = Field(
        default=SecretStr(""),
        description="Restricted key (rk_) with read access, or a secret key (sk_). Required.",
    )
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Signing secrets of our webhook endpoints (whsec_), comma separated: one per endpoint, and the old"
        " one beside the new one while a secret is being rolled. Required.",
    )
    api_base: BaseUrl | None = Field(
        default=None,
        description="Address instead of https://api.stripe.com: the sandbox, or a proxy on this machine.",
    )
    account: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Connected accounts (acct_) delivered too, comma separated. Empty: only the key's own account.",
    )
    livemode: bool = Field(
        default=False,
        description="Whether this hub serves live mode. Must agree with the key (sk_live_, sk_test_).",
    )
    rate: float = Field(
        default=20.0,
        gt=0,
        le=100,
        description="Most reads a second of all processes. Stripe allows 25 per endpoint, in test mode in all.",
    )
    timeout: float = Field(default=20.0, ge=1, le=80, description="Seconds one try of a read may take.")
    retries: int = Field(default=2, ge=0, le=5, description="How often Stripe's library itself repeats a failed read.")

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts of `HUB_STRIPE_ACCOUNT`, which may be several."""
        return self.account

    @field_validator("webhook_secrets", "account", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        problems = [*self._key_problems(), *self._secret_problems()]
        wrong = [account for account in self.account if not _ACCOUNT.fullmatch(account)]
        if wrong:
            problems.append(f"HUB_STRIPE_ACCOUNT has {', '.join(wrong)}; an account looks like acct_1Abc")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _key_problems(self) -> list[str]:
        key = self.api_key.get_secret_value()
        if not key:
            return ["HUB_STRIPE_API_KEY is missing: make a restricted key under Developers > API keys"]
        found = _KEY.fullmatch(key)
        if not found:
            return ["HUB_STRIPE_API_KEY is not a secret or restricted key (sk_test_, sk_live_, rk_test_, rk_live_)"]
        if (found[1] == "live") != self.livemode:
            wanted = "true" if found[1] == "live" else "false"
            return [
                f"HUB_STRIPE_API_KEY is a {found[1]} mode key: set HUB_STRIPE_LIVEMODE={wanted} or use the other key"
            ]
        return []

    def _secret_problems(self) -> list[str]:
        if not self.webhook_secrets:
            return ["HUB_STRIPE_WEBHOOK_SECRETS is missing: the endpoint's signing secret, Developers > Webhooks"]
        wrong = sum(not secret.get_secret_value().startswith("whsec_") for secret in self.webhook_secrets)
        return [f"HUB_STRIPE_WEBHOOK_SECRETS: {wrong} of them do not start with whsec_"] if wrong else []

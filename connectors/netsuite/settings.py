"""Settings of the NetSuite connector: `HUB_NETSUITE_*`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from hub.config import BaseUrl, VendorSettings

OAUTH2 = ("client_id", "certificate_id", "private_key")
TOKEN = ("consumer_key", "consumer_secret", "token_id", "token_secret")


def _account(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)?", value):
        raise ValueError(
            f"{value!r} is not an account id such as 1234567 or 1234567_SB1 (Setup > Company > Company Information)"
        )
    return value and value.upper().replace("-", "_")


class NetSuiteSettings(VendorSettings):
    """How to reach one NetSuite account, as one role. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="HUB_NETSUITE_", extra="ignore", env_ignore_empty=True)

    account: Annotated[str | None, AfterValidator(_account)] = Field(
        default=None,
        description="Account id as shown in Setup > Company > Company Information, e.g. 1234567 or 1234567_SB1.",
    )
    auth: Literal["oauth2", "token"] = Field(
        default="oauth2",
        description="oauth2: OAuth 2.0 client credentials with a certificate. token: token-based auth, ends 2027.",
    )
    client_id: str | None = Field(default=None, description="oauth2: client id of the integration record.")
    certificate_id: str | None = Field(
        default=None,
        description="oauth2: id of the certificate uploaded under OAuth 2.0 Client Credentials (M2M) Setup.",
    )
    private_key: SecretStr | None = Field(
        default=None,
        description="oauth2: the certificate's private key, PEM text (EC P-256/384/521, or RSA of 3072 bits or more).",
    )
    consumer_key: str | None = Field(default=None, description="token: consumer key of the integration record.")
    consumer_secret: SecretStr | None = Field(
        default=None, description="token: consumer secret of the integration record."
    )
    token_id: str | None = Field(default=None, description="token: id of the access token.")
    token_secret: SecretStr | None = Field(default=None, description="token: secret of the access token.")
    base_url: BaseUrl | None = Field(
        default=None,
        description="Address instead of https://<account>.suitetalk.api.netsuite.com, for a sandbox or proxy.",
    )
    concurrency: int = Field(
        default=3,
        ge=1,
        le=50,
        description="Most requests at once of all processes. The account's limit (5 on a standard one) is shared by all"
        " its integrations.",
    )
    rate: float | None = Field(
        default=None, gt=0, le=100, description="Most requests a second of all processes. NetSuite publishes no limit."
    )
    request_timeout: float = Field(
        default=120.0, gt=0, le=900, description="How long one request may take before its result counts as unknown."
    )
    unknown_wait: float = Field(
        default=900.0,
        ge=0,
        description="How long to wait before looking what became of a lost write; NetSuite stops after 15 min.",
    )

    # How documents are booked ---------------------------------------------------------------------------------------
    tax: Literal["line", "suitetax"] = Field(
        default="line",
        description="line: Stripe's tax as lines on the tax item. suitetax: as SuiteTax's details of each line.",
    )
    disable_tax_field: str = Field(
        default="",
        pattern="^(custbody_[a-z0-9_]+)?$",
        description="Field that keeps an installed tax bundle off our documents; it is sent as true. Avalara's:"
        " custbody_ava_disable_tax_calculation.",
    )
    closed_period: Literal["hold", "next_period", "redate"] = Field(
        default="hold",
        description="A date in a closed period: hold (finance decides), next_period (keep the date, post to the next"
        " open one), redate (first open day).",
    )
    write_off: Literal["none", "write_off"] = Field(
        default="none", description="An invoice marked uncollectible: none (it stays open), write_off (bad debt)."
    )
    exchange_rates: Literal["stripe", "netsuite"] = Field(
        default="stripe",
        description="Rate of payments, refunds and disputes in other currencies: Stripe's own conversion where it was"
        " into the base currency, so that payouts take all that came in; or NetSuite's table.",
    )
    service_dates: bool = Field(
        default=True,
        description="Send from when to when a line is, for revenue recognition (needs Advanced Revenue Management;"
        " without it: false).",
    )
    write_back: bool = Field(
        default=False,
        description="Note NetSuite's internal ids in the metadata of Stripe's customers, invoices, credit notes and"
        " refunds (the Stripe key must be allowed to write these).",
    )
    read_back: bool = Field(
        default=True, description="Read each document's total after the write (one GET) and compare it with Stripe's."
    )

    @model_validator(mode="after")
    def _complete(self) -> NetSuiteSettings:
        wanted = OAUTH2 if self.auth == "oauth2" else TOKEN
        missing = [name for name in ("account", *wanted) if getattr(self, name) is None]
        problems = []
        if missing:
            names = ", ".join(f"HUB_NETSUITE_{name.upper()}" for name in missing)
            problems.append(f"missing for HUB_NETSUITE_AUTH={self.auth}: {names}")
        if self.auth == "oauth2" and self.private_key is not None:
            problems += _key_problems(self.private_pem)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def private_pem(self) -> str:
        """The private key; a `\\n` written out, as some secret stores do, is a line break."""
        return self.private_key.get_secret_value().replace("\\n", "\n") if self.private_key else ""


def _key_problems(pem: str) -> list[str]:
    from connectors.netsuite.auth import algorithm_of

    try:
        algorithm_of(pem)
    except ValueError as error:
        return [f"HUB_NETSUITE_PRIVATE_KEY: {error}"]
    return []

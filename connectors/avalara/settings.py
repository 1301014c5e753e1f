"""Settings of the AvaTax connection: `HUB_AVALARA_*`. Checked together, every problem in one error."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from hub.config import BaseUrl, VendorSettings

_HOSTS = {"sandbox": "https://sandbox-rest.avatax.com", "production": "https://rest.avatax.com"}


def _given(value: Any) -> Any:
    secret = value.get_secret_value() if isinstance(value, SecretStr) else value
    if secret in (None, ""):
        raise ValueError("is missing")
    return value


def _url_safe(value: str) -> str:
    """AvaTax's library puts codes into addresses unquoted."""
    if any(c in value for c in "/+?%# ") or len(value) > 25:
        raise ValueError("must be at most 25 characters without / + ? % # or space")
    return value


Required = BeforeValidator(_given)


class Situation(VendorSettings):
    """Who decides the tax: the one AvaTax setting that the whole hub must know."""

    model_config = SettingsConfigDict(env_prefix="HUB_AVALARA_")

    tax: Literal["record", "calculate"] = Field(
        "record",
        description="record: Stripe decides the tax, AvaTax keeps the books of it. calculate: AvaTax decides, the hub "
        "writes its tax on every draft (HUB_STRIPE_API_KEY must be allowed to write invoices).",
    )


class AvalaraSettings(Situation):
    """One AvaTax account and company. Use separate hubs for test and live mode: they are different AvaTax accounts.

    The mappings read `settings.avalara_commit_on` and `settings.avalara_ship_from_*`.
    """

    model_config = SettingsConfigDict(env_prefix="HUB_AVALARA_")

    environment: Annotated[Literal["sandbox", "production"], Required] = Field(
        cast("Any", ""),  # missing is reported by name; there is no safe default
        description="Which AvaTax: sandbox or production. Required; anything else is refused.",
    )
    account_id: Annotated[str, Required] = Field("", description="AvaTax account number. Required.")
    license_key: Annotated[SecretStr, Required] = Field(SecretStr(""), description="AvaTax license key. Required.")
    company_code: Annotated[str, Required, AfterValidator(_url_safe)] = Field(
        "", description="Code of the AvaTax company the documents belong to. Required."
    )
    base_url: BaseUrl | None = Field(
        None,
        description="Address instead of Avalara's own, for a proxy or a test double. Empty: chosen by environment.",
    )
    commit_on: Literal["finalized", "paid"] = Field(
        "finalized", description="When a document is committed, i.e. reported: when the invoice is finalized, or paid."
    )
    uncollectible: Literal["none", "void", "bad_debt"] = Field(
        "none",
        description="What an uncollectible invoice does to its document: none; void (undone if it is paid after all); "
        "or bad_debt, a ReturnInvoice over what was open (voided if it is paid).",
    )
    rate: float | None = Field(
        10.0, gt=0, le=1000, description="Most calls a second of all processes. Avalara publishes no number: a guess."
    )
    unknown_wait: float = Field(
        60.0, ge=1, le=3600, description="Seconds after a lost reply before AvaTax is asked what became of the call."
    )
    connect_timeout: float = Field(3.05, gt=0, le=60, description="Seconds to reach AvaTax.")
    read_timeout: float = Field(20.0, gt=0, le=120, description="Seconds to wait for AvaTax's answer.")
    ship_from_line1: str = Field("", max_length=50, description="Street your sales come from.")
    ship_from_city: str = Field("", max_length=50, description="City your sales come from.")
    ship_from_region: str = Field("", description="State or province your sales come from, e.g. WA.")
    ship_from_postal_code: str = Field("", max_length=11, description="Postal code your sales come from.")
    ship_from_country: Annotated[str, Required] = Field(
        "", description="Country your sales come from, two letters (ISO 3166). Required."
    )

    @field_validator("ship_from_country")
    @classmethod
    def _place(cls, country: str, info: ValidationInfo) -> str:
        """What AvaTax needs of an origin in the US: line1 + postal code, city + region, or region + postal code."""
        line, city, region, postal = (
            info.data.get(f"ship_from_{name}") for name in ("line1", "city", "region", "postal_code")
        )
        country = country.upper()
        if len(country) != 2 or not country.isalpha():
            raise ValueError("is not a two-letter country code, e.g. US")
        if country == "US" and not ((line and postal) or (city and region) or (region and postal)):
            raise ValueError(
                "the address is too vague for the US: give HUB_AVALARA_SHIP_FROM_REGION and "
                "HUB_AVALARA_SHIP_FROM_POSTAL_CODE (and _LINE1 and _CITY if you can)"
            )
        return country

    @property
    def address(self) -> str:
        """The library takes a wrong environment name for production, so it is given an address instead of a name."""
        return self.base_url or _HOSTS[self.environment]

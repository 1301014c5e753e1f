"""Settings of the Salesforce connector: `HUB_SALESFORCE_*`."""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from hub.config import BaseUrl, VendorSettings

_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9-]+)*")


class SalesforceSettings(VendorSettings):
    """How to reach one Salesforce org. Two ways to sign in, both without a person:

    client credentials   `CLIENT_ID`, `CLIENT_SECRET`
    JWT bearer           `CLIENT_ID`, `USERNAME` and one of `PRIVATE_KEY`, `PRIVATE_KEY_FILE`

    User name and password are not offered: Salesforce retires SOAP `login()` and withdraws the OAuth password flow.
    """

    # A validation message must never quote the secrets it was given.
    model_config = SettingsConfigDict(env_prefix="HUB_SALESFORCE_", hide_input_in_errors=True)

    domain: str = Field(
        default="",
        description="My Domain of the org without `.salesforce.com`, e.g. `acme.my` or `acme--uat.sandbox.my`",
    )
    client_id: str = Field(default="", description="Consumer key of the External Client App")
    client_secret: SecretStr | None = Field(default=None, description="Consumer secret (client credentials flow)")
    username: str | None = Field(default=None, description="User name of the integration user (JWT bearer flow)")
    private_key: SecretStr | None = Field(default=None, description="RSA private key as PEM text (JWT bearer flow)")
    private_key_file: Path | None = Field(default=None, description="... or the file that holds it")
    audience: str | None = Field(
        default=None,
        pattern="^(login|test)$",
        description="JWT audience: `login` (production) or `test` (sandbox). Default: by the domain",
    )
    api_version: str = Field(default="67.0", pattern=r"^\d{2,3}\.0$", description="REST API version, 46.0 or newer")
    base_url: BaseUrl | None = Field(
        default=None, description="Send every call there instead (sandbox, proxy); plain http only to this machine"
    )
    connect_timeout: float = Field(default=5.0, gt=0, le=60, description="Seconds to wait for a connection")
    timeout: float = Field(default=40.0, gt=0, le=600, description="Seconds to wait for Salesforce within one call")
    unknown_wait: float = Field(
        default=30.0, ge=0, description="Seconds after a lost reply until the hub looks what became of the write"
    )
    lease: float = Field(default=120.0, ge=1, description="Seconds one round of writing may take")
    slots: int = Field(default=2, ge=1, le=10, description="Rounds of writing at once in one worker process")
    batch: int = Field(default=200, ge=1, le=200, description="Most deliveries written in one round")
    rate: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Most calls a second of all processes. Salesforce names no such limit.",
    )
    daily_reserve: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of the org's calls in 24 hours that is left to others: beyond it the hub waits. 0: none.",
    )
    allow_duplicates: bool = Field(
        default=False,
        description="Save although a duplicate rule with the action Alert matches (administrator's choice)",
    )

    @model_validator(mode="after")
    def _complete(self) -> SalesforceSettings:
        problems = [*self._address_problems(), *self._sign_in_problems()]
        if int(self.api_version.split(".")[0]) < 46:
            problems.append("HUB_SALESFORCE_API_VERSION must be 46.0 or newer: collection upserts begin there")
        if self.lease <= self.longest_call():
            problems.append(
                "HUB_SALESFORCE_LEASE must be more than HUB_SALESFORCE_TIMEOUT and twice HUB_SALESFORCE_CONNECT_TIMEOUT"
                " together: one call has to fit into it"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def longest_call(self) -> float:
        """Seconds one call may take, connecting to sign in included."""
        return self.timeout + 2 * self.connect_timeout

    def _address_problems(self) -> list[str]:
        if not self.domain:
            return ["HUB_SALESFORCE_DOMAIN is missing: the org's My Domain, e.g. acme.my"]
        if not _DOMAIN.fullmatch(self.domain) or self.domain.endswith("salesforce.com"):
            return ["HUB_SALESFORCE_DOMAIN is the part before .salesforce.com, in lower case, e.g. acme.my"]
        if self.client_secret is not None and self.domain in ("login", "test"):
            return [
                "HUB_SALESFORCE_DOMAIN must be the My Domain for client credentials: Salesforce refuses login, test"
            ]
        return []

    def _sign_in_problems(self) -> list[str]:
        problems = [] if self.client_id else ["HUB_SALESFORCE_CLIENT_ID is missing: the consumer key"]
        keys = [key for key in (self.private_key, self.private_key_file) if key is not None]
        if self.client_secret is None and not keys:
            problems.append(
                "no way to sign in: set HUB_SALESFORCE_CLIENT_SECRET, or HUB_SALESFORCE_USERNAME with"
                " HUB_SALESFORCE_PRIVATE_KEY or HUB_SALESFORCE_PRIVATE_KEY_FILE"
            )
        elif self.client_secret is not None and keys:
            problems.append("set either HUB_SALESFORCE_CLIENT_SECRET or a private key, not both")
        elif len(keys) > 1:
            problems.append("set either HUB_SALESFORCE_PRIVATE_KEY or HUB_SALESFORCE_PRIVATE_KEY_FILE, not both")
        elif keys:
            if not self.username:
                problems.append("HUB_SALESFORCE_USERNAME is missing: a private key signs in as that user")
            problems += self._key_problems()
        return problems

    def _key_problems(self) -> list[str]:
        try:
            key = load_pem_private_key(self.private_key_pem().encode(), password=None)
        except OSError as error:
            return [f"HUB_SALESFORCE_PRIVATE_KEY_FILE cannot be read: {error.strerror}"]
        except (ValueError, TypeError):  # TypeError: the key is encrypted
            return ["the Salesforce private key is not an unencrypted PEM key"]
        return (
            [] if isinstance(key, RSAPrivateKey) else ["the Salesforce private key must be RSA: the flow signs RS256"]
        )

    def private_key_pem(self) -> str:
        """The private key's text, from whichever setting holds it."""
        if self.private_key is not None:
            return self.private_key.get_secret_value()
        assert self.private_key_file is not None
        return self.private_key_file.read_text(encoding="utf-8")

    def jwt_audience(self) -> str:
        """`login` or `test`: which authorization server the JWT is meant for."""
        return self.audience or ("test" if self.domain == "test" or ".sandbox" in self.domain else "login")
